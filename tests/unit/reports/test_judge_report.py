"""What is told of a judge: from stores made by hand, from GPT-4's real grades, and beside FastChat's own agreement."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from fastchat.llm_judge import compute_agreement
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.mt_bench import MtBench
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.interop.fastchat_import import read_fastchat
from zephyr_bench.interop.imported_runs import add_to_store
from zephyr_bench.records import Answer, Judgment, Match, Question
from zephyr_bench.reports.judge_report import render_judges
from zephyr_bench.stats.intervals import wilson_interval
from zephyr_bench.store import RunStart, Store

Row = dict[str, Any]
Told = tuple[Match, float | None]


def answers(model: str, question: str, text: str | None = "so") -> tuple[Question, tuple[Answer, ...]]:
    asked = Question(question, "writing", (f"{question}?",))
    return asked, (Answer(fingerprint([model, question]), model, question, 1, text),)


def grade(model: str, question: str, score: float | None, text: str | None = "so", replicate: int = 0) -> Told:
    asked, own = answers(model, question, text)
    return Match(asked, 1, own, replicate=replicate), score


def pair(
    one: str, other: str, question: str, first: float | None, second: float | None, replicate: int = 0
) -> list[Told]:
    """Both orders; each score is for the answer in the first place. A model's text is its name."""
    (asked, own), (_, rival) = answers(one, question, one), answers(other, question, other)
    orders = ((own, rival, first), (rival, own, second))
    return [(Match(asked, 1, ahead, behind, replicate), score) for ahead, behind, score in orders]


def put(
    store: Store,
    told: Iterable[Told],
    *,
    judge: str = "gpt-4",
    version: str = "1",
    run_judge: str | None = None,
    benchmark: str = "mt-bench",
    protocol: Mapping[str, Any] | None = None,
) -> None:
    """A run with these judgments; of another judge's run where `run_judge` is given, as a jury's is."""
    store.put_model(fingerprint=fingerprint("m"), name="m", location="somewhere")
    run = store.start_run(
        RunStart(
            benchmark=benchmark,
            model="m",
            model_fingerprint=fingerprint("m"),
            engine_fingerprint=fingerprint("engine"),
            judge=run_judge or judge,
            judge_fingerprint=fingerprint([run_judge or judge, version]),
            protocol=dict(protocol or {}),
        )
    )
    for match, score in told:
        run.add_answers((match.question, answer) for answer in (*match.answers, *(match.rival or ())))
        reason = None if score is not None else "no verdict"
        run.add_judgments([(match, Judgment(match.key(fingerprint([judge, version])), judge, score, reason, "reply"))])
    run.finish("complete", [])


def report(store: Store, judge: str = "gpt-4", **options: Any) -> Row:
    (found,) = json.loads(render_judges(store, format="json", judge=judge, **options))
    return dict(found)


def measure(store: Store, name: str, judge: str = "gpt-4", **options: Any) -> Row | None:
    found: Row | None = report(store, judge, **options)["measures"][name]
    return found


def value(store: Store, name: str, judge: str = "gpt-4", **options: Any) -> tuple[float | None, int]:
    found = measure(store, name, judge, **options)
    assert found is not None
    return found["value"], found["n"]


def lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def vote(a: str, b: str, winner: str, question: int | str = 81, judge: str = "expert_0", turn: int = 1) -> Row:
    return {"question_id": question, "model_a": a, "model_b": b, "winner": winner, "judge": judge, "turn": turn}


def test_judgments_without_a_score_are_counted_with_their_reasons(store: Store) -> None:
    put(store, [grade("m", "1", 7), grade("m", "2", None), grade("m", "3", None), grade("m", "4", 2)])
    found = report(store)
    assert found["judgments"] == 4
    assert found["reasons"] == {"no verdict": 2}
    low, high = wilson_interval(2, 4)
    expected = {"value": 50.0, "n": 4, "count": 2, "low": pytest.approx(100 * low), "high": pytest.approx(100 * high)}
    assert found["measures"]["parse-failure rate"] == expected


