from __future__ import annotations

import math
import multiprocessing
import subprocess
from collections.abc import Callable
from dataclasses import replace

import pytest
from conftest_store import answer, begin, judgment, open_store, question, run_start, sql

from zephyr_bench.errors import StoreError, UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import Answer, Judgment, Match, SampleScore, Score, ScoredTokens
from zephyr_bench.store import RunWriter, Store, writers
from zephyr_bench.store.writers import is_dead, this_process

HOSTILE = [
    "a\x00b",
    "lone \ud800 and \udfff",
    "\ud83d apart \ude00",
    "DLE \x10, \x100000 and \x10d800",
    "\x10\x10\x00\x10",
    "emoji 🧵👩‍🚀 and \u2028\r\n\ufeff",
    "'; drop table runs; --",
    "",
]


def test_answers_come_back_as_they_were_written(store: Store) -> None:
    run = begin(store)
    whole, unread = answer("q1"), Answer(fingerprint("other"), "baseline", "q2", 2, None)
    run.add_answers([(question("q1"), whole), (question("q2"), unread)])
    assert run.answers([unread.key, "absent", whole.key]) == {unread.key: unread, whole.key: whole}
    assert sorted(store.answers_of(run.id), key=lambda found: found.question) == [whole, unread]


def test_judgments_come_back_as_they_were_written(store: Store) -> None:
    run = begin(store)
    graded, ungraded = judgment("q1"), judgment("q2", None)
    rival = Match(question("q3"), 1, (answer("q3"),), rival=(answer("q3", model="rival"),), replicate=2)
    preferred = rival, Judgment(rival.key(fingerprint("rubric")), "rubric", 0.5)
    run.add_judgments([graded, ungraded, preferred])
    expected = [verdict for _, verdict in (graded, ungraded, preferred)]
    assert list(run.judgments([verdict.key for verdict in expected]).values()) == expected
    assert sorted(map(repr, store.judgments_of(run.id))) == sorted(map(repr, expected))


def test_token_scores_come_back_as_they_were_written(store: Store) -> None:
    run = begin(store)
    scored = [ScoredTokens("sha256:a", -1.25, True, 3), ScoredTokens("sha256:b", -math.inf, False, 1)]
    run.add_token_scores(scored)
    assert run.token_scores(["sha256:b", "sha256:a"]) == {score.key: score for score in scored}


def test_samples_keep_their_order_over_several_writes(store: Store) -> None:
    run = begin(store)
    samples = [
        SampleScore("q2", "math", "score", 3.0, 1),
        SampleScore("q1", "writing", "score", None, 1, "no verdict"),
        SampleScore("q1", "writing", "length", 0.1 + 0.2),
    ]
    run.add_samples(samples[:1])
    run.add_samples(iter(samples[1:]))
    assert store.samples_of(run.id) == samples
    assert store.samples_of(run.id, "length") == samples[2:]
    assert store.values_of([run.id], "score") == {run.id: {"q2": 3.0, "q1": None}}


def test_scores_come_back_headline_first_and_a_second_finish_replaces_them(store: Store) -> None:
    run = begin(store)
    run.finish("complete", [Score("a", 1.0, 0.1, 3)])
    scores = [Score("score", 6.5, None, 10, 2), Score("a first by name", None, None, 0)]
    run.finish("complete", scores)
    other = begin(store)
    assert store.scores_of([run.id, other.id]) == {run.id: scores, other.id: []}


def test_more_keys_than_a_statement_takes_are_found(store: Store) -> None:
    run = begin(store)
    scored = [ScoredTokens(f"sha256:{number}", -float(number), False, 1) for number in range(2500)]
    run.add_token_scores(scored)
    assert list(run.token_scores(score.key for score in scored).values()) == scored


def test_run_and_model_come_back_as_they_were_told(store: Store) -> None:
    store.put_model(
        fingerprint=fingerprint("tiny"),
        name="tiny",
        location="/m",
        note="quantised",
        lineage={"stage": "dpo"},
    )
    start = run_start()
    run = store.start_run(start)
    found = store.run(run.id)
    for name in (
        "benchmark",
        "model",
        "model_fingerprint",
        "engine_fingerprint",
        "judge",
        "judge_fingerprint",
    ):
        assert getattr(found, name) == getattr(start, name)
    assert (found.protocol, found.seed, found.environment) == ({"limit": None}, 1, {"python": "3"})
    assert (found.status, found.finished, found.note) == ("running", None, "quantised")
    run.finish("failed", [])
    ended = store.run(run.id)
    assert ended.status == "failed"
    assert ended.finished is not None
    assert ended.finished >= ended.created
    assert store.model(start.model_fingerprint).lineage == {"stage": "dpo"}


