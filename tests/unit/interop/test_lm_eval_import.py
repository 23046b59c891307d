"""lm-eval's files as runs: which benchmark, which model, which scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lm_eval_files_made import (
    OTHERS_OF_VERSION_1,
    Row,
    gsm8k_rows,
    ifeval_rows,
    old_results,
    put,
    reasons,
    results,
    rows,
    scored_row,
    scores,
    write,
    write_all,
)

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.errors import UserError
from zephyr_bench.interop.lm_eval_suites import Suite
from zephyr_bench.store import Store


def mmlu(shares: float = 0.5) -> dict[str, float]:
    """A share for each of the 57 subjects."""
    benchmark = open_benchmark("open-llm-1")
    leaves = Suite(benchmark).leaves["mmlu"]  # type: ignore[arg-type]
    return {leaf: shares + number / 1000 for number, leaf in enumerate(leaves)}


def test_rows_and_numbers_of_04_are_a_run_of_the_version_whose_tasks_and_shots_they_have(
    store: Store, tmp_path: Path
) -> None:
    samples = {"arc_challenge": rows("arc_challenge", 1.0, 0.0, 1.0, 1.0), "gsm8k": gsm8k_rows(1.0, 0.0)}
    (done,) = put(store, *write_all(tmp_path / "org__m", samples))
    assert (done.model, done.benchmark, done.tasks, done.samples) == ("org/m", "open-llm-1", 2, 6)
    assert scores(store, done.run) == {"average": None, "arc_challenge": 75.0, "gsm8k": 50.0}
    assert [(s.question, s.metric, s.value) for s in store.samples_of(done.run, "exact_match")] == [
        ("gsm8k/0", "exact_match", 1.0),
        ("gsm8k/1", "exact_match", 0.0),
    ]
    arc = next(score for score in store.scores_of([done.run])[done.run] if score.metric == "arc_challenge")
    assert (arc.n, arc.stderr) == (4, pytest.approx(25.0))
    protocol = store.run(done.run).protocol
    ours = open_benchmark("open-llm-1", tasks=["arc_challenge", "gsm8k"]).protocol(None)
    told = {key: protocol[key] for key in ("tasks", "chat_template", "fewshot_seed", "only")}
    assert told == {key: ours[key] for key in told}
    assert (protocol["lm_eval"], protocol["limit"], "data" in protocol) == ("0.4.13", None, False)


def test_there_is_an_average_only_of_all_the_tasks(store: Store, tmp_path: Path) -> None:
    lists = {task: rows(task, 1.0, 0.0) for task in OTHERS_OF_VERSION_1} | {"gsm8k": gsm8k_rows(1.0, 1.0)}
    subjects = mmlu()
    given = {leaf: rows(leaf, 1.0, 0.0) for leaf in subjects}
    (done,) = put(store, *write_all(tmp_path / "some", lists))
    assert (done.missing, scores(store, done.run)["average"]) == (("mmlu",), None)
    assert reasons(store, done.run) == {"average": "no score, or not a whole one, of mmlu"}
    one_less = dict(list(given.items())[1:])
    (done,) = put(store, write(tmp_path / "less.json", results({**lists, **one_less}, model="less")))
    assert "mmlu" not in scores(store, done.run)
    (absent,) = given.keys() - one_less.keys()
    assert reasons(store, done.run) == {
        "mmlu": f"1 of its 57 tasks are not in the files ({absent})",
        "average": "no score, or not a whole one, of mmlu",
    }
    (done,) = put(store, write(tmp_path / "all.json", results({**lists, **given}, model="all")))
    assert scores(store, done.run)["average"] == pytest.approx((4 * 50 + 100 + 50) / 6)
    assert (done.missing, reasons(store, done.run)) == ((), {})


def test_numbers_alone_give_the_scores_without_rows(store: Store, tmp_path: Path) -> None:
    told = results({"arc_challenge": rows("arc_challenge", 1.0, 0.0)})
    told["results"]["arc_challenge"] |= {"acc_norm,none": 0.25, "acc_norm_stderr,none": 0.125}
    (done,) = put(store, write(tmp_path / "anything.txt", told))
    _, arc = store.scores_of([done.run])[done.run]
    assert (arc.metric, arc.value, arc.stderr, arc.n, done.samples) == ("arc_challenge", 25.0, 12.5, 2, 0)


def test_ifevals_lists_are_a_value_an_instruction(store: Store, tmp_path: Path) -> None:
    samples = {"leaderboard_ifeval": ifeval_rows([True, False], [True])}
    (done,) = put(store, *write_all(tmp_path / "a", samples))
    assert done.benchmark == "open-llm-2"
    assert scores(store, done.run)["leaderboard_ifeval"] == pytest.approx(100 * (1 / 2 + 2 / 3) / 2)
    found = [(s.question, s.turn, s.value) for s in store.samples_of(done.run, "inst_level_strict_acc")]
    one, other = "leaderboard_ifeval/0", "leaderboard_ifeval/1"
    assert found == [(one, 1, 1.0), (one, 2, 0.0), (other, 1, 1.0)]
    (alone,) = put(store, write(tmp_path / "b.json", results(samples, model="n")))
    score = store.scores_of([alone.run])[alone.run][1]
    assert (score.value, score.stderr) == (pytest.approx(100 * (1 / 2 + 2 / 3) / 2), None)


def test_version_2_counts_from_chance(store: Store, tmp_path: Path) -> None:
    told = results({"leaderboard_mmlu_pro": rows("leaderboard_mmlu_pro", 1.0, 0.0)})
    told["n-shot"] = {"leaderboard_mmlu_pro": 5}
    (done,) = put(store, write(tmp_path / "r.json", told))
    score = store.scores_of([done.run])[done.run][1]
    assert (score.value, score.stderr) == (pytest.approx((0.5 - 0.1) / 0.9 * 100), pytest.approx(1 / 0.9))


def test_the_six_files_of_03_are_one_run_with_an_average(store: Store, tmp_path: Path) -> None:
    subjects = {f"hendrycksTest-{leaf.removeprefix('mmlu_')}": share for leaf, share in mmlu().items()}
    files = {
        25: {"arc_challenge": {"acc": 0.1, "acc_stderr": 0.01, "acc_norm": 0.2, "acc_norm_stderr": 0.01}},
        10: {"hellaswag": {"acc": 0.1, "acc_stderr": 0.01, "acc_norm": 0.3, "acc_norm_stderr": 0.01}},
        5: {name: {"acc": share, "acc_stderr": 0.02, "acc_norm": 0.0} for name, share in subjects.items()},
        0: {"truthfulqa_mc": {"mc1": 0.2, "mc1_stderr": 0.01, "mc2": 0.4, "mc2_stderr": 0.01}},
    }
    paths = [write(tmp_path / f"{shots}.json", old_results(told, shots=shots)) for shots, told in files.items()]
    paths.append(write(tmp_path / "w.json.gz", old_results({"winogrande": {"acc": 0.6, "acc_stderr": 0.01}}, shots=5)))
    paths.append(write(tmp_path / "g.json", old_results({"gsm8k": {"acc": 0.1, "acc_stderr": 0.01}}, shots=5)))
    (done,) = put(store, *paths)
    found = {s.metric: (s.value, s.stderr) for s in store.scores_of([done.run])[done.run]}
    assert (done.model, done.benchmark, done.missing) == ("org/m", "open-llm-1", ())
    assert found["truthfulqa_mc2"] == (pytest.approx(40.0), pytest.approx(1.0))
    assert found["mmlu"] == (pytest.approx(100 * sum(subjects.values()) / 57), pytest.approx(2 / 57**0.5))
    whole = [20.0, 30.0, 100 * sum(subjects.values()) / 57, 40.0, 60.0, 10.0]
    assert found["average"][0] == pytest.approx(sum(whole) / 6)
    protocol = store.run(done.run).protocol
    assert protocol["lm_eval"] == "before 0.4"
    assert "chat_template" not in protocol
    shots = {entry["task"]: entry["shots"] for entry in protocol["tasks"]}
    assert (shots["arc_challenge"], shots["hellaswag"], shots["mmlu"]) == (25, 10, 5)


def test_rows_alone_are_of_the_named_benchmark_and_their_folders_model(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "org__m" / "samples_arc_challenge_2026.jsonl", rows("arc_challenge", 1.0, 0.0))
    with pytest.raises(UserError, match=r"samples alone don't tell how many shots .* name their benchmark"):
        put(store, path)
    (done,) = put(store, path, benchmark="open-llm-1")
    assert (done.model, scores(store, done.run)) == ("org__m", {"average": None, "arc_challenge": 50.0})
    (entry,) = store.run(done.run).protocol["tasks"]
    assert "shots" not in entry
    (named,) = put(store, path, benchmark="open-llm-1", model="org/m")
    assert named.model == "org/m"
    unnamed = write(tmp_path / "x" / "rows.jsonl", rows("arc_challenge", 1.0))
    with pytest.raises(UserError, match=r"rows.jsonl: samples don't tell their task"):
        put(store, unnamed, benchmark="open-llm-1")


def test_reading_files_twice_adds_nothing(store: Store, tmp_path: Path) -> None:
    samples = {"arc_challenge": rows("arc_challenge", 1.0, 0.0), "gsm8k": gsm8k_rows(1.0, 0.0)}
    paths = write_all(tmp_path / "org__m", samples)
    (alone,) = put(store, paths[0])
    (whole,) = put(store, *paths)
    assert (alone.new, whole.new) == (True, True)
    twice = write(tmp_path / "r.json.gz", results(samples))
    again = [*put(store, *paths), *put(store, paths[0]), *put(store, *paths, twice)]
    assert [(done.run, done.new) for done in again] == [(whole.run, False)] * 3
    (part,) = put(store, *write_all(tmp_path / "part", {"gsm8k": samples["gsm8k"]}))
    assert (part.run, part.new) == (whole.run, False)
    (other,) = put(store, *write_all(tmp_path / "other", {"gsm8k": gsm8k_rows(0.0, 0.0)}))
    assert other.new
    assert len(store.runs()) == 3


def test_texts_that_the_model_wrote_are_answers(store: Store, tmp_path: Path) -> None:
    (done,) = put(store, *write_all(tmp_path / "a", {"gsm8k": gsm8k_rows(1.0, 0.0)}))
    assert sorted((a.question, a.text, a.model) for a in store.answers_of(done.run)) == [
        ("gsm8k/0", "#### 0", "org/m"),
        ("gsm8k/1", "#### 1", "org/m"),
    ]
    assert [q.turns for q in store.questions_of(done.run)] == [
        ("Question: gsm8k 0\nAnswer:",),
        ("Question: gsm8k 1\nAnswer:",),
    ]


@pytest.mark.parametrize("missing", ["NaN", "null", '"N/A"', "-Infinity", "1e999", "1" + "0" * 400])
def test_what_is_no_number_is_missing(missing: str, store: Store, tmp_path: Path) -> None:
    told = json.dumps(results({"arc_challenge": rows("arc_challenge", 7.5)}))
    path = write(tmp_path / "r.json", {})
    path.write_text(told.replace("7.5", missing).replace("0.01", missing))
    (done,) = put(store, path)
    assert scores(store, done.run) == {"average": None, "arc_challenge": None}
    assert reasons(store, done.run)["arc_challenge"] == "the files tell no number for it"


def test_a_row_without_a_number_is_counted_as_missing(store: Store, tmp_path: Path) -> None:
    samples = {"arc_challenge": rows("arc_challenge", 1.0, None, 0.0, 1.0)}
    told = results({"arc_challenge": rows("arc_challenge", 1.0)})
    told["results"]["arc_challenge"]["acc_norm,none"] = None
    told["task_hashes"] = {}
    (done,) = put(store, write(tmp_path / "r.json", told), write(tmp_path / "s.jsonl", samples["arc_challenge"]))
    score = store.scores_of([done.run])[done.run][1]
    assert (score.value, score.n, score.missing, done.without_score) == (pytest.approx(200 / 3), 3, 1, 1)


@pytest.mark.parametrize(
    ("config", "rows_told", "limit"),
    [
        ({"limit": 2}, (8, 2), 2),
        ({"limit": 2.0}, (8, 2), 2),
        ({"limit": 0.25}, (8, 2), 0.25),
        ({"limit": None}, (2, 2), None),
        ({"limit": None}, (8, 2), 2),  # rows chosen by --samples
    ],
)
def test_a_limited_run_says_so(
    config: Row, rows_told: tuple[int, int], limit: float | None, store: Store, tmp_path: Path
) -> None:
    told = results({"arc_challenge": rows("arc_challenge", 1.0, 0.0)})
    told["config"] |= config
    told["n-samples"]["arc_challenge"] = dict(zip(("original", "effective"), rows_told, strict=True))
    (done,) = put(store, write(tmp_path / "r.json", told))
    found = store.run(done.run).protocol["limit"]
    assert (found, type(found)) == (limit, type(limit))


def test_how_the_model_was_asked_is_told_where_it_is_known(store: Store, tmp_path: Path) -> None:
    told = results({"arc_challenge": rows("arc_challenge", 1.0)}, chat_template="{{x}}", fewshot_as_multiturn=False)
    told |= {"system_instruction": "Be brief."}
    told["config"]["gen_kwargs"] = {"temperature": 0.5}
    (done,) = put(store, write(tmp_path / "r.json", told))
    protocol = store.run(done.run).protocol
    assert protocol["chat_template"] is True
    assert protocol["fewshot_as_multiturn"] is False
    assert (protocol["system_instruction"], protocol["gen_kwargs"]) == ("Be brief.", {"temperature": 0.5})


def test_what_a_file_states_as_null_is_told_and_what_it_lacks_is_not(store: Store, tmp_path: Path) -> None:
    told = results({"arc_challenge": rows("arc_challenge", 1.0)})
    told["config"] |= {"gen_kwargs": {}, "fewshot_seed": None}
    (done,) = put(store, write(tmp_path / "r.json", told))
    protocol = store.run(done.run).protocol
    asked = {name: protocol[name] for name in ("system_instruction", "gen_kwargs", "fewshot_seed")}
    assert asked == {"system_instruction": None, "gen_kwargs": None, "fewshot_seed": None}
    for name in ("gen_kwargs", "fewshot_seed"):
        del told["config"][name]
    del told["system_instruction"]
    (done,) = put(store, write(tmp_path / "less.json", {**told, "model_name": "other"}))
    assert not asked.keys() & store.run(done.run).protocol.keys()


def test_results_asked_otherwise_are_runs_of_their_own(store: Store, tmp_path: Path) -> None:
    def told(task: str, **config: object) -> Row:
        found = results({task: rows(task, 1.0)})
        found["config"] |= config
        return found

    first = write(tmp_path / "a.json", told("arc_challenge"))
    arguments = {"dtype": "bfloat16", "pretrained": "org/m", "device": "cuda:1"}
    same = write(tmp_path / "b.json", told("winogrande", model_args=arguments))
    other = write(tmp_path / "c.json", told("hellaswag", limit=10))
    assert [(done.tasks, done.model) for done in put(store, first, same, other)] == [(2, "org/m"), (1, "org/m")]


def test_two_evaluations_of_the_same_tasks_are_two_runs_and_a_mixture_is_refused(store: Store, tmp_path: Path) -> None:
    first = write(tmp_path / "a.json", results({"arc_challenge": rows("arc_challenge", 1.0, 0.0)}))
    second = write(tmp_path / "b.json", results({"arc_challenge": rows("arc_challenge", 1.0, 1.0)}, date=1.0))
    assert [scores(store, done.run)["arc_challenge"] for done in put(store, first, second)] == [50.0, 100.0]
    third = write(tmp_path / "c.json", results({"winogrande": rows("winogrande", 1.0)}))
    with pytest.raises(UserError, match=r"a.json and .*b.json both have results of org/m on arc_challenge"):
        put(store, first, second, third)


def test_another_benchmark_is_named(store: Store, tmp_path: Path) -> None:
    told = results({task: rows(task, 1.0, 0.0) for task in ("arc_challenge", "piqa")})
    path = write(tmp_path / "r.json", told)
    with pytest.raises(UserError, match="piqa is no task of open-llm-1; --benchmark open-llm-1 reads the others"):
        put(store, path)
    (done,) = put(store, path, benchmark="open-llm-1")
    assert (done.left_out, scores(store, done.run)) == (("piqa",), {"average": None, "arc_challenge": 50.0})
    told["n-shot"]["arc_challenge"] = 0
    with pytest.raises(UserError, match="arc_challenge was run with 0 shots, and open-llm-1 asks it with 25"):
        put(store, write(tmp_path / "r.json", told), benchmark="open-llm-1")
    (mini,) = put(store, tmp_path / "r.json", benchmark="open-llm-mini")
    assert (mini.benchmark, mini.missing) == ("open-llm-mini", ("hellaswag", "mmlu", "truthfulqa_mc2"))


def test_samples_within_results_are_rows_too(store: Store, tmp_path: Path) -> None:
    samples = {"arc_challenge": rows("arc_challenge", 1.0, 0.0)}
    (done,) = put(store, write(tmp_path / "r.json", {**results(samples), "samples": samples}))
    assert done.samples == 2
    assert "samples" not in store.run(done.run).environment["lm_eval_results"][0]


def test_rows_of_early_releases_have_their_filter_by_their_place(store: Store, tmp_path: Path) -> None:
    both = gsm8k_rows(1.0, 0.0)
    told = results({"gsm8k": both}, task_hashes=None)
    told["configs"]["gsm8k"]["filter_list"] = [{"name": "strict-match"}, {"name": "flexible-extract"}]
    bare = [{key: value for key, value in row.items() if key not in ("filter", "metrics")} for row in both]
    path = tmp_path / "pretrained__m_gsm8k.jsonl"
    path.write_text(json.dumps(bare, indent=2))  # a list, whatever its name says
    (done,) = put(store, write(tmp_path / "results.json", told), path)
    assert scores(store, done.run)["gsm8k"] == 50.0
    with pytest.raises(UserError, match=r"row 3: document 0 stands there again, and no row tells its filter"):
        put(store, path, benchmark="open-llm-1")


def test_only_filter_of_the_first_gsm8k_is_the_strict_one(store: Store, tmp_path: Path) -> None:
    told = results({"gsm8k": gsm8k_rows(1.0)})
    told["results"]["gsm8k"] = {"exact_match,get-answer": 0.25, "exact_match_stderr,get-answer": 0.01}
    (done,) = put(store, write(tmp_path / "r.json", told))
    assert scores(store, done.run)["gsm8k"] == 25.0


def test_a_mistake_is_one_sentence_with_file_line_and_key(store: Store, tmp_path: Path) -> None:
    good = rows("arc_challenge", 1.0, 0.0)
    told = results({"arc_challenge": good})
    bad_number = results({"arc_challenge": good})
    bad_number["results"]["arc_challenge"]["acc_norm,none"] = "high"
    no_metric = results({"arc_challenge": good})
    del no_metric["results"]["arc_challenge"]["acc_norm,none"]
    nameless = results({"arc_challenge": good}, model_name=None, config={})
    unshot = results({"arc_challenge": good}, configs={}, **{"n-shot": {}})
    contradiction = [*good, scored_row(0, {"acc": 0.5, "acc_norm": 0.0}, task="arc_challenge")]
    mistakes = {
        "results.arc_challenge.acc_norm,none: expected a number, found 'high'": [bad_number],
        "results.arc_challenge has no acc_norm,none, only acc,none": [no_metric],
        "tells no model .* name it with --model": [nameless],
        "tells no number of shots of arc_challenge": [unshot],
        "0.json: results: .*valid dictionary": [{"results": [1]}],
        "0.json: holds no task's results": [{"results": {}}],
        "0.json: expected lm-eval's results .* found no rows": ["[]"],
        "0.json line 1: expected lm-eval's results .* found question_id": [[{"question_id": 1}]],
        r"0.json line 1: doc_id: .*valid integer, found 'x'": [[{"doc_id": "x", "acc": 1}]],
        "1.json line 2: acc_norm: expected a number, or a list of them, found 'yes'": [
            told,
            [good[0], {**good[1], "acc_norm": "yes"}],
        ],
        "1.json line 3: another row of document 0 tells another acc_norm": [{**told, "task_hashes": {}}, contradiction],
    }
    for number, (message, contents) in enumerate(mistakes.items()):
        folder = tmp_path / str(number)
        paths = [write(folder / f"{place}.json", content) for place, content in enumerate(contents)]
        with pytest.raises(UserError, match=message):
            put(store, *paths)
    assert store.runs() == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"results": {', "line 1: malformed JSON"),
        (b'{\n "results": {},\n "x": }', "line 3: malformed JSON: Expecting value at column 7"),
        (b'{"doc_id": 0}\n{"doc_id": 1', "line 2: malformed JSON"),
        (b'{"doc_id": 0}\n[1]', "line 2: expected a JSON object"),
        (b'{"doc_id": 0}\n\xff', "line 2: is not UTF-8 text"),
        (b"\x1f\x8bnot really", "is not a whole gzip file"),
        (b"3", "expected lm-eval's results .* found int"),
        (b"", "line 1: malformed JSON: Expecting value"),
        (b"[" * 100_000, "malformed JSON"),
    ],
)
def test_a_broken_file_is_named(content: bytes, message: str, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"f.json:? ?{message}"):
        put(store, path)


def test_a_name_that_the_files_tell_is_not_replaced(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "r.json", results({"arc_challenge": rows("arc_challenge", 1.0)}))
    with pytest.raises(UserError, match=r"r.json: is of model org/m, not of n; leave out --model"):
        put(store, path, model="n")
