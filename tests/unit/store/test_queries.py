"""Runs found by what is true of them, what goes with them, and their scores as data frames."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from conftest_store import answer, begin, judgment, question, run_start, sql
from hypothesis import given
from hypothesis import strategies as st

from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import Match, SampleScore, Score
from zephyr_bench.store import RunInfo, RunStart, Store, schema
from zephyr_bench.store.where import FIELDS, Not, Term, holds, parse_where

RUNS: list[tuple[str, dict[str, Any]]] = [
    ("base", {"benchmark": "mt-bench", "judge": "gpt-4", "created": "2026-10-31T23:59:59.999999Z"}),
    (
        "smol-dsft",
        {"recipe": "smol", "stage": "dsft", "benchmark": "mt-bench", "created": "2026-11-01T00:00:00.000000Z"},
    ),
    (
        "smol-ddpo",
        {"recipe": "smol", "stage": "ddpo", "benchmark": "open-llm-1", "judge": None, "tags": ("nightly", "best")},
    ),
    ("z-ddpo", {"recipe": "zephyr7b", "stage": "ddpo", "benchmark": "mt-bench", "seed": 7, "tags": ("nightly",)}),
    (
        "Z B",
        {"recipe": "zephyr7b", "stage": "ddpo", "protocol": {"limit": 5, "rivals": ["a b", "c"]}, "status": "failed"},
    ),
]


@pytest.fixture
def filled(store: Store, url: str) -> Store:
    for model, about in RUNS:
        lineage = {key: about[key] for key in ("recipe", "stage") if key in about}
        if lineage:
            lineage |= {"steps": 14, "versions": {"zephyr-bench": "0.1.0"}}
        store.put_model(fingerprint=fingerprint(model), name=model, location="", lineage=lineage)
        start = replace(
            run_start(model, benchmark=about.get("benchmark", "alpaca-eval-1")),
            judge=about.get("judge", "rubric"),
            protocol=about.get("protocol", {"limit": None, "chat_template": True, "shots": 0.5}),
            seed=about.get("seed", 0),
        )
        run = store.start_run(start)
        run.finish(about.get("status", "complete"), [])
        for tag in about.get("tags", ()):
            store.tag(run.id, tag)
    for model, about in RUNS:
        if "created" in about:
            sql(url, "UPDATE runs SET created = :at WHERE model = :model", at=about["created"], model=model)
    sql(url, "UPDATE runs SET version = '0.10.0' WHERE model = 'Z B'")
    return store


def found(store: Store, where: str) -> list[str]:
    order = [model for model, _ in RUNS]
    return sorted((run.model for run in store.runs(where=where)), key=order.index)


FOUND = [
    ("recipe=smol", ["smol-dsft", "smol-ddpo"]),
    ("recipe=zephyr7b and benchmark=mt-bench", ["z-ddpo"]),
    ("recipe = zephyr7b AND benchmark = 'mt-bench'", ["z-ddpo"]),
    ("stage=ddpo and not (tag=nightly or judge=gpt-4)", ["Z B"]),
    ("stage!=ddpo", ["base", "smol-dsft"]),
    ("recipe=none", ["base"]),
    ("judge=none", ["smol-ddpo"]),
    ("judge!=none and judge!=rubric", ["base"]),
    ("judge!=rubric", ["base", "smol-ddpo"]),
    ("not judge=rubric", ["base", "smol-ddpo"]),
    ("tag=nightly", ["smol-ddpo", "z-ddpo"]),
    ("tag=nightly and tag!=best", ["z-ddpo"]),
    ("tag~NIGHT", ["smol-ddpo", "z-ddpo"]),
    ("tag=none", ["base", "smol-dsft", "Z B"]),
    ("status=failed", ["Z B"]),
    ("status!=complete", ["Z B"]),
    ("created<2026-11", ["base"]),
    ("created<=2026-10-31", ["base"]),
    ("created=2026-11-01", ["smol-dsft"]),
    ("created>=2026-11-01 and created<2026-11-02", ["smol-dsft"]),
    ("not created>2026-10", ["base"]),
    ("created>'2026-10-31 23:59' and created<=2026-11-01T00", ["smol-dsft"]),
    ("seed=7 or seed<0", ["z-ddpo"]),
    ("seed>99999999999999999999", []),
    (f"version<{'9' * 5000} and seed=7", ["z-ddpo"]),
    ("model~'[sz]-ddpo'", []),
    ("model~'[sz]*'", []),
    ("version>0.9", ["Z B"]),
    ("version<0.9.5 and benchmark=open-llm-1", ["smol-ddpo"]),
    ("version=0.10.0", ["Z B"]),
    ("model='Z B'", ["Z B"]),
    ('model="Z B"', ["Z B"]),
    ("model~DDPO", ["smol-ddpo", "z-ddpo"]),
    ("model~smol-*", ["smol-dsft", "smol-ddpo"]),
    ("model~?-ddpo", ["z-ddpo"]),
    (f"model={fingerprint('base')}", ["base"]),
    (f"model=base@{fingerprint('base')[7:15]}", ["base"]),
    ("benchmark~mt and benchmark~'*bench'", ["base", "smol-dsft", "z-ddpo"]),
    ("protocol.limit=5", ["Z B"]),
    ("protocol.limit>4.5", ["Z B"]),
    ("protocol.limit=none", ["base", "smol-dsft", "smol-ddpo", "z-ddpo"]),
    ("protocol.rivals=c", ["Z B"]),
    ("protocol.rivals~'a b'", ["Z B"]),
    ("protocol.chat_template=true and protocol.shots<=0.5 and seed=7", ["z-ddpo"]),
    ("lineage.steps>10 and stage=dsft", ["smol-dsft"]),
    ("lineage.versions.zephyr-bench=0.1.0 and stage=dsft", ["smol-dsft"]),
    ("environment.python=3 and seed=7", ["z-ddpo"]),
    ("benchmark<b", ["Z B"]),
    ("not not seed=7", ["z-ddpo"]),
]


def test_runs_are_found_by_what_is_true_of_them(filled: Store) -> None:
    assert {where: found(filled, where) for where, _ in FOUND} == dict(FOUND)


def test_an_id_is_known_by_its_beginning(filled: Store) -> None:
    run = filled.runs()[0]
    assert [other.id for other in filled.runs(where=f"id={run.id}")] == [run.id]
    assert len(filled.runs(where=f"id={run.id[:8]}")) == len(RUNS)


def test_filters_join_and_keep_the_order(filled: Store) -> None:
    whole = [run.id for run in filled.runs()]
    assert [run.id for run in filled.runs(where="seed>=0")] == whole
    assert [run.model for run in filled.runs(where="recipe=smol", benchmark="mt-bench")] == ["smol-dsft"]
    assert [run.model for run in filled.runs(tagged=["nightly", "best"])] == ["smol-ddpo"]
    assert filled.runs(tagged=["nigthly"]) == filled.runs(tagged=["nigthly", "best"]) == []
    assert [run.model for run in filled.runs(where="seed>=0", status="failed")] == ["Z B"]
    assert [run.id for run in filled.runs(where="seed>=0", limit=2)] == whole[:2]


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("", "position 1: expected a test such as recipe=zephyr7b, found the end"),
        ("recipy=x", r"position 1: unknown field 'recipy'\. Did you mean recipe\? Known are id, recipe, stage"),
        ("seed=1 and (recipe=x", r"position 21: expected 'and', 'or' or '\)', found the end"),
        ("recipe=x)", r"position 9: expected 'and', 'or' or the end, found '\)'"),
        ("recipe=x recipe=y", "position 10: expected 'and', 'or' or the end, found 'recipe'"),
        ("recipe", "position 7: expected one of .* after recipe, found the end"),
        ("recipe= and", "position 9: expected a value after recipe=, found 'and'"),
        ("recipe==x", "position 8: expected a value after recipe=, found '='"),
        ("and seed=1", "position 1: expected a test"),
        ("seed=1 or 'x'=2", "position 11: expected a test"),
        ("recipe='x", "position 8: the quote is not closed"),
        ("seed ! 1", "position 6: '!' stands alone"),
        ("seed=one", "position 1: seed=one: expected a whole number"),
        ("created=november", "expected a date or the beginning of one"),
        ("status=complet", "no such status. Did you mean complete"),
        ("tag<x", "a tag has no order"),
        ("judge<none", "what is missing has no order"),
        ("id=''", "expected an id"),
        ("protocol=1", "protocol has fields of its own"),
        ("model.x=1", "unknown field 'model.x'"),
        ("(" * 60 + "seed=1" + ")" * 60, "position 52: expected no more than 50 parentheses"),
    ],
)
def test_a_mistake_is_told_with_its_position(where: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        parse_where(where)


def test_what_no_run_tells_is_a_mistake_and_no_run(filled: Store) -> None:
    """Its opposite would be true of all of them."""
    with pytest.raises(UserError, match=r"position 5: no run tells protocol.limti\. Did you mean protocol.limit"):
        filled.runs(where="not protocol.limti=5")
    with pytest.raises(UserError, match=r"position 15: no run tells lineage.setps\. Did you mean lineage.steps"):
        filled.runs(where="seed=1 or not lineage.setps=14")


def test_an_empty_store_has_no_run_of_any_kind(store: Store) -> None:
    assert store.runs(where="protocol.limit=5") == []


_WORDS = st.one_of(st.sampled_from(["none", "and", "or", "not", "a b", "(", "'", "~", ""]), st.text(max_size=6))


@given(
    field=st.sampled_from(["benchmark", "model", "judge", "protocol.x"]), value=_WORDS, operator=st.sampled_from("=~")
)
def test_any_text_between_quotes_is_the_value(field: str, value: str, operator: str) -> None:
    quote = '"' if "'" in value else "'"
    if quote in value:
        value = value.replace(quote, "")
    tree = parse_where(f"not ({field}{operator}{quote}{value}{quote})")
    assert tree == Not(Term(field, operator, value, True, 6))


@given(st.text(max_size=40))
def test_any_text_is_a_tree_or_a_users_mistake(text: str) -> None:
    try:
        told = repr(parse_where(text))
    except UserError as error:
        told = str(error)
    assert re.match(r"--where, position \d+: |Term\(|Not\(|Joined\(", told)


@given(
    st.recursive(
        st.sampled_from(["seed=1", "seed=2", "judge=a"]),
        lambda one: st.one_of(
            st.builds("not ({})".format, one),
            st.builds("({}) and {}".format, one, one),
            st.builds("{} or ({})".format, one, one),
        ),
        max_leaves=8,
    ),
    st.integers(1, 2),
    st.sampled_from(["a", None]),
)
def test_words_mean_what_pythons_do(text: str, seed: int, judge: str | None) -> None:
    ours = holds(parse_where(text), lambda test: {"seed": seed, "judge": judge}[test.field])
    assert ours == eval(text.replace("=", "=="), {}, {"seed": seed, "judge": judge, "a": "a"})


def test_sql_narrows_to_no_less_than_python_finds(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random trees find the same runs where SQL narrows and where it lets all through."""
    from sqlalchemy import true

    tests = ["judge=rubric", "judge!=none", "judge=none", "benchmark!=mt-bench", "status=complete", "status=running"]
    tests += [
        "tag=nightly",
        "tag!=best",
        "created>=2026-11-01",
        "created=2026",
        "seed>1",
        "seed!=0",
        "model~z",
        "stage=ddpo",
    ]
    chance = random.Random(1)

    def tree(depth: int) -> str:
        if depth == 0:
            return chance.choice(tests)
        parts = [f"({tree(depth - 1)})" for _ in range(chance.choice([1, 2, 3]))]
        joined = chance.choice([" and ", " or "]).join(parts)
        return chance.choice(["", "not "]) + f"({joined})"

    texts = [tree(chance.choice([1, 2, 3])) for _ in range(150)]
    narrowed = [found(filled, text) for text in texts]
    assert len({tuple(models) for models in narrowed}) > 8
    monkeypatch.setattr("zephyr_bench.store.queries._narrowed", lambda _: true())
    assert [found(filled, text) for text in texts] == narrowed