def test_anchors_of_a_gate_are_no_repeats_of_the_judges(store: Store) -> None:
    """They are asked on another day, to see whether the judge moved; nor do they count as judgments."""
    put(store, [grade("m", "1", 7), grade("m", "2", 5)])
    before = report(store)
    put(store, [grade("m", "1", 3, replicate=1_000_007)], protocol={"drift": {"candidate": "c", "baseline": "b"}})
    assert report(store) == before


def test_a_judgment_of_several_runs_counts_once(store: Store) -> None:
    for _ in range(2):
        put(store, [grade("m", "1", 7), grade("m", "2", 5)])
    assert report(store)["judgments"] == 2


def test_pairs_fall_into_the_papers_kinds(store: Store) -> None:
    kinds = [(1, 0), (0.5, 0.5), (1, 1), (1, 1), (0, 0), (1, 0.5), (0.5, 0), (None, 1), (None, None)]
    put(store, [told for number, both in enumerate(kinds) for told in pair("a", "b", str(number), *both)])
    assert {name: (measure(store, name) or {})["count"] for name in POSITION} == {
        "consistent in both orders": 2,
        "first place in both orders": 2,
        "second place in both orders": 1,
        "tie in one order only": 2,
        "no verdict in an order": 2,
        "first place preferred where inconsistent": 3,
    }
    assert value(store, "first place preferred where inconsistent") == (60.0, 5), "(1, 0.5) leans there, (0.5, 0) not"


POSITION = (
    "consistent in both orders",
    "first place in both orders",
    "second place in both orders",
    "tie in one order only",
    "no verdict in an order",
    "first place preferred where inconsistent",
)
SCORES = st.none() | st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=12))
def test_kinds_of_pairs_add_up_to_all_pairs(both: list[tuple[float | None, float | None]]) -> None:
    with Store("sqlite:///:memory:") as store:
        put(store, [told for number, scores in enumerate(both) for told in pair("a", "b", str(number), *scores)])
        measures = report(store)["measures"]
    kinds = [measures[name] for name in POSITION[:-1]]
    assert {kind["n"] for kind in kinds} == {len(both)}
    assert sum(kind["count"] for kind in kinds) == len(both)
    leaning = measures[POSITION[-1]]
    assert (leaning or {"n": 0})["n"] == sum(kind["count"] for kind in kinds[1:4])


def test_one_order_alone_tells_nothing_of_the_place(store: Store) -> None:
    put(store, [pair("a", "b", "1", 1, 0)[0]])
    assert [measure(store, name) for name in POSITION] == [None] * 6


def test_length_is_correlated_where_the_text_is_known(store: Store) -> None:
    texts = [("a", "1", 2, "x" * 900), ("b", "1", 3, "x" * 950), ("a", "2", 8, "x" * 80), ("b", "2", 9, "x" * 90)]
    put(store, [grade(model, q, score, text) for model, q, score, text in texts] + [grade("c", "1", 10, None)])
    expected = stats.spearmanr([900, 950, 80, 90], [2, 3, 8, 9]).statistic
    assert value(store, "length correlation") == (pytest.approx(expected), 4)
    assert value(store, "length correlation within question") == (pytest.approx(1), 2)


def test_questions_of_one_id_and_other_texts_are_two(store: Store) -> None:
    put(store, [grade("a", "1", 2, "x"), grade("b", "1", 3, "xx")])
    asked = Question("1", "writing", ("something else?",))
    other = Answer(fingerprint("other"), "c", "1", 1, "xxx")
    put(store, [(Match(asked, 1, (other,)), 1)], benchmark="own")
    assert value(store, "length correlation within question") == (pytest.approx(1), 1)
    assert value(store, "length correlation") == (pytest.approx(-0.5), 3)


def test_an_undefined_correlation_is_no_number_but_has_its_n(store: Store) -> None:
    put(store, [grade("a", "1", 5, "x"), grade("b", "1", 5, "xx")])
    assert value(store, "length correlation") == (None, 2)
    row = next(line for line in render_judges(store, format="table").splitlines() if "length correlation  " in line)
    assert row.split() == ["length", "correlation", "-", "2"]