def test_the_first_write_of_a_key_wins(store: Store) -> None:
    run, later = begin(store), begin(store)
    run.add_answers([(question(), answer(text="first"))])
    later.add_answers([(question(), answer(text="second"))])
    match, verdict = judgment(score=7.0)
    run.add_judgments([(match, verdict)])
    later.add_judgments([(match, replace(verdict, score=1.0))])
    run.add_token_scores([ScoredTokens("sha256:a", -1.0, True, 1)])
    later.add_token_scores([ScoredTokens("sha256:a", -2.0, False, 1)])
    run.add_samples([SampleScore("q1", "writing", "score", 7.0), SampleScore("q1", "writing", "score", 1.0)])
    assert [found.text for found in store.answers_of(later.id)] == ["first"]
    assert [found.score for found in store.judgments_of(later.id)] == [7.0]
    assert later.token_scores(["sha256:a"])["sha256:a"].log_prob == -1.0
    assert [found.value for found in store.samples_of(run.id)] == [7.0]


def test_used_answers_and_judgments_belong_to_the_run_too(store: Store) -> None:
    maker, user = begin(store), begin(store)
    match, verdict = judgment()
    maker.add_answers([(question(), answer())])
    maker.add_judgments([(match, verdict)])
    for _ in range(2):
        user.use_answers([answer().key])
        user.use_judgments([verdict.key])
    assert store.answers_of(user.id) == [answer()]
    assert store.judgments_of(user.id) == [verdict]


def test_using_what_was_deleted_meanwhile_is_one_sentence(store: Store) -> None:
    run = begin(store)
    with pytest.raises(StoreError, match="run the same command again"):
        run.use_answers(["sha256:gone"])


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_text_comes_back_exactly(store: Store, url: str, text: str) -> None:
    run = begin(store, f"model {text}", benchmark=text)
    asked = replace(question(text), category=text, turns=(text,), reference=(text,))
    said = replace(answer(text), text=text, model=text)
    match = Match(asked, 1, (said,))
    verdict = Judgment(match.key("judge"), text, None, text, text)
    run.add_answers([(asked, said)])
    run.add_judgments([(match, verdict)])
    run.add_samples([SampleScore(text, text, text, None, 1, text)])
    run.finish("complete", [Score(text, 1.0, None, 1)])
    store.tag(run.id, f"tag {text}")
    store.close()
    with open_store(url) as again:
        found = again.run(run.id)
        assert (found.benchmark, found.model, found.tags) == (text, f"model {text}", (f"tag {text}",))
        assert again.answers_of(run.id) == [said]
        assert again.judgments_of(run.id) == [verdict]
        assert again.samples_of(run.id, text) == [SampleScore(text, text, text, None, 1, text)]
        assert again.scores_of([run.id]) == {run.id: [Score(text, 1.0, None, 1)]}
        assert [run.id for run in again.runs(model=f"model {text}", benchmark=text)] == [run.id]


@pytest.mark.parametrize(
    "write",
    [
        lambda run: run.add_judgments([judgment(score=math.nan)]),
        lambda run: run.add_token_scores([ScoredTokens("sha256:n", math.nan, False, 1)]),
        lambda run: run.add_samples([SampleScore("q2", "math", "score", math.nan)]),
        lambda run: run.finish("complete", [Score("score", math.nan, None, 1)]),
        lambda run: run.finish("complete", [Score("score", 1.0, math.nan, 1)]),
    ],
)
def test_nan_is_refused_and_nothing_of_that_write_is_kept(store: Store, write: Callable[[RunWriter], None]) -> None:
    run = begin(store)
    with pytest.raises(ValueError, match="NaN"):
        write(run)
    assert store.run(run.id).status == "running"
    assert store.judgments_of(run.id) == []
    assert store.samples_of(run.id) == []
    assert run.token_scores(["sha256:n"]) == {}


def test_a_run_ends_as_a_known_status_only(store: Store) -> None:
    run = begin(store)
    for status in ("running", "done"):
        with pytest.raises(ValueError, match=status):
            run.finish(status, [])


def test_a_run_of_an_unknown_model_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="put_model"):
        store.start_run(run_start("never told"))
    assert store.runs() == []