def test_every_field_can_be_asked_for(filled: Store) -> None:
    for field in FIELDS[:-3]:
        value = {"status": "failed", "created": "2026", "seed": "1"}.get(field, "x")
        filled.runs(where=f"{field}={value} or {field}~{value}")


# what goes with a run


def add(store: Store, model: str, *names: str, rival: str | None = None, judge: str = "rubric") -> str:
    """A complete run whose answers are graded, or compared with a rival's."""
    store.put_model(fingerprint=fingerprint(model), name=model, location="")
    run = store.start_run(replace(run_start(model), judge=judge, judge_fingerprint=fingerprint(judge)))
    for name in names:
        said = answer(name, model=model)
        other = answer(name, model=rival) if rival else None
        match = Match(question(name), 1, (said,), (other,) if other else None)
        verdict = replace(judgment(name)[1], key=match.key(fingerprint(judge)), judge=judge)
        run.add_answers([(question(name), one) for one in (said, other) if one])
        run.add_judgments([(match, verdict)])
        run.add_samples([SampleScore(name, "writing", "score", 7.0, 1)])
    run.finish("complete", [Score("score", 7.0, None, len(names))])
    return run.id


def rows(url: str) -> dict[str, int]:
    tables = ("answers", "judgments", "samples", "scores")
    return {table: sql(url, f"SELECT count(*) FROM {table}")[0][0] for table in tables}


