"""Which metric is gated by which margin: option before recipe before the benchmark's YAML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from zephyr_bench import catalogue
from zephyr_bench.errors import UserError
from zephyr_bench.recipe import Recipe, load_recipe
from zephyr_bench.reports.gate_margins import Chosen, Margin, read_margins


def chosen(benchmark: str, *margins: str, metrics: Sequence[str] = (), recipe: Recipe | None = None) -> Chosen:
    return read_margins(margins, metrics, recipe).of(benchmark)


@pytest.mark.parametrize(
    ("benchmark", "metric", "margin"),
    [("mt-bench", "score", 0.1), ("alpaca-eval-1", "win-rate", 1.0), ("open-llm-1", "average", 0.5)],
)
def test_without_options_the_benchmark_says_metric_and_margin(benchmark: str, metric: str, margin: float) -> None:
    assert chosen(benchmark) == Chosen(metric, Margin(margin, f"benchmark {benchmark}"))


def test_option_goes_before_recipe_and_recipe_before_benchmark(make_recipe: Callable[..., Recipe]) -> None:
    recipe = make_recipe(gate={"margins": {"mt-bench": 0.2}})
    assert chosen("mt-bench", recipe=recipe).margin == Margin(0.2, "recipe tiny")
    assert chosen("alpaca-eval-1", recipe=recipe).margin == Margin(1.0, "benchmark alpaca-eval-1")
    assert chosen("mt-bench", "0.3", recipe=recipe).margin == Margin(0.3, "--margin")
    assert chosen("mt-bench", "0.3", "mt-bench=0", recipe=recipe).margin == Margin(0.0, "--margin")
    assert chosen("alpaca-eval-1", "0.3", "mt-bench=0").margin == Margin(0.3, "--margin")


def test_a_recipes_margins_are_checked(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gate\.margins\.mt-bench"):
        make_recipe(gate={"margins": {"mt-bench": -0.2}})
    with pytest.raises(UserError, match="unknown key 'margin'"):
        make_recipe(gate={"margin": {"mt-bench": 0.2}})


def test_a_recipes_margin_of_no_benchmark_is_a_mistake(make_recipe: Callable[..., Recipe]) -> None:
    recipe = make_recipe(gate={"margins": {"alpaca_eval_2": 5, "mine": 1, "open-llm-1": 1}})
    with pytest.raises(UserError, match=r"recipe tiny: gate\.margins\.alpaca_eval_2: .* Did you mean alpaca-eval-2"):
        read_margins([], [], recipe).check_recipe(["mine"])
    read_margins([], [], make_recipe(gate={"margins": {"mine": 1, "open-llm-1": 1}})).check_recipe(["mine"])
    with pytest.raises(UserError, match=r"gate\.margins\.mine"):
        read_margins([], [], make_recipe(gate={"margins": {"mine": 1}})).check_recipe(["mt-bench"])


def test_one_margin_for_several_units_is_a_mistake() -> None:
    with pytest.raises(UserError, match=r"alpaca-eval-2 \(per cent\), mt-bench \(points of 10\).*--margin BENCHMARK=M"):
        read_margins(["0.3"], []).check_units(["mt-bench", "alpaca-eval-2"])
    read_margins(["0.3", "mt-bench=0.1"], []).check_units(["mt-bench", "alpaca-eval-2"])
    read_margins(["0.3"], []).check_units(["mt-bench-pairwise", "alpaca-eval-2", "open-llm-1"])
    read_margins(["0.3"], []).check_units(["mt-bench", "mt-bench-mini", "mine"])


def test_a_recipe_of_the_catalogue_takes_margins() -> None:
    recipe = load_recipe("smol", overrides=["gate={margins: {mt-bench-mini: 0.5}}"])
    assert chosen("mt-bench-mini", recipe=recipe).margin == Margin(0.5, "recipe smol")


def test_a_benchmark_of_no_catalogue_needs_a_margin() -> None:
    with pytest.raises(UserError, match=r"benchmark mine is not in the catalogue.*--margin mine=M.*--include"):
        chosen("mine")
    assert chosen("mine", "mine=2") == Chosen(None, Margin(2.0, "--margin"))


def test_a_benchmark_of_the_users_own_has_its_yamls_margin(tmp_path: Path) -> None:
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    yaml = (catalogue.root() / "benchmarks" / "mt-bench.yaml").read_text(encoding="utf-8")
    (folder / "ours.yaml").write_text(yaml.replace("margin: 0.1", "margin: 0.4"), encoding="utf-8")
    (folder / "bare.yaml").write_text(yaml.replace("margin: 0.1", "#"), encoding="utf-8")
    margins = read_margins([], [], include=[tmp_path])
    assert margins.of("ours") == Chosen("score", Margin(0.4, "benchmark ours"))
    with pytest.raises(UserError, match="benchmark bare has no margin in its YAML"):
        margins.of("bare")


def test_another_metric_needs_a_margin_in_its_own_units() -> None:
    with pytest.raises(UserError, match=r"--metric alpaca-eval-1=lc-win-rate: the margins .* are for win-rate"):
        chosen("alpaca-eval-1", metrics=["alpaca-eval-1=lc-win-rate"])
    found = chosen("alpaca-eval-1", "alpaca-eval-1=2", metrics=["alpaca-eval-1=lc-win-rate"])
    assert found == Chosen("lc-win-rate", Margin(2.0, "--margin"))
    assert chosen("mt-bench", metrics=["mt-bench=score"]).margin.value == 0.1


@pytest.mark.parametrize("word", ["-1", "much", "1_0", "nan", "inf", "mt-bench=", "mt-bench=-0.1", "=1", ""])
def test_a_margin_that_is_none_is_a_mistake(word: str) -> None:
    with pytest.raises(UserError, match="--margin"):
        read_margins([word], [])


@pytest.mark.parametrize("words", [["1", "2"], ["mt-bench=1", "mt-bench=2"]])
def test_two_margins_for_one_thing_are_a_mistake(words: list[str]) -> None:
    with pytest.raises(UserError, match="--margin"):
        read_margins(words, [])


@pytest.mark.parametrize("words", [["score"], ["=score"], ["mt-bench="], ["mt-bench=a", "mt-bench=b"]])
def test_a_metric_without_its_benchmark_is_a_mistake(words: list[str]) -> None:
    with pytest.raises(UserError, match=r"--metric .*: expected BENCHMARK=METRIC"):
        read_margins([], words)


def test_an_option_for_what_is_not_gated_is_a_mistake() -> None:
    with pytest.raises(UserError, match=r"--margin mt-bensh=….*Did you mean mt-bench"):
        read_margins(["mt-bensh=1"], []).check(["mt-bench"])
    with pytest.raises(UserError, match=r"--metric open-llm-1=…"):
        read_margins([], ["open-llm-1=average"]).check(["mt-bench"])
