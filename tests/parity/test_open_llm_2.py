"""`open-llm --version 2` run whole, against lm-eval's own leaderboard tasks on its own `hf` model: the same rows.

The data sets are small ones of ours, which lm-eval finds under their own names in the working directory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from lm_eval_data_2 import write_data_2
from terse_model import REPLY, make_terse_model
from typer.testing import CliRunner

from zephyr_bench.benchmarks import open_benchmark, punkt
from zephyr_bench.benchmarks.lm_eval_chance import repeatable_language_detection
from zephyr_bench.cli import app
from zephyr_bench.records import SampleScore
from zephyr_bench.store import Store

LIMIT = 2
SEED = 4  # each of the six scores is above chance: none stands at 0 whatever is done to it
pytestmark = pytest.mark.slow  # 39 tasks, by two models
# what lm-eval is told to run, a run each: the tasks of one run share its chance, which GPQA and IFEval draw from
THEIR_RUNS = [
    ["leaderboard_bbh", "leaderboard_math_hard", "leaderboard_musr", "leaderboard_mmlu_pro"],
    ["leaderboard_gpqa_diamond"],
    ["leaderboard_gpqa_extended"],
    ["leaderboard_gpqa_main"],
    ["leaderboard_ifeval"],
]
METRICS = {
    "ifeval": ("prompt_level_strict_acc", "inst_level_strict_acc"),
    "bbh": ("acc_norm",),
    "math": ("exact_match",),
    "gpqa": ("acc_norm",),
    "musr": ("acc_norm",),
    "mmlu": ("acc",),
}
# how many answers there are to choose from, by a part of the task's name: the leaderboard's "Scores Normalization"
CHOICES = {
    2: "sports navigate snarks web hyperbaton causal formal boolean murder",
    3: "objects_three deduction_three disambiguation team",
    4: "temporal gpqa",
    5: "objects_five deduction_five penguins placements",
    6: "date movie salient ruin",
    7: "objects_seven deduction_seven",
    10: "mmlu_pro",
    11: "geometric",
    18: "colored",
    19: "counting",
}


Rows = Mapping[str, list[dict[str, Any]]]  # by task, as lm-eval logs them


@dataclass(frozen=True)
class Ours:
    """What our command printed, by metric, and the rows behind it, which its engine answered as lm-eval's model."""

    store: str
    run: str
    printed: Mapping[str, float]
    rows: Rows


@dataclass(frozen=True)
class Theirs:
    """What lm-eval makes of the same rows by its own model."""

    results: Mapping[str, Mapping[str, float]]
    rows: Rows

    def leaf(self, name: str, metric: str) -> float:
        return self.results[name][f"{metric},none"]

    def leaves(self, part: str) -> list[str]:
        return [name for name in self.rows if name.startswith(f"leaderboard_{part}")]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """With the model, and the data sets in the working directory."""
    import datasets

    if lacking := open_benchmark("open-llm-2").missing():
        pytest.skip("; ".join(lacking))
    folder = tmp_path_factory.mktemp("version-2")
    make_terse_model(folder / "terse", max_length=6144, seed=SEED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "our-cache"))
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "their-cache")
        patch.chdir(write_data_2(folder / "data"))
        yield folder


@pytest.fixture(scope="module")
def ours(home: Path) -> Ours:
    return by_our_command(home)


@pytest.fixture(scope="module")
def theirs(home: Path) -> Theirs:
    return by_lm_eval(home, THEIR_RUNS, chat=True)


def by_our_command(home: Path, *more: str) -> Ours:
    import lm_eval.evaluator

    rows: dict[str, Any] = {}
    evaluate = lm_eval.evaluator.evaluate

    def kept(*arguments: Any, **options: Any) -> Any:
        found = evaluate(*arguments, **options)
        rows.update(found["samples"])
        return found

    store = f"sqlite:///{home}/store.db"
    words = ["open-llm", "--version", "2", "--model", str(home / "terse"), "--data", ".", "--limit", str(LIMIT)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lm_eval.evaluator, "evaluate", kept)
        records = json.loads(command(*words, "--device", "cpu", "--format", "json", *more, store=store))
    return Ours(store, records[0]["run"], {record["metric"]: record["value"] for record in records}, rows)


def by_lm_eval(home: Path, runs: Sequence[Sequence[str]], *, chat: bool) -> Theirs:
    import lm_eval.tasks
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    punkt.let_nltk_find_it()
    repeatable_language_detection()
    folder = Path(lm_eval.tasks.__file__).parent / "leaderboard"
    manager = lm_eval.tasks.TaskManager(include_path=str(folder), include_defaults=False)
    lm = HFLM(pretrained=str(home / "terse"), device="cpu", dtype="float32", batch_size=1)
    results, rows = {}, {}
    for names in runs:
        found = simple_evaluate(
            model=lm,
            tasks=list(names),
            task_manager=manager,
            limit=LIMIT,
            bootstrap_iters=0,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
        )
        assert found is not None
        results |= found["results"]
        rows |= found["samples"]
    return Theirs(results, rows)


def command(*words: str, store: str) -> str:
    done = CliRunner().invoke(app, [*words, "--store", store])
    assert done.exit_code == 0, done.exception
    return done.stdout


def test_every_prompt_of_version_2_and_what_is_right_are_lm_evals(ours: Ours, theirs: Theirs) -> None:
    assert len(theirs.rows) == 1 + 24 + 7 + 3 + 3 + 1
    assert asked(ours.rows) == asked(theirs.rows)