@pytest.mark.parametrize(
    "chosen",
    [
        ["base"],
        ["a"],
        ["a", "b"],
        ["again"],
        ["base", "a", "b"],
        ["other"],
        ["base", "again"],
        ["base", "again", "a", "b", "other"],
    ],
)
def test_a_deletion_tells_exactly_what_goes(store: Store, url: str, chosen: list[str]) -> None:
    made = {
        "base": add(store, "base", "q1", "q2"),
        "a": add(store, "a", "q1", "q2", rival="base"),
        "b": add(store, "b", "q2", rival="base"),
        "again": add(store, "base", "q1", judge="gpt-4"),
        "other": add(store, "base", "q1", "q2", "q3"),
    }
    told = store.deletion([made[name] for name in chosen])
    before = rows(url)
    store.delete(*(made[name] for name in chosen))
    gone = {table: before[table] - number for table, number in rows(url).items()}
    assert gone == {name: getattr(told, name) for name in gone}
    assert told.runs == tuple(made[name] for name in made if name in chosen)


def test_runs_that_use_the_same_stay_whole_and_are_named(store: Store) -> None:
    first, second = add(store, "m", "q1"), add(store, "m", "q1", "q2")
    told = store.deletion([first])
    assert (told.users, told.dependents) == ((second,), ())
    store.delete(first)
    assert len(store.answers_of(second)) == len(store.judgments_of(second)) == 2


