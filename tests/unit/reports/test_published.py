"""Published figures: those we ship, and mistakes in a file of the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from zephyr_bench.errors import UserError
from zephyr_bench.reports.published import load_published

GOOD = """source: A paper
url: https://example.org
year: 2024
tables:
  - where: Table 1
    benchmark: mt-bench
    metric: score
    figures:
      - {model: a, value: 5.0}
      - {model: b, value: 6.0}
"""


def write(folder: Path, text: str) -> Path:
    place = folder / "reports" / "published"
    place.mkdir(parents=True)
    (place / "mine.yaml").write_text(text)
    return folder


def ours() -> dict[tuple[str, str, str, str], float]:
    return {
        (
            source.source.split(",")[0],
            figure.model,
            table.benchmark,
            figure.metric or table.metric or "",
        ): figure.value
        for source in load_published()
        for table in source.tables
        for figure in table.figures
    }


@pytest.mark.parametrize(
    ("model", "benchmark", "metric", "value"),
    [
        ("zephyr-7b-beta", "mt-bench", "score", 7.34),
        ("zephyr-7b-beta", "alpaca-eval-1", "win-rate", 90.60),
        ("gpt-4", "mt-bench", "score", 8.99),
        ("zephyr-7b-beta", "open-llm-1", "arc_challenge", 62.03),
        ("zephyr-7b-beta", "open-llm-1", "truthfulqa_mc2", 57.44),
        ("xwin-lm-70b-v0.1", "open-llm-1", "mmlu", 69.77),
        ("zephyr-ddpo-without-dsft", "alpaca-eval-1", "win-rate", 30.76),
        ("zephyr-dsft-ddpo-1-epoch", "mt-bench", "score", 7.00),
    ],
)
def test_the_papers_figures_are_as_printed(model: str, benchmark: str, metric: str, value: float) -> None:
    assert ours()["Tunstall et al. 2023", model, benchmark, metric] == value


def test_each_of_the_papers_tables_is_whole() -> None:
    paper = [key for key in ours() if key[0] == "Tunstall et al. 2023"]
    assert len(paper) == 23 + 44 + 8


def test_figures_under_our_own_benchmarks_use_their_metrics() -> None:
    known = {
        "mt-bench": {"score"},
        "alpaca-eval-1": {"win-rate", "avg-length"},
        "alpaca-eval-2": {"win-rate", "lc-win-rate"},
        "open-llm-1": {"arc_challenge", "hellaswag", "mmlu", "truthfulqa_mc2", "winogrande", "gsm8k"},
    }
    for _, _, benchmark, metric in ours():
        assert metric in known.get(benchmark, {metric})


def test_a_folder_of_the_users_adds_its_sources(tmp_path: Path) -> None:
    found = load_published([write(tmp_path, GOOD)])
    assert "A paper" in [source.source for source in found]
    assert len(found) == len(load_published()) + 1


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("{model: b, value: 6.0}", "{model: b, valeu: 6.0}", "line 10"),
        ("{model: b, value: 6.0}", "{model: b, value: high}", "line 10: tables.0.figures.1.value"),
        ("{model: b, value: 6.0}", "{model: b, value: .nan}", "line 10: tables.0.figures.1.value"),
        ("{model: b, value: 6.0}", "{model: a, value: 6.0}", "line 5.*score of a stands twice"),
        ("    metric: score\n", "", "line 5.*the figure of a names no metric"),
        ("    benchmark: mt-bench\n", "", "line 5: key 'benchmark' is missing in tables.0"),
        ("year: 2024", "year: soon", "line 3: year"),
        ("url: https://", "url: javascript:", "line 2: url: expected a link"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(tmp_path: Path, old: str, new: str, told: str) -> None:
    with pytest.raises(UserError, match=f"(?s)mine.yaml {told}"):
        load_published([write(tmp_path, GOOD.replace(old, new))])