def test_runs_are_listed_newest_first_and_filtered(store: Store) -> None:
    first, second = begin(store, "tiny"), begin(store, "big", benchmark="open-llm-mini")
    third = begin(store, "big")
    first.finish("complete", [])
    third.finish("complete", [])

    def ids(**by: object) -> list[str]:
        return [run.id for run in store.runs(**by)]  # type: ignore[arg-type]

    assert ids() == [third.id, second.id, first.id]
    assert ids(status="complete") == [third.id, first.id]
    assert ids(status="complete", limit=1) == [third.id]
    assert ids(status="running") == [second.id]
    assert ids(model="big") == ids(model=fingerprint("big")) == [third.id, second.id]
    assert ids(benchmark="open-llm-mini") == [second.id]
    assert ids(model="absent") == []


def test_a_run_is_found_by_the_beginning_of_its_id(store: Store, url: str) -> None:
    runs = [begin(store), begin(store)]
    for run, id in zip(runs, ("20260101-120000-aaaaaa", "20260101-120000-bbbbbb"), strict=True):
        sql(url, "update runs set id = :id where id = :old", id=id, old=run.id)
    assert store.run("20260101-120000-b").id == "20260101-120000-bbbbbb"
    with pytest.raises(UserError, match=r"ids of 2 runs; give more of .*bbbbbb or .*aaaaaa"):
        store.run("2026")


def test_an_unknown_id_suggests_close_ones(store: Store) -> None:
    with pytest.raises(UserError, match="unknown run 'x': the store has no runs yet"):
        store.run("x")
    run = begin(store)
    for wrong in (run.id[:-1] + "_", "", "\udcff", "%", "_" * 22):
        with pytest.raises(UserError, match=run.id):
            store.run(wrong)


def test_an_unknown_model_is_one_sentence(store: Store) -> None:
    for wrong in ("sha256:absent", "\udcff"):
        with pytest.raises(UserError, match="no model"):
            store.model(wrong)
        assert store.runs(model=wrong) == []


def test_tags_are_given_once_and_taken_away(store: Store) -> None:
    run, other = begin(store), begin(store)
    for tag in ("nightly", "best", "nightly"):
        store.tag(run.id, tag)
    assert store.run(run.id).tags == ("best", "nightly")
    assert store.run(other.id).tags == ()
    store.untag(run.id, "best")
    assert [found.tags for found in store.runs()] == [(), ("nightly",)]
    with pytest.raises(UserError, match=r"has no tag 'nigthly'\. Did you mean nightly"):
        store.untag(run.id, "nigthly")
    with pytest.raises(UserError, match="blanks"):
        store.tag(run.id, "  ")


def test_delete_takes_what_is_only_the_runs_own(store: Store, url: str) -> None:
    kept, gone = begin(store, "kept"), begin(store, "gone")
    shared, own, judged = answer("shared"), answer("own"), answer("judged")
    gone.add_answers([(question(found.question), found) for found in (shared, own, judged)])
    kept.use_answers([shared.key])
    verdicts = [judgment("judged"), judgment("own")]
    gone.add_judgments(verdicts)
    kept.use_judgments([verdicts[0][1].key])
    gone.add_samples([SampleScore("own", "writing", "score", 1.0)])
    gone.finish("complete", [Score("score", 1.0, None, 1)])
    store.tag(gone.id, "nightly")
    store.delete(gone.id)

    assert [run.id for run in store.runs()] == [kept.id]
    assert store.answers_of(kept.id) == [shared]
    assert store.judgments_of(kept.id) == [verdicts[0][1]]
    assert list(kept.answers([shared.key, own.key, judged.key])) == [shared.key, judged.key]
    for table in ("samples", "scores", "tags"):
        assert sql(url, f"select count(*) from {table}") == [(0,)], table
    assert sql(url, "select id from questions order by id") == [("judged",), ("shared",)]


def test_delete_keeps_the_rival_of_a_kept_judgment(store: Store) -> None:
    kept, gone = begin(store, "kept"), begin(store, "gone")
    rival = answer("q1", model="rival")
    gone.add_answers([(question(), rival)])
    match = Match(question(), 1, (answer(),), rival=(rival,))
    kept.add_judgments([(match, Judgment(match.key("judge"), "judge", 1.0))])
    gone.finish("complete", [])
    store.delete(gone.id)
    assert kept.answers([rival.key]) == {rival.key: rival}


def test_a_run_being_written_is_not_deleted(store: Store) -> None:
    run = begin(store)
    with pytest.raises(UserError, match="is being written by process"):
        store.delete(run.id)
    assert store.run(run.id).status == "running"


def test_finishing_a_deleted_run_is_one_sentence(store: Store) -> None:
    run = begin(store)
    run.finish("complete", [])
    store.delete(run.id)
    for write in (
        lambda: run.finish("complete", []),
        lambda: run.add_samples([SampleScore("q1", "writing", "score", 1.0)]),
    ):
        with pytest.raises(StoreError, match=f"{run.id}.*deleted meanwhile"):
            write()