def test_who_compares_with_a_run_or_grades_it_again_depends_on_it(store: Store) -> None:
    base = add(store, "base", "q1")
    rival, again = add(store, "a", "q1", rival="base"), add(store, "base", "q1", judge="gpt-4")
    told = {one.run: one.why for one in store.deletion([base]).dependents}
    assert told == {again: "grades its answers again"}, "the later run of base has the answers as well"
    told = {one.run: one.why for one in store.deletion([base, again]).dependents}
    assert told == {rival: "compares with its answers"}
    assert store.deletion([rival]).dependents == store.deletion([again]).dependents == ()
    store.delete(base, again)
    assert len(store.answers_of(rival)) == 2


def test_a_run_that_is_being_written_keeps_all_from_going(store: Store) -> None:
    done, running = add(store, "m", "q1"), begin(store)
    for act in (store.deletion, lambda ids: store.delete(*ids)):
        with pytest.raises(UserError, match="is being written by process"):
            act([done, running.id])
    assert len(store.runs()) == 2


# data frames


def test_scores_are_a_frame_with_a_row_a_metric(filled: Store) -> None:
    run = add(filled, "smol-ddpo", "q1")
    filled.tag(run, "nightly")
    frame = filled.scores(where="recipe=smol")
    (row,) = frame.to_dict("records")
    assert (row["run"], row["model"], row["benchmark"], row["judge"]) == (run, "smol-ddpo", "mt-bench-mini", "rubric")
    assert (row["metric"], row["position"], row["value"], row["n"], row["missing"]) == ("score", 0, 7.0, 1, 0)
    assert (row["recipe"], row["stage"], row["seed"], row["tags"]) == ("smol", "ddpo", 1, ("nightly",))
    assert row["model_fingerprint"] == fingerprint("smol-ddpo")
    assert frame["stderr"].isna().all()
    assert row["created"].isoformat().replace("+00:00", "Z") == filled.run(run).created
    assert (
        len(filled.scores()) == len(filled.scores(benchmark="mt-bench-mini")) == len(filled.scores(metric="score")) == 1
    )
    assert filled.scores(benchmark="mt-bench").empty
    assert filled.scores(tagged=["best"]).empty
    assert filled.scores(model="base").empty


def test_runs_of_a_gate_are_left_out_of_frames_or_told_as_parts(store: Store) -> None:
    whole: dict[str, Any] = {"limit": None, "only": []}
    protocols = {"": whole, "limit": {"limit": 5}, "sequential": {**whole, "sequential": {"seed": 0}}}
    protocols |= {"limit, drift": {"limit": 5, "drift": {"sitting": 0}}, "only": {"only": ["arc"]}}
    for part, protocol in protocols.items():
        store.put_model(fingerprint=fingerprint("m"), name="m", location="x")
        run = store.start_run(replace(run_start("m"), protocol=protocol))
        run.add_samples([SampleScore("q1", "w", "score", 1.0)])
        run.finish("complete", [Score("score", 1.0, None, 1)])
        assert store.run(run.id).part == part
    for frames in (store.scores, store.samples):
        assert list(frames()["part"]) == ["only", "sequential", "limit", ""]
        assert list(frames(drift=True)["part"]) == ["only", "limit, drift", "sequential", "limit", ""]