def test_the_longer_answer_wins_as_both_orders_say(store: Store) -> None:
    told = [
        *pair("long", "s", "1", 1, 0),
        *pair("s", "long", "2", 0, 1),
        *pair("s", "long", "3", 1, 0),
        *pair("s", "long", "4", 1, 1),  # with its place: a tie, not decided
        *pair("s", "t", "5", 1, 0),  # of one length
    ]
    put(store, told)
    assert value(store, "longer answer wins") == (pytest.approx(200 / 3), 3)


def test_repeats_tell_how_steady_a_judge_is(store: Store) -> None:
    repeats = {"1": (5, 7), "2": (4, 4), "3": (9, None), "4": (6,)}
    told = [grade("a", q, score, replicate=r) for q, scores in repeats.items() for r, score in enumerate(scores)]
    told += [*pair("a", "b", "5", 1, 0), *pair("a", "b", "5", 1, 1, replicate=1)]
    put(store, told)
    assert value(store, "standard deviation of repeated grades") == (pytest.approx(2**0.5 / 2), 2)
    assert value(store, "repeated grades all equal") == (50.0, 2)
    assert value(store, "repeated verdicts all equal") == (50.0, 2), "one order stays, the other changes"
    assert (measure(store, "consistent in both orders") or {})["count"] == 1, "each repeat is a pair"


def test_judges_are_compared_on_what_both_judged(store: Store) -> None:
    put(store, [grade("a", str(number), number) for number in range(6)] + pair("a", "b", "9", 1, 0))
    put(store, [grade("a", str(number), 9 - number) for number in range(3, 9)], judge="claude")
    put(store, [*pair("b", "a", "9", 0, 1), *pair("b", "a", "10", 1, 0)], judge="human")
    agreement = {entry.pop("judge"): entry for entry in report(store)["agreement"]}
    nothing = {"count": None, "low": None, "high": None}
    assert agreement == {
        "claude": {
            "rank correlation of grades": {"value": pytest.approx(-1), "n": 3, **nothing},
            "kappa of verdicts": None,
        },
        "human": {"rank correlation of grades": None, "kappa of verdicts": {"value": 1.0, "n": 1, **nothing}},
    }


def test_kappa_does_not_hang_on_who_is_named_first(store: Store) -> None:
    """One model always wins, and both judges say so: not chance, though each has one verdict alone by its name."""
    for judge in ("gpt-4", "claude"):
        put(store, [told for q in "123" for told in pair("strong", "weak", q, 1, 0)], judge=judge)
    assert report(store)["agreement"][0]["kappa of verdicts"]["value"] == 1


def test_alpha_is_over_all_judges_but_juries(store: Store) -> None:
    for judge, scores in {"gpt-4": (1, 2, 3, 4), "claude": (1, 2, 3, 5)}.items():
        told = [grade("a", str(number), score) for number, score in enumerate(scores)]
        put(store, told, judge=judge, run_judge="jury")
    put(store, [grade("a", str(number), 3) for number in range(4)], judge="jury")
    found = {judge: value(store, "alpha of grades, all judges", judge) for judge in ("gpt-4", "claude", "jury")}
    (alpha, n), *others = found.values()
    assert others == [(alpha, n)] * 2
    assert n == 4
    assert alpha == pytest.approx(1 - 7 * 1 / (8 * sum(v * v for v in (1, 2, 3, 4, 1, 2, 3, 5)) - 21**2))
    assert measure(store, "alpha of verdicts, all judges") is None


def test_versions_of_a_judge_are_judges_of_their_own(store: Store) -> None:
    put(store, [grade("a", "1", 5), grade("a", "2", 6)], version="1")
    put(store, [grade("a", "1", 9), grade("a", "2", 3)], version="2")
    first, second = json.loads(render_judges(store, format="json", judge="gpt-4"))
    assert {first["judge"], second["judge"]} == {
        f"gpt-4@{fingerprint(['gpt-4', version]).removeprefix('sha256:')[:8]}" for version in "12"
    }
    assert first["measures"]["repeated grades all equal"] is None
    assert first["agreement"][0]["rank correlation of grades"]["n"] == 2
    assert report(store, first["judge"]) == first