def test_every_row_of_version_2_scores_as_on_lm_evals_own_model(ours: Ours, theirs: Theirs) -> None:
    with Store(ours.store) as store:
        samples = store.samples_of(ours.run)
    for part, metrics in METRICS.items():
        for leaf in theirs.leaves(part):
            for metric in metrics:
                found = by_row([s for s in samples if s.category == leaf and s.metric == metric])
                assert found == {f"{leaf}/{row['doc_id']}": flat(row[metric]) for row in theirs.rows[leaf]}, leaf
                values = [value for row in found.values() for value in row]
                assert mean(values) == pytest.approx(theirs.leaf(leaf, metric), abs=1e-9)


def test_replies_are_those_of_lm_evals_own_model(ours: Ours, theirs: Theirs) -> None:
    with Store(ours.store) as store:
        replies = {answer.question: answer.text for answer in store.answers_of(ours.run)}
    written = [*theirs.leaves("ifeval"), *theirs.leaves("math")]
    assert replies == {f"{leaf}/{row['doc_id']}": row["resps"][0][0] for leaf in written for row in theirs.rows[leaf]}
    assert set(replies.values()) == {REPLY}


def test_version_2_averages_six_normalised_scores(ours: Ours, theirs: Theirs) -> None:
    strict = [theirs.leaf("leaderboard_ifeval", metric) for metric in METRICS["ifeval"]]
    expected = {
        "leaderboard_ifeval": 100 * mean(strict),
        "leaderboard_bbh": mean(from_chance(theirs, leaf, "acc_norm") for leaf in theirs.leaves("bbh")),
        "leaderboard_math_hard": mean(100 * theirs.leaf(leaf, "exact_match") for leaf in theirs.leaves("math")),
        "leaderboard_gpqa": mean(from_chance(theirs, leaf, "acc_norm") for leaf in theirs.leaves("gpqa")),
        "leaderboard_musr": mean(from_chance(theirs, leaf, "acc_norm") for leaf in theirs.leaves("musr")),
        "leaderboard_mmlu_pro": from_chance(theirs, "leaderboard_mmlu_pro", "acc"),
    }
    assert ours.printed == pytest.approx({"average": mean(expected.values()), **expected}, abs=1e-9)
    assert all(0 < value < 100 for value in ours.printed.values())  # none that would hide a mistake


def test_without_the_chat_template_prompts_and_scores_are_lm_evals(home: Path) -> None:
    names = ["leaderboard_musr", "leaderboard_mmlu_pro", "leaderboard_bbh_navigate"]
    plain = by_our_command(home, "--tasks", ",".join(names), "--no-chat-template")
    expected = by_lm_eval(home, [names], chat=False)
    assert "<|im_start|>" not in str(asked(plain.rows))
    assert asked(plain.rows) == asked(expected.rows)
    musr = mean(from_chance(expected, leaf, "acc_norm") for leaf in expected.leaves("musr"))
    assert plain.printed["leaderboard_musr"] == pytest.approx(musr, abs=1e-9)
    mmlu_pro = from_chance(expected, "leaderboard_mmlu_pro", "acc")
    assert plain.printed["leaderboard_mmlu_pro"] == pytest.approx(mmlu_pro, abs=1e-9)


def test_its_export_has_lm_evals_numbers_and_stands_in_lm_evals_table(
    ours: Ours, theirs: Theirs, tmp_path: Path
) -> None:
    from lm_eval.utils import make_table

    command("export", "lm-eval", ours.run, "-o", str(tmp_path), store=ours.store)
    (file,) = tmp_path.glob("terse/results_*.json")
    written = json.loads(file.read_text())
    for part, (metric, *_) in METRICS.items():
        names = [name for name in theirs.results if name.startswith(f"leaderboard_{part}")]  # groups among them
        found = {name: written["results"][name][f"{metric},none"] for name in names}
        assert found == pytest.approx({name: theirs.leaf(name, metric) for name in names}, abs=1e-9)
    assert all(name in make_table(written) for name in theirs.rows)
    moment = file.stem.removeprefix("results_")
    for leaf in theirs.rows:
        rows = (tmp_path / f"terse/samples_{leaf}_{moment}.jsonl").read_text().splitlines()
        assert [json.loads(row)["doc_id"] for row in rows] == list(range(LIMIT))


def test_its_export_comes_back_with_the_same_scores(ours: Ours, tmp_path: Path) -> None:
    command("export", "lm-eval", ours.run, "-o", str(tmp_path), store=ours.store)
    files = [str(file) for file in sorted(tmp_path.glob("terse/*"))]
    other = f"sqlite:///{tmp_path}/other.db"
    command("import", "lm-eval", *files, store=other)
    with Store(other) as store, Store(ours.store) as before:
        (run,) = store.runs()
        assert run.benchmark == "open-llm-2"
        assert store.scores_of([run.id])[run.id] == before.scores_of([ours.run])[ours.run]


def asked(rows: Rows) -> dict[str, Any]:
    return {leaf: [(row["doc_id"], row["arguments"], row["target"]) for row in of_it] for leaf, of_it in rows.items()}


def from_chance(theirs: Theirs, leaf: str, metric: str) -> float:
    (choices,) = (number for number, parts in CHOICES.items() if any(part in leaf for part in parts.split()))
    share, bound = theirs.leaf(leaf, metric), 1 / choices
    return 0.0 if share < bound else 100 * (share - bound) / (1 - bound)


def by_row(samples: list[SampleScore]) -> dict[str, list[float | None]]:
    found: dict[str, list[float | None]] = {}
    for sample in sorted(samples, key=lambda sample: sample.turn):
        found.setdefault(sample.question, []).append(sample.value)
    return found


def flat(value: Any) -> list[float]:
    return [float(part) for part in (value if isinstance(value, list) else [value])]