def test_frames_have_their_types_with_and_without_rows(store: Store) -> None:
    empty = store.scores(), store.samples()
    run = begin(store)
    run.add_samples([SampleScore("q1", "w", "score", None, 1, "no verdict"), SampleScore("q2", "w", "score", 2.0, 1)])
    run.finish("complete", [Score("score", None, None, 0, 1), Score("turn-1", 2.0, 0.5, 1)])
    for none, some in zip(empty, (store.scores(), store.samples()), strict=True):
        assert (len(none), len(some)) == (0, 2)
        assert list(none.columns) == list(some.columns)
        for frame in (none, some):
            kinds = {name: str(frame[name].dtype) for name in frame.columns}
            assert {kinds[name] for name in kinds if name in ("value", "stderr")} == {"float64"}
            whole = {"position", "n", "missing", "seed", "turn", "replicate"}
            assert {kinds[name] for name in kinds if name in whole} == {"int64"}
            assert kinds["created"] == "datetime64[ns, UTC]"
    scores, samples = store.scores(), store.samples()
    assert list(scores["value"].isna()) == [True, False]
    assert scores["stage"].isna().all()
    assert list(samples["question"]) == ["q1", "q2"]
    assert samples.loc[0, "reason"] == "no verdict"
    assert samples["reason"].isna().tolist() == [False, True]


def test_frames_have_the_newest_run_first_and_hostile_names_whole(store: Store) -> None:
    names = ["a\x00b", "lone \ud800", "m"]
    ids = []
    for name in names:
        run = begin(store, name)
        run.add_samples([SampleScore(f"{name} {number}", name, name, 1.0) for number in (2, 1)])
        run.finish("complete", [Score(name, 1.0, None, 1), Score("other", 2.0, None, 1)])
        ids.append(run.id)
    frame = store.scores()
    assert list(dict.fromkeys(frame["run"])) == ids[::-1]
    assert list(frame["metric"]) == [one for name in reversed(names) for one in (name, "other")]
    assert list(store.samples(model=names[0])["question"]) == ["a\x00b 2", "a\x00b 1"]
    assert list(store.scores(metric=names[1])["value"]) == [1.0]


def test_the_package_has_the_store_and_loads_it_when_it_is_used() -> None:
    code = """
import sys, zephyr_bench
heavy = ["pandas", "sqlalchemy", "numpy", "torch"]
assert not [name for name in heavy if name in sys.modules], "on import"
with zephyr_bench.Store("sqlite:///:memory:") as store:
    assert "sqlalchemy" in sys.modules and "pandas" not in sys.modules, "on use"
    frame = store.scores()
assert "pandas" in sys.modules and frame.empty
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    import zephyr_bench

    assert zephyr_bench.Store is Store
    with pytest.raises(AttributeError, match="no attribute 'Stroe'"):
        _ = zephyr_bench.Stroe  # type: ignore[attr-defined]


def test_ten_thousand_runs_are_searched_in_one_query_of_each_table(store: Store, url: str) -> None:
    """As many statements as for ten runs: no query a run."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    seen: list[str] = []

    def watch(*arguments: Any) -> None:
        seen.append(arguments[2])

    run = begin(store)
    run.finish("complete", [])
    listed = ", ".join(column.name for column in schema.runs.columns if column.name not in ("number", "id", "seed"))
    sql(
        url,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) "
        f"INSERT INTO runs (id, seed, {listed}) SELECT 'r' || i, i, {listed} FROM n, runs",
    )
    event.listen(Engine, "before_cursor_execute", watch)
    try:
        runs: list[RunInfo] = store.runs(
            where="seed>=9999 and protocol.limit=none and not judge~x or tag=none and seed=5 and recipe=none"
        )
    finally:
        event.remove(Engine, "before_cursor_execute", watch)
    assert sorted(run.seed for run in runs) == [5, 9999, 10000]
    assert len(seen) < 12


def test_a_start_that_was_told_is_found_by_its_version(store: Store) -> None:
    start: RunStart = run_start()
    store.put_model(fingerprint=start.model_fingerprint, name=start.model, location="")
    store.start_run(start)
    assert len(store.runs(where="version>=0.1 and version<99")) == 1