def test_a_jurys_member_is_the_judge_that_also_judged_alone(store: Store) -> None:
    put(store, [grade("a", "1", 5)])
    put(store, [grade("a", "1", 5), grade("a", "2", 6)], run_judge="jury")
    assert [found["judge"] for found in json.loads(render_judges(store, format="json"))] == ["gpt-4"]
    assert report(store)["judgments"] == 2


def test_human_votes_are_met_in_either_order_and_by_grades_where_no_pair_is(store: Store, tmp_path: Path) -> None:
    put(store, pair("a", "b", "81", 1, 0) + pair("a", "b", "82", 1, 1))
    put(store, [grade("a", "83", 5), grade("b", "83", 7), grade("a", "84", 4), grade("b", "84", 4)])
    put(store, [grade("a", "81", 1), grade("b", "81", 10)])  # outdone by the pair's verdict
    votes = [
        vote("a", "b", "model_a"),  # agreed
        vote("b", "a", "model_b"),  # agreed
        vote("b", "a", "model_a"),  # not
        vote("a", "b", "tie", 82),  # agreed: an inconsistent verdict is a tie
        vote("a", "b", "model_a", 82),  # not, and not decided by the judge
        vote("b", "a", "model_a", 83),  # agreed, by grades
        vote("a", "b", "tie (bothbad)", 84),  # agreed, by grades
        vote("a", "b", "model_a", 81, turn=2),  # never judged
        vote("a", "c", "model_a", 81),
        vote("a", "b", "model_a", judge="author_0"),
    ]
    humans = lines(tmp_path / "human.jsonl", votes)
    found = report(store, humans=humans)
    assert found["human_votes"] == {"in_file": 10, "by_verdict": 6, "by_grades": 2}
    assert value(store, "agreement with humans (S1, ties included)", humans=humans) == (pytest.approx(500 / 7), 7)
    assert value(store, "agreement with humans (S2, no ties)", humans=humans) == (75.0, 4)
    assert value(store, "agreement with authors (S1, ties included)", humans=humans) == (100.0, 1)
    assert value(store, "kappa with humans (S2, no ties)", humans=humans) == (pytest.approx(0.5), 4)
    note = "of 10 human votes, 6 are of pairs that it compared, 2 of answers that it graded one by one"
    assert note in render_judges(store, format="table", humans=humans)


@settings(max_examples=40, deadline=None)
@given(
    judged=st.dictionaries(st.integers(81, 84), st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * 2), min_size=1),
    votes=st.lists(
        st.tuples(st.integers(81, 84), st.booleans(), st.sampled_from(["model_a", "model_b", "tie"])), min_size=1
    ),
)
def test_agreement_with_humans_is_fastchats(
    tmp_path_factory: pytest.TempPathFactory,
    judged: dict[int, tuple[float, float]],
    votes: list[tuple[int, bool, str]],
) -> None:
    human = [vote(*(("b", "a") if turned else ("a", "b")), winner, question) for question, turned, winner in votes]
    ours = [
        {**vote("a", "b", _fastchats(*both), question), "judge": ["gpt-4", "pair-v2"]}
        for question, both in judged.items()
    ]
    data = compute_agreement.get_mt_bench_votes_data([ours, human])[0]
    with Store("sqlite:///:memory:") as store:
        put(store, [told for question, both in judged.items() for told in pair("a", "b", str(question), *both)])
        humans = lines(tmp_path_factory.mktemp("votes") / "human.jsonl", human)
        measures = report(store, humans=humans)["measures"]
    for setup, ban in (("S1, ties included", []), ("S2, no ties", ["tie"])):
        agreed, n = compute_agreement.get_mt_bench_agreement(data, "gpt4-pair", "human", ban)
        found = measures[f"agreement with humans ({setup})"]
        assert (agreed, n) == ((0, 0) if found is None else (found["count"], found["n"]))


