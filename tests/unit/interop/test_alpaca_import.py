"""alpaca_eval's files as runs: which runs there are, what they hold, and what is refused before anything is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from alpaca_eval_rows import OF_VERSION, annotation, output, put, put_rows, write
from alpaca_files import instructions, write_data

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.alpaca_data import baseline_answer, question_of
from zephyr_bench.benchmarks.rejudge import judge_run
from zephyr_bench.errors import UserError
from zephyr_bench.judges import open_judge
from zephyr_bench.progress import Progress
from zephyr_bench.reports.moved import said_of
from zephyr_bench.store import RunInfo, Store


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def only_run(store: Store) -> RunInfo:
    (run,) = store.runs()
    return run


def values(store: Store, run: str, metric: str = "preference") -> list[float | None]:
    return [sample.value for sample in store.samples_of(run, metric)]


def figures(store: Store, run: str) -> dict[str, float | None]:
    return {score.metric: score.value for score in store.scores_of([run])[run]}


def test_a_file_becomes_a_run_with_both_sides_answers_and_the_preference_for_the_model(
    store: Store, tmp_path: Path
) -> None:
    rows = [annotation(0, 2.0), annotation(1, 1.0), annotation(2, 1.75, dataset="oasst")]
    (done,) = put_rows(store, tmp_path, rows)
    run = only_run(store)
    assert (run.model, run.benchmark, run.judge, run.status) == ("m", "alpaca-eval-1", "alpaca_eval_gpt4", "complete")
    assert (done.answers, done.judgments, done.without_score, done.new) == (6, 3, 0, True)
    assert values(store, run.id) == [1.0, 0.0, 0.75]
    assert values(store, run.id, "length") == [len(row["output_2"]) for row in rows]
    assert values(store, run.id, "baseline-length") == [len(row["output_1"]) for row in rows]
    assert [sample.category for sample in store.samples_of(run.id, "preference")] == ["koala", "koala", "oasst"]
    answers = {answer.key: answer for answer in store.answers_of(run.id)}
    for verdict in store.verdicts_of(run.id):
        assert (answers[verdict.answer].model, answers[verdict.rival or ""].model) == ("m", "text_davinci_003")
    scores = figures(store, run.id)
    assert scores["win-rate"] == pytest.approx(100 * 1.75 / 3)
    assert (scores["wins"], scores["losses"], scores["draws"]) == (2, 1, 0)


def test_in_which_order_a_file_showed_two_answers_nobody_says(store: Store, tmp_path: Path) -> None:
    put_rows(store, tmp_path, [annotation(0, 2.0)])
    run = only_run(store)
    (turns,) = said_of(store, run, [sample.question for sample in store.samples_of(run.id, "preference")]).values()
    assert [judgment.first for turn in turns for judgment in turn.judgments] == [None]


def test_the_baselines_answers_are_those_of_ones_own_runs(store: Store, tmp_path: Path) -> None:
    put_rows(store, tmp_path, [annotation()])
    question = question_of("Do thing 0.", "koala")
    own = baseline_answer("text_davinci_003", question, "text_davinci_003 does thing 0")
    assert own in store.answers_of(only_run(store).id)


def test_no_file_says_whether_an_answer_was_cut(store: Store, tmp_path: Path) -> None:
    put_rows(store, tmp_path, [annotation(), annotation(1, output_2="")])
    scores = figures(store, only_run(store).id)
    assert "cut-answers" not in scores
    assert scores["empty-answers"] == 1


def test_null_and_nan_are_missing_and_0_is_a_draw(store: Store, tmp_path: Path) -> None:
    preferences = [0, 0.0, 1.5, None, float("nan"), 2]
    (done,) = put_rows(store, tmp_path, [annotation(n, preference) for n, preference in enumerate(preferences)])
    assert values(store, done.run) == [0.5, 0.5, 0.5, None, None, 1.0]
    assert done.without_score == 2
    (score,) = (score for score in store.scores_of([done.run])[done.run] if score.metric == "win-rate")
    assert (score.value, score.n, score.missing) == (62.5, 4, 2)
    reasons = {judgment.reason for judgment in store.judgments_of(done.run) if judgment.score is None}
    assert reasons == {"alpaca_eval's file has null: no preference was read from the judge's reply"}


def test_a_reply_is_kept_as_text(store: Store, tmp_path: Path) -> None:
    reply = {"text": "m", "logprobs": [{"m": -0.5}]}
    rows = [annotation(0, raw_completion="[{'model': 'm'}]"), annotation(1, preference_raw_completion=reply)]
    put_rows(store, tmp_path, rows)
    replies = {judgment.reply for judgment in store.judgments_of(only_run(store).id)}
    assert replies == {"[{'model': 'm'}]", '{"text": "m", "logprobs": [{"m": -0.5}]}'}


def test_each_model_judge_and_baseline_is_a_run(store: Store, tmp_path: Path) -> None:
    rows = [
        annotation(0, 1.0),
        annotation(0, 2.0, model="org/other: 2"),
        annotation(0, 1.5, annotator="chatgpt"),
        annotation(0, 2.0, version=2),
    ]
    put_rows(store, tmp_path, rows)
    found = {(run.model, run.benchmark, run.judge): values(store, run.id) for run in store.runs()}
    assert found == {
        ("m", "alpaca-eval-1", "alpaca_eval_gpt4"): [0.0],
        ("org/other: 2", "alpaca-eval-1", "alpaca_eval_gpt4"): [1.0],
        ("m", "alpaca-eval-1", "chatgpt"): [0.5],
        ("m", "alpaca-eval-2", "weighted_alpaca_eval_gpt4_turbo"): [1.0],
    }


def test_importing_twice_adds_nothing(store: Store, tmp_path: Path) -> None:
    rows = [annotation(0, None), annotation(1, 2, raw_completion={"x": float("nan")}), annotation(1, 1)]
    first = put_rows(store, tmp_path, rows, [output(0), output(5, model="alone")])
    again = put_rows(store, tmp_path, rows[1:], [output(5, model="alone")], [output(0)], rows)
    assert {(done.run, done.new) for done in again} == {(done.run, False) for done in first}
    assert len(store.runs()) == 2


@pytest.mark.parametrize("more", [annotation(0), annotation(2)], ids=["a row that stands twice", "another row"])
def test_a_run_of_more_judgments_is_another_one(store: Store, tmp_path: Path, more: dict[str, object]) -> None:
    clean = [annotation(0), annotation(1)]
    (first,) = put_rows(store, tmp_path, [*clean, more])
    (done,) = put_rows(store, tmp_path, clean)
    assert (first.judgments, done.judgments, done.not_judged, done.new) == (3, 2, 803, True)
    for rows, run in ((clean, done.run), ([*clean, more], first.run)):
        (again,) = put_rows(store, tmp_path, rows)
        assert (again.run, again.new) == (run, False)


@pytest.mark.parametrize("more", [output(0, output="twice"), output(2)], ids=["a second output", "another row"])
def test_a_run_of_more_outputs_is_another_one(store: Store, tmp_path: Path, more: dict[str, object]) -> None:
    clean = [output(0), output(1)]
    (first,) = put_rows(store, tmp_path, [*clean, more])
    (done,) = put_rows(store, tmp_path, clean)
    assert (first.answers, done.answers, done.new) == (3, 2, True)
    assert [put_rows(store, tmp_path, rows)[0].run for rows in (clean, [*clean, more])] == [done.run, first.run]


def test_outputs_that_a_judged_run_holds_are_already_there_and_the_row_is_that_runs(
    store: Store, tmp_path: Path
) -> None:
    (judged,) = put_rows(store, tmp_path, [annotation(0), annotation(1)])
    (same,) = put_rows(store, tmp_path, [output(0), output(1)])
    assert (same.run, same.new, same.judgments, same.not_judged) == (judged.run, False, 2, 803)
    (fewer,) = put_rows(store, tmp_path, [output(0)])
    assert (fewer.new, fewer.judge, fewer.answers) == (True, None, 1)


def test_a_figure_that_the_stored_run_lacks_makes_a_new_run_once(store: Store, tmp_path: Path) -> None:
    rows = [
        annotation(n, 1 + (n % 5) / 4, version=2, instruction=text, output_2="w " * n)
        for n, text in enumerate(instructions(12))
    ]
    (bare,) = put_rows(store, tmp_path, rows)
    assert figures(store, bare.run)["lc-win-rate"] is None
    data = write_data(tmp_path / "data", 12)
    (done,) = put_rows(store, tmp_path, rows, data=data)
    assert done.state == "new, for the stored run lacks lc-win-rate"
    assert figures(store, done.run)["lc-win-rate"] is not None
    (again,) = put_rows(store, tmp_path, rows, data=data)
    assert (again.run, again.state) == (done.run, "already there")
    assert put_rows(store, tmp_path, rows)[0].state == "already there"


def test_an_instruction_that_stands_twice_is_a_repeat(store: Store, tmp_path: Path) -> None:
    rows = [annotation(0, 2.0), annotation(1, 1.0), annotation(0, 1.0), annotation(0, 2.0, output_2="another")]
    (done,) = put_rows(store, tmp_path, rows)
    samples = store.samples_of(done.run, "preference")
    assert [(sample.value, sample.replicate) for sample in samples] == [(1.0, 0), (0.0, 0), (0.0, 1), (1.0, 2)]
    assert figures(store, done.run)["win-rate"] == 50.0
    texts = sorted((a.text, a.replicate) for a in store.answers_of(done.run) if a.model == "m")
    assert texts == [("another", 1), ("thing 0, by m", 0), ("thing 1, by m", 0)]


def test_instructions_that_the_file_lacks_are_counted(store: Store, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 12)
    rows = [annotation(n, instruction=text) for n, text in enumerate(instructions(12)[:9])]
    (done,) = put_rows(store, tmp_path, [*rows, annotation(99)], data=data)
    assert done.not_judged == 3
    assert only_run(store).environment["not_judged"] == 3


def test_where_the_instructions_are_not_at_hand_their_number_is_known(store: Store, tmp_path: Path) -> None:
    (done,) = put_rows(store, tmp_path, [annotation(0), annotation(1)])
    assert done.not_judged == 803


def test_published_difficulties_control_length_where_they_are_at_hand(store: Store, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 12)
    rows = [
        annotation(n, 1 + (n % 5) / 4, version=2, instruction=text, output_2="w " * n)
        for n, text in enumerate(instructions(12))
    ]
    (done,) = put_rows(store, tmp_path, rows, data=data)
    assert figures(store, done.run)["lc-win-rate"] is not None
    (other,) = put_rows(store, tmp_path, [{**row, "annotator": "chatgpt"} for row in rows], data=data)
    assert figures(store, other.run)["lc-win-rate"] is None
    (sample,) = store.samples_of(other.run, "lc-win-rate")
    assert "not of chatgpt" in (sample.reason or "")
    assert other.without_score == 0, "why there is no length control is no missing verdict"


def test_without_the_difficulties_the_reason_is_kept(store: Store, tmp_path: Path) -> None:
    (done,) = put_rows(store, tmp_path, [annotation(version=2)])
    (sample,) = store.samples_of(done.run, "lc-win-rate")
    assert "df_gamed.csv of tatsu-lab/alpaca_eval is not at hand" in (sample.reason or "")


def test_outputs_alone_are_a_run_without_a_judge_of_version_2(store: Store, tmp_path: Path) -> None:
    (done,) = put_rows(store, tmp_path, [output(0), output(1)])
    assert (done.benchmark, done.judge, done.answers, done.judgments) == ("alpaca-eval-2", None, 2, 0)
    (asked,) = put_rows(store, tmp_path, [output(0), output(1)], version=1)
    assert (asked.benchmark, asked.new) == ("alpaca-eval-1", True)
    (again,) = put_rows(store, tmp_path, [output(0), output(1)])
    assert not again.new


def test_outputs_belong_to_the_run_that_judged_them(store: Store, tmp_path: Path) -> None:
    """And those that were not judged go with them, unless others were judged."""
    (done,) = put_rows(store, tmp_path, [annotation(0)], [output(0), output(1)])
    assert (done.answers, done.judgments) == (3, 1)
    others = put_rows(store, tmp_path, [annotation(0, model="n")], [output(0, model="n", output="another text")])
    assert [(run.model, run.judge is None) for run in others] == [("n", False), ("n", True)]


def test_a_file_of_the_baselines_outputs_beside_its_annotations_adds_nothing(store: Store, tmp_path: Path) -> None:
    reference = output(0, model="text_davinci_003", output="text_davinci_003 does thing 0")
    (done,) = put_rows(store, tmp_path, [annotation(0)], [reference])
    assert done.model == "m"
    (alone,) = put_rows(store, tmp_path, [reference])
    assert (alone.model, alone.judge) == ("text_davinci_003", None)


def test_two_files_of_different_outputs_are_two_runs_and_parts_of_one_are_one(store: Store, tmp_path: Path) -> None:
    done = put_rows(store, tmp_path, [output(0)], [output(1)], [output(0, output="another")], [output(1, x="y")])
    assert [(run.model, run.answers) for run in done] == [("m", 2), ("m", 1)]


def test_a_model_compared_with_itself_is_read(store: Store, tmp_path: Path) -> None:
    """As the boards have it of their baselines."""
    baseline, _ = OF_VERSION[1]
    rows = [annotation(n, 1.5, model=baseline, output_2=f"{baseline} does thing {n}") for n in range(3)]
    (done,) = put_rows(store, tmp_path, rows)
    assert figures(store, done.run)["win-rate"] == 50.0


def test_our_own_instructions_keep_their_ids_and_checks(store: Store, tmp_path: Path) -> None:
    text = "Name the largest ocean on Earth in one sentence of at most ten words."
    row = annotation(instruction=text, generator_1="written-answers", output_2="The Pacific is.")
    (done,) = put_rows(store, tmp_path, [row])
    assert (done.benchmark, [sample.question for sample in store.samples_of(done.run, "preference")]) == (
        "alpaca-eval-mini",
        ["ae-01"],
    )
    again = judge_run(store, done.run, open_benchmark("alpaca-eval-mini"), open_judge("rubric"), Progress(quiet=True))
    assert {score.metric: score.n for score in again.scores}["win-rate"] == 1
    (outputs,) = put_rows(store, tmp_path, [output(instruction=text, model="n")])
    assert outputs.benchmark == "alpaca-eval-mini"


def test_imported_outputs_can_be_judged(store: Store, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 12)
    rows = [output(n, instruction=text) for n, text in enumerate(instructions(12))]
    (done,) = put_rows(store, tmp_path, rows, version=2, data=data)
    benchmark = open_benchmark("alpaca-eval-2", data=data)
    judged = judge_run(store, done.run, benchmark, open_judge("rubric"), Progress(quiet=True))
    (score,) = (score for score in judged.scores if score.metric == "win-rate")
    assert score.n + score.missing == 12


def test_a_version_that_is_asked_for_is_checked(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [annotation(version=1)])
    message = (
        f"{path} row 1: generator_1, the baseline, is text_davinci_003, and alpaca-eval-2 compares with "
        "gpt4_1106_preview; without --version it is read as what it is."
    )
    with pytest.raises(UserError, match=re.escape(message)):
        put(store, path, version=2)
    other = write(tmp_path / "b.json", [annotation(0), annotation(1, annotator="chatgpt")])
    message = (
        f"{other} row 2: annotator is chatgpt, and alpaca-eval-1 is judged by alpaca_eval_gpt4; without --benchmark"
    )
    with pytest.raises(UserError, match=re.escape(message)):
        put(store, other, benchmark="alpaca-eval-1")
    assert store.runs() == []
    (done,) = put(store, path, version=1)
    assert done.new


def test_a_baseline_that_no_benchmark_has_needs_one_to_be_named(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [annotation(0, generator_1="mine")])
    message = f"{path} row 1: generator_1, the baseline, is mine, which no benchmark compares with; name the one whose"
    with pytest.raises(UserError, match=re.escape(message)):
        put(store, path)
    with pytest.raises(UserError, match="--benchmark alpaca-eval-1 says whose instructions they are"):
        put(store, path, version=1)
    put(store, path, benchmark="alpaca-eval-1")
    run = only_run(store)
    assert (run.benchmark, run.rivals) == ("alpaca-eval-1", ("mine",))
    (sample,) = store.samples_of(run.id, "lc-win-rate")
    assert "not with mine" in (sample.reason or "")


def test_a_benchmark_of_ones_own_is_found_by_its_baseline(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "own" / "benchmarks"
    folder.mkdir(parents=True)
    (folder / "house.yaml").write_text(
        "kind: alpaca_eval\ndescription: ours\njudge: rubric\nbaseline: mine\ninstructions: {file: house.json}\n"
    )
    write(folder / "house.json", [output(n, model="mine") for n in range(3)])
    (done,) = put_rows(store, tmp_path, [annotation(0, generator_1="mine")], include=[tmp_path / "own"])
    assert (done.benchmark, done.not_judged) == ("house", 2)


def test_a_benchmark_of_another_kind_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--benchmark mt-bench: alpaca_eval's files are of AlpacaEval's kind; name one"):
        put_rows(store, tmp_path, [annotation()], benchmark="mt-bench")
    with pytest.raises(UserError, match="give one of them"):
        put_rows(store, tmp_path, [annotation()], benchmark="alpaca-eval-1", version=1)


def test_the_judge_of_imported_verdicts_says_them_again(store: Store, tmp_path: Path) -> None:
    """Though half of the comparisons are asked in the other order than the one that an import is stored in."""
    data = write_data(tmp_path / "data", 12)
    rows = [
        annotation(n, 1 + (n % 5) / 4, version=2, instruction=text, output_1=f"gpt4_1106_preview says {n}")
        for n, text in enumerate(instructions(12))
    ]
    (done,) = put_rows(store, tmp_path, rows, data=data)
    judge = tmp_path / "replay.yaml"
    name = OF_VERSION[2][1]
    judge.write_text(f"kind: recorded\ndescription: x\nstore: sqlite:///{tmp_path}/results.db\njudge: {name}\n")
    benchmark = open_benchmark("alpaca-eval-2", data=data)
    again = judge_run(store, done.run, benchmark, open_judge(str(judge)), Progress(quiet=True))
    assert {score.metric: score.value for score in again.scores}["win-rate"] == figures(store, done.run)["win-rate"]