def _begin_and_die(url: str) -> None:
    begin(open_store(url), "dead").add_answers([(question(), answer())])


def test_a_run_whose_writer_died_shows_as_interrupted(store: Store, url: str) -> None:
    alive = begin(store, "alive")
    process = multiprocessing.get_context("spawn").Process(target=_begin_and_die, args=(url,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert [(run.model, run.status) for run in store.runs()] == [
        ("dead", "interrupted"),
        ("alive", "running"),
    ]
    assert [run.model for run in store.runs(status="interrupted")] == ["dead"]
    assert [run.id for run in store.runs(status="running")] == [alive.id]
    assert _stored_statuses(url) == ["running", "running"]
    begin(store, "next")
    assert _stored_statuses(url) == ["running", "interrupted", "running"]
    store.delete(store.runs(model="dead")[0].id)


@pytest.mark.parametrize(
    ("column", "value", "status"),
    [
        ("writer_started", "another boot/1", "running"),
        ("writer_started", None, "running"),
        ("writer_host", "another host", "running"),
    ],
)
def test_a_writer_is_dead_only_where_that_is_certain(
    store: Store, url: str, column: str, value: str | None, status: str
) -> None:
    run = begin(store)
    sql(url, f"update runs set {column} = :value", value=value)
    assert store.run(run.id).status == status


def test_a_pid_means_something_only_where_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two containers may have one hostname, and a machine may have booted since."""
    with subprocess.Popen(["sleep", "0"]) as ended:
        pass
    boot, _, namespace, machine = str(this_process().started).split("/")

    def dead(started: str | None) -> bool:
        return is_dead(replace(this_process(), pid=ended.pid, started=started))

    assert dead(f"{boot}/1/{namespace}/{machine}")
    assert dead(f"{boot}/1")
    assert dead(None)
    assert not dead(f"{boot}/1/7{namespace}/{machine}")
    assert not dead("another boot/1")
    assert not dead(f"another boot/1/{namespace}/")
    assert not dead(f"another boot/1/{namespace}/another machine")
    own = f"{boot}/1/{namespace}/this machine"
    monkeypatch.setattr(writers, "_started", lambda pid: own)
    assert dead(f"another boot/1/{namespace}/this machine"), "it has booted since"


def test_a_run_that_nobody_can_prove_dead_goes_by_force(store: Store, url: str) -> None:
    run = begin(store)
    sql(url, "update runs set writer_host = 'another host'")
    for act in (lambda: store.deletion([run.id]), lambda: store.delete(run.id), lambda: store.downgrade("0003")):
        with pytest.raises(UserError, match="on another host; stop that first, or add --force where it is"):
            act()
    assert store.deletion([run.id], force=True).runs == (run.id,)
    store.delete(run.id, force=True)
    assert store.runs() == []
    begin(store)
    store.downgrade("0003", force=True)


def test_who_knows_no_location_replaces_nothing(store: Store) -> None:
    key = fingerprint("tiny")
    store.put_model(fingerprint=key, name="of a file", location="")
    assert store.model(key).name == "of a file"
    store.put_model(fingerprint=key, name="tiny", location="/here", note="quantised")
    store.put_model(fingerprint=key, name="of a file", location="", lineage={"stage": "sft"})
    found = store.model(key)
    assert (found.name, found.location, found.note) == ("tiny", "/here", "quantised")
    assert found.lineage == {"stage": "sft"}


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_an_infinity_is_refused_as_a_dump_of_it_would_be(store: Store, value: float) -> None:
    run = begin(store)
    with pytest.raises(ValueError, match="a missing value is None"):
        run.add_samples([SampleScore("q1", "w", "score", value)])


def test_a_lineage_is_never_replaced_by_none(store: Store) -> None:
    key = fingerprint("tiny")
    store.put_model(fingerprint=key, name="tiny", location="/old", note="old")
    assert store.model(key).lineage == {}
    store.put_model(fingerprint=key, name="tiny", location="/old", lineage={"stage": "sft"})
    created = store.model(key).created
    for nothing in (None, {}):
        store.put_model(fingerprint=key, name="new name", location="/new", note="new", lineage=nothing)
    found = store.model(key)
    assert (found.name, found.location, found.note, found.created) == ("new name", "/new", "new", created)
    assert found.lineage == {"stage": "sft"}
    store.put_model(fingerprint=key, name="tiny", location="/new", lineage={"stage": "dpo"})
    assert store.model(key).lineage == {"stage": "dpo"}


def _stored_statuses(url: str) -> list[str]:
    return [status for (status,) in sql(url, "select status from runs order by number")]