def _fastchats(first: float, second: float) -> str:
    """What FastChat makes of both orders for the model named first."""
    if first == 1 - second:
        return {1.0: "model_a", 0.5: "tie", 0.0: "model_b"}[first]
    return "tie (inconsistent)"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"winner": "a"}, "line 2: winner: Input should be 'model_a', 'model_b' or 'tie', found 'a'"),
        ({"turn": "1"}, "line 2: turn: Input should be a valid integer, found '1'"),
        ({"model_b": "a"}, "line 2: model_a and model_b are both 'a'"),
        ({"model_a": None}, "line 2: model_a: Input should be a valid string, found None"),
    ],
)
def test_a_line_that_is_no_vote_is_named(store: Store, tmp_path: Path, change: Row, told: str) -> None:
    good = vote("a", "b", "tie")
    with pytest.raises(UserError, match=told):
        render_judges(store, format="json", humans=lines(tmp_path / "human.jsonl", [good, {**good, **change}]))


def test_a_missing_key_and_an_empty_file_are_named(store: Store, tmp_path: Path) -> None:
    row = vote("a", "b", "tie")
    del row["winner"]
    with pytest.raises(UserError, match="line 1: key 'winner' is missing"):
        render_judges(store, format="json", humans=lines(tmp_path / "human.jsonl", [row]))
    with pytest.raises(UserError, match="holds no votes"):
        render_judges(store, format="json", humans=lines(tmp_path / "human.jsonl", []))


def test_unknown_names_are_answered_with_close_ones(store: Store) -> None:
    put(store, [grade("a", "1", 5)])
    with pytest.raises(UserError, match=r"no judgments by 'gpt4'\. Did you mean gpt-4\?"):
        render_judges(store, format="json", judge="gpt4")
    with pytest.raises(UserError, match=r"no run of 'mtbench'\. Did you mean mt-bench\?"):
        render_judges(store, format="json", benchmark="mtbench")


def test_a_store_without_judgments_has_none_to_show(store: Store) -> None:
    assert json.loads(render_judges(store, format="json")) == []
    with pytest.raises(UserError, match="no judgments yet"):
        render_judges(store, format="table")


def test_one_benchmark_can_be_asked_for(store: Store) -> None:
    put(store, [grade("a", "1", 5)])
    put(store, [grade("a", "2", 5), grade("a", "3", 6)], benchmark="own")
    assert report(store, benchmark="own")["judgments"] == 2
    assert report(store)["judgments"] == 3


def test_people_see_only_what_the_store_tells_and_machines_every_measure(store: Store) -> None:
    put(store, [grade("a", "1", 5), grade("a", "2", 7, "longer"), grade("a", "3", None)], judge="j|1")
    put(store, [grade("a", "1", 5)], judge="claude")
    text = render_judges(store, format="markdown", judge="j|1")
    assert text.startswith("j\\|1: 3 judgments\n")
    names = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("| ")]
    told = ["parse-failure rate", "length correlation", "alpha of grades, all judges"]
    with_claude = ["rank correlation of grades with claude", "kappa of verdicts with claude"]
    assert names == ["measure", ":---", *told, with_claude[0]]
    assert "33.33 % (6.15 to 79.23)" in text
    assert "1 without a score: no verdict" in text
    rows = list(csv.DictReader(io.StringIO(render_judges(store, format="csv", judge="j|1"))))
    measures = report(store, "j|1")["measures"]
    assert [row["measure"] for row in rows] == [*measures, *with_claude]
    assert [row["measure"] for row in rows if row["n"]] == names[2:]
    assert [name for name, found in measures.items() if found] == told


def mt_bench() -> MtBench:
    benchmark = open_benchmark("mt-bench")
    assert isinstance(benchmark, MtBench)
    return benchmark


