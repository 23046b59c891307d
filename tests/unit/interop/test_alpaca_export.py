"""Runs as alpaca_eval's files: what is written, under which names, and what is left alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from alpaca_eval_rows import annotation, output, put_rows, read

from zephyr_bench.benchmarks.alpaca_eval import no_length_control
from zephyr_bench.benchmarks.alpaca_scores import pair_facts, preference_sample
from zephyr_bench.benchmarks.one_order import Pair
from zephyr_bench.benchmarks.pairing import PairVerdict
from zephyr_bench.errors import UserError
from zephyr_bench.interop.alpaca_export import export_alpaca_eval
from zephyr_bench.records import Answer, Judgment, Match, Question
from zephyr_bench.store import RunStart, Store


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def pair(number: int, own: str, other: str = "blue", *, model: str = "org/m", baseline: str = "base") -> Pair:
    question = Question(f"q{number}", "colours", (f"Which colour has {number}?",))
    return Pair(
        question,
        Answer(f"sha256:{model}{own}{number}", model, question.id, 1, own),
        Answer(f"sha256:{baseline}{other}{number}", baseline, question.id, 1, other),
    )


def judged(pair: Pair, score: float | None, *, model_first: bool, cost: float | None = None) -> tuple[Match, Judgment]:
    sides = (pair.answer,), (pair.baseline,)
    match = Match(pair.question, 1, *(sides if model_first else sides[::-1]))
    reply = f"{pair.question.id}, model {'first' if model_first else 'second'}"
    return match, Judgment(
        match.key("sha256:r"), "rubric", score, None if score is not None else "?", reply, None, None, cost
    )


def own_run(
    store: Store,
    verdicts: Sequence[tuple[Pair, float | None]],
    judgments: Sequence[tuple[Match, Judgment]] = (),
    *,
    benchmark: str = "alpaca-eval-mini",
    protocol: dict[str, object] | None = None,
) -> str:
    """As AlpacaEval writes one: lengths first, preferences as they come, the last first here."""
    pairs = [pair for pair, _ in verdicts]
    model = pairs[0].answer.model
    store.put_model(fingerprint=f"sha256:{model}", name=model, location="here")
    start = RunStart(benchmark, model, f"sha256:{model}", f"sha256:{model}", "rubric", "sha256:r", protocol or {})
    run = store.start_run(start)
    run.add_answers((each.question, answer) for each in pairs for answer in (each.answer, each.baseline))
    run.add_judgments(judgments)
    run.add_samples([no_length_control("no difficulties"), *pair_facts(pairs)])
    run.add_samples(preference_sample(each, PairVerdict(value, None)) for each, value in reversed(verdicts))
    run.finish("complete", [])
    return run.id


def test_a_run_made_here_has_alpaca_evals_fields(store: Store, tmp_path: Path) -> None:
    one, two, three = pair(1, "red"), pair(2, "green"), pair(3, "grey")
    judgments = [
        judged(one, 0.0, model_first=False, cost=0.25),
        judged(two, 0.75, model_first=True),
        judged(three, None, model_first=True),
    ]
    run = own_run(store, [(one, 1.0), (two, 0.75), (three, None)], judgments)
    written = export_alpaca_eval(store, [run], tmp_path / "out")
    assert {path.relative_to(tmp_path / "out").as_posix(): rows for path, rows in written.items()} == {
        "org%2Fm/model_outputs.json": 3,
        "org%2Fm/rubric/annotations.json": 3,
        "reference_outputs.json": 3,
    }
    rows = read(tmp_path / "out" / "org%2Fm" / "rubric" / "annotations.json")
    assert rows[0] == {
        "instruction": "Which colour has 1?",
        "output_1": "blue",
        "generator_1": "base",
        "dataset": "colours",
        "output_2": "red",
        "generator_2": "org/m",
        "annotator": "rubric",
        "preference": 2.0,
        "price_per_example": 0.25,
        "raw_completion": "q1, model second",
    }
    assert [row["preference"] for row in rows] == [2.0, 1.75, None]
    outputs = read(tmp_path / "out" / "org%2Fm" / "model_outputs.json")
    assert outputs[1] == {
        "dataset": "colours",
        "instruction": "Which colour has 2?",
        "output": "green",
        "generator": "org/m",
    }
    reference = read(tmp_path / "out" / "reference_outputs.json")
    assert [(row["output"], row["generator"]) for row in reference] == [("blue", "base")] * 3


def test_both_orders_are_a_row_with_both_replies_and_their_mean(store: Store, tmp_path: Path) -> None:
    one = pair(1, "red")
    judgments = [judged(one, 0.25, model_first=True), judged(one, 0.5, model_first=False)]
    run = own_run(store, [(one, 0.375)], judgments)
    export_alpaca_eval(store, [run], tmp_path / "out")
    (row,) = read(tmp_path / "out" / "org%2Fm" / "rubric" / "annotations.json")
    assert (row["preference"], row["raw_completion"]) == (1.375, ["q1, model second", "q1, model first"])


def test_two_equal_texts_are_a_draw_that_nobody_judged(store: Store, tmp_path: Path) -> None:
    run = own_run(store, [(pair(1, "blue"), 0.5)])
    export_alpaca_eval(store, [run], tmp_path / "out")
    (row,) = read(tmp_path / "out" / "org%2Fm" / "rubric" / "annotations.json")
    assert (row["preference"], row["output_1"], row["output_2"], row["raw_completion"]) == (1.5, "blue", "blue", None)


def test_what_runs_share_is_written_once(store: Store, tmp_path: Path) -> None:
    runs = [
        own_run(store, [(pair(1, "red"), 1.0)], [judged(pair(1, "red"), 1.0, model_first=True)]),
        own_run(store, [(pair(1, "red", model="n"), 0.0)], [judged(pair(1, "red", model="n"), 0.0, model_first=True)]),
    ]
    export_alpaca_eval(store, [*runs, runs[0][:-1]], tmp_path / "out")
    assert len(read(tmp_path / "out" / "reference_outputs.json")) == 1
    assert len(read(tmp_path / "out" / "n" / "model_outputs.json")) == 1
    export_alpaca_eval(store, runs, tmp_path / "out")


def test_runs_that_contradict_each_other_go_into_different_folders(store: Store, tmp_path: Path) -> None:
    first = own_run(store, [(pair(1, "red"), 1.0)], [judged(pair(1, "red"), 1.0, model_first=True)])
    others = {
        "compare with different baselines": own_run(
            store,
            [(pair(1, "red", baseline="other"), 0.5)],
            [judged(pair(1, "red", baseline="other"), 0.5, model_first=True)],
        ),
        "have different outputs of org/m": own_run(
            store, [(pair(1, "grey"), 0.5)], [judged(pair(1, "grey"), 0.5, model_first=True)]
        ),
        "hold different verdicts of rubric on org/m": own_run(
            store, [(pair(1, "red"), 0.0)], [judged(pair(1, "red"), 1.0, model_first=True)]
        ),
    }
    for message, other in others.items():
        with pytest.raises(UserError, match=f"runs {first} and {other} {message}.*export them into different folders"):
            export_alpaca_eval(store, [first, other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_holds_something_else_is_left_alone(store: Store, tmp_path: Path) -> None:
    run = own_run(store, [(pair(1, "red"), 1.0)], [judged(pair(1, "red"), 1.0, model_first=True)])
    there = tmp_path / "out" / "reference_outputs.json"
    there.parent.mkdir()
    there.write_text("[]")
    with pytest.raises(UserError, match="is there and holds something else; name another folder"):
        export_alpaca_eval(store, [run], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["reference_outputs.json"]


def test_a_run_of_another_kind_is_refused(store: Store, tmp_path: Path) -> None:
    store.put_model(fingerprint="sha256:m", name="m", location="here")
    run = store.start_run(RunStart("mt-bench", "m", "sha256:m", "sha256:m", "gpt-4", "sha256:r"))
    question = Question("81", "writing", ("Write.", "Again."))
    run.add_answers([(question, Answer("sha256:a", "m", "81", 1, "text"))])
    run.finish("complete", [])
    with pytest.raises(UserError, match=f"run {run.id} is of mt-bench, and alpaca_eval's files hold AlpacaEval's runs"):
        export_alpaca_eval(store, [run.id], tmp_path / "out")


def test_two_checkpoints_of_one_name_cannot_be_told_apart(store: Store, tmp_path: Path) -> None:
    one = pair(1, "red", baseline="org/m")
    run = own_run(store, [(one, 1.0)], [judged(one, 1.0, model_first=True)], protocol={"rivals": ["org/m@12345678"]})
    with pytest.raises(UserError, match="two checkpoints of one name"):
        export_alpaca_eval(store, [run], tmp_path / "out")


def test_outputs_alone_come_out_as_they_were_read(store: Store, tmp_path: Path) -> None:
    rows = [output(2, samplers=["x"]), output(0), output(1), output(0, output="again")]
    (done,) = put_rows(store, tmp_path, rows)
    written = export_alpaca_eval(store, [done.run], tmp_path / "out")
    assert list(written) == [tmp_path / "out" / "m" / "model_outputs.json"]
    assert read(tmp_path / "out" / "m" / "model_outputs.json") == rows


def test_imported_rows_keep_their_order_and_their_zeros(store: Store, tmp_path: Path) -> None:
    rows = [
        annotation(3, 0),
        annotation(1, None, raw_completion=""),
        annotation(3, 1.25),
        annotation(2, 2, x={"y": [1]}),
    ]
    (first,) = put_rows(store, tmp_path / "first", rows[::-1][:2])
    (done,) = put_rows(store, tmp_path, rows)
    export_alpaca_eval(store, [done.run], tmp_path / "out")
    assert first.run != done.run
    found = read(tmp_path / "out" / "m" / "alpaca_eval_gpt4" / "annotations.json")
    assert [list(row.items()) for row in found] == [list(row.items()) for row in rows]


def test_a_judge_or_a_model_named_like_a_file_gets_a_folder_of_another_name(store: Store, tmp_path: Path) -> None:
    name = "reference_outputs.json"
    row = annotation(annotator="model_outputs.json", generator_2=name)
    (done,) = put_rows(store, tmp_path, [row])
    written = export_alpaca_eval(store, [done.run], tmp_path / "out")
    assert {path.relative_to(tmp_path / "out").as_posix() for path in written} == {
        "reference_outputs%2Ejson/model_outputs.json",
        "reference_outputs%2Ejson/model_outputs%2Ejson/annotations.json",
        "reference_outputs.json",
    }
    assert all(path.is_file() for path in written)