def test_gpt_4s_real_grades(store: Store, real_mt_bench: Path) -> None:
    """Every number again from the raw rows."""
    files = [*real_mt_bench.glob("orpo_*.gz"), *real_mt_bench.glob("*.answers.jsonl.gz")]
    add_to_store(store, read_fastchat(files, mt_bench()))
    rows = [json.loads(line) for file in files for line in gzip.decompress(file.read_bytes()).splitlines()]
    texts = {(row["model_id"], row["question_id"]): row["choices"][0]["turns"] for row in rows if "choices" in row}
    scores: dict[tuple[str, int, int], list[float]] = {}
    judgments = [row for row in rows if "score" in row]
    for row in judgments:
        if row["score"] != -1:
            scores.setdefault((row["model"], row["question_id"], row["turn"]), []).append(row["score"])
    graded = {
        (model, question, turn): (len(texts[model, question][turn - 1]), sum(found) / len(found))
        for (model, question, turn), found in scores.items()
    }
    found = report(store)
    measures = found["measures"]
    failures = sum(row["score"] == -1 for row in judgments)
    assert (found["judgments"], sum(found["reasons"].values())) == (len(judgments), failures) == (800, 1)
    assert measures["parse-failure rate"]["count"] == failures

    overall = stats.spearmanr(*zip(*graded.values(), strict=True)).statistic
    assert (measures["length correlation"]["value"], measures["length correlation"]["n"]) == (
        pytest.approx(overall),
        len(graded),
    )
    of_question: dict[tuple[int, int], list[tuple[int, float]]] = {}
    for (_, question, turn), point in graded.items():
        of_question.setdefault((question, turn), []).append(point)
    varying = [points for points in of_question.values() if len({score for _, score in points}) > 1]
    within = [stats.spearmanr(*zip(*points, strict=True)).statistic for points in varying]
    assert (measures["length correlation within question"]["value"], len(within)) == (
        pytest.approx(sum(within) / len(within)),
        measures["length correlation within question"]["n"],
    )
    twice = [found for found in scores.values() if len(found) == 2]
    equal = sum(one == other for one, other in twice)
    spread = sum(abs(one - other) / 2**0.5 for one, other in twice) / len(twice)
    assert measures["standard deviation of repeated grades"]["value"] == pytest.approx(spread)
    assert (measures["repeated grades all equal"]["count"], measures["repeated grades all equal"]["n"]) == (
        equal,
        len(twice),
    )
    assert measures["consistent in both orders"] is None


def test_gpt_4s_real_grades_as_pairs(store: Store, real_mt_bench: Path, tmp_path: Path) -> None:
    """One model was judged twice: against the others each judging stands for an order, so that some pairs disagree."""
    raw = gzip.decompress((real_mt_bench / "orpo_gpt-4_single.jsonl.gz").read_bytes()).splitlines()
    grades: dict[str, dict[tuple[int, int], list[float]]] = {}
    for row in map(json.loads, raw):
        grades.setdefault(row["model"], {}).setdefault((row["question_id"], row["turn"]), []).append(row["score"])

    def winner(one: float, other: float) -> str:
        if -1 in (one, other):
            return "error"
        return "tie" if one == other else "model_1" if one > other else "model_2"

    rows = [
        {
            "question_id": question,
            "model_1": one,
            "model_2": other,
            "g1_winner": winner(grades[one][question, turn][0], grades[other][question, turn][0]),
            "g2_winner": winner(grades[one][question, turn][-1], grades[other][question, turn][-1]),
            "judge": ["gpt-4", "pair-v2"],
            "g1_judgment": "",
            "g2_judgment": "",
            "turn": turn,
        }
        for one, other in combinations(sorted(grades), 2)
        for question, turn in grades[one]
    ]
    path = lines(tmp_path / "gpt-4_pair.jsonl", rows)
    add_to_store(store, read_fastchat([path, *real_mt_bench.glob("*.answers.jsonl.gz")], mt_bench()))
    kinds = Counter((row["g1_winner"], row["g2_winner"]) for row in rows)
    errors = sum(times for both, times in kinds.items() if "error" in both)
    same = sum(times for (one, other), times in kinds.items() if one == other != "error")
    measures = report(store)["measures"]
    assert [measures[name]["count"] for name in POSITION[:-1]] == [
        same,
        kinds["model_1", "model_2"],
        kinds["model_2", "model_1"],
        len(rows) - same - errors - kinds["model_1", "model_2"] - kinds["model_2", "model_1"],
        errors,
    ]
    leaning = sum(kinds[both] for both in [("model_1", "model_2"), ("model_1", "tie"), ("tie", "model_2")])
    assert measures[POSITION[-1]]["count"] == leaning
    assert measures[POSITION[-1]]["n"] == len(rows) - same - errors > 0 < errors
    assert report(store)["judgments"] == 2 * len(rows)
