"""`zephyr-bench runs` as a user meets it: lists, filters, tags, lineage, deletion; and --tag of what makes runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from zephyr_bench.cli import app
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import Answer, Judgment, Match, Question, SampleScore, Score
from zephyr_bench.store import RunStart, Store

COMMAND = str(Path(sys.executable).with_name("zephyr-bench"))
Run = Callable[..., Result]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/results.db"


@pytest.fixture
def run(url: str) -> Run:
    """In this process: an error is raised, as `main` gets it."""

    def invoke(*words: str, input: str | None = None) -> Result:
        done = CliRunner().invoke(app, [*words, "--store", url], input=input)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return invoke


def lineage(name: str, stage: str, parent: dict[str, Any], **told: Any) -> dict[str, Any]:
    data = {"fingerprint": fingerprint(["rows", stage]), "rows": 12}
    known = {
        "name": name,
        "stage": stage,
        "recipe": "smol",
        "seed": 42,
        "git_commit": "0123456789abcdef0123",
        "data": data,
    }
    return {**known, "parent": parent, "steps": 3, "stage_fingerprint": fingerprint(stage), **told}


BASE = {"name": "base", "fingerprint": fingerprint("base"), "note": "quantised", "location": "b", "lineage": {}}
DSFT = {"name": "smol-dsft", "fingerprint": fingerprint("dsft"), "note": "", "location": "d"}
LINEAGE = lineage("smol-ddpo", "ddpo", {**DSFT, "lineage": lineage("smol-dsft", "dsft", BASE)})


def add(
    url: str, model: str, *, told: dict[str, Any] | None = None, rival: str | None = None, judge: str = "rubric"
) -> str:
    """A complete run of one question."""
    with Store(url) as store:
        store.put_model(fingerprint=fingerprint(model), name=model, location="", lineage=told or {})
        start = RunStart(
            "mt-bench-mini", model, fingerprint(model), "sha256:e", judge, fingerprint(judge), {"limit": None}
        )
        writer = store.start_run(start)
        question = Question("q1", "math", ("Why?",))
        own, other = (name and Answer(fingerprint([name]), name, "q1", 1, "So.") for name in (model, rival))
        assert own is not None
        match = Match(question, 1, (own,), (other,) if other else None)
        writer.add_answers([(question, one) for one in (own, other) if one])
        writer.add_judgments([(match, Judgment(match.key(fingerprint(judge)), judge, 7.0))])
        writer.add_samples([SampleScore("q1", "math", "score", 7.0, 1)])
        writer.finish("complete", [Score("score", 7.0, None, 1)])
        return writer.id


def ids(done: Result) -> list[str]:
    return [row["id"] for row in json.loads(done.stdout)]


def test_runs_are_listed_newest_first_with_the_documented_keys(url: str, run: Run) -> None:
    first, second = add(url, "a"), add(url, "smol-ddpo", told=LINEAGE)
    rows = json.loads(run("runs", "--format", "json").stdout)
    assert [row["id"] for row in rows] == [second, first]
    assert all(list(row) == ["id", "model", "benchmark", "judge", "status", "created", "tags"] for row in rows)
    assert ids(run("runs", "--where", "recipe=smol and stage=ddpo", "--format", "json")) == [second]
    assert ids(run("runs", "--where", "recipe!=smol", "--format", "json")) == [first]
    assert second in run("runs", "--where", "model~'*-ddpo'").stdout
    assert ids(run("runs", "--where", "model=x", "--format", "json")) == []


def test_tags_are_given_asked_for_and_taken_away(url: str, run: Run) -> None:
    first, second = add(url, "a"), add(url, "b")
    for id in (first, second):
        assert run("runs", "tag", id, "nightly").exit_code == 0
    run("runs", "tag", second, "best")
    assert ids(run("runs", "--tag", "nightly", "--format", "json")) == [second, first]
    assert ids(run("runs", "--tag", "nightly", "--tag", "best", "--format", "json")) == [second]
    run("runs", "untag", second, "nightly")
    assert ids(run("runs", "--tag", "nightly", "--format", "json")) == [first]
    assert ids(run("runs", "--tag", "weekly", "--format", "json")) == [], "as with another model's name"


def test_a_mistake_in_where_is_one_sentence_and_exit_2(url: str, tmp_path: Path) -> None:
    add(url, "a")
    words = [COMMAND, "runs", "--store", url, "--where", "benchmrk=mt-bench"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --where, position 1: unknown field 'benchmrk'. Did you mean benchmark?")
    assert done.stderr.count("\n") == 1


def test_filters_before_a_command_are_refused(run: Run, url: str) -> None:
    id = add(url, "a")
    with pytest.raises(UserError, match="leave them out before delete"):
        CliRunner().invoke(app, ["runs", "--where", "model=x", "delete", id], catch_exceptions=False)


def test_show_goes_back_to_the_base_model(url: str, run: Run) -> None:
    id = add(url, "smol-ddpo", told=LINEAGE)
    text = run("runs", "show", id).stdout
    assert "lineage: ddpo (smol-ddpo) <- dsft (smol-dsft) <- base" in text
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith(("smol-", "base"))}
    for name, stage in (("smol-ddpo", "ddpo"), ("smol-dsft", "dsft")):
        for part in (stage, "smol", "12 rows", fingerprint(["rows", stage])[7:15], "42", "0123456789ab"):
            assert part in lines[name]
    assert "base (quantised)" in lines["base"]
    with Store(url) as store:
        assert f"protocol {store.run(id).protocol_fingerprint}" in text


def test_show_tells_which_questions_training_data_was_compared_with(url: str, run: Run) -> None:
    questions = {"compared": {"mt-bench": 80}, "not_compared": {"open-llm-1": "not at hand"}}
    id = add(url, "smol-dsft", told={**LINEAGE, "evaluation_questions": questions})
    text = run("runs", "show", id).stdout
    assert "training data compared with the questions of: mt-bench; not compared with those of: open-llm-1" in text
    assert "compared" not in run("runs", "show", add(url, "a", told={"evaluation_questions": "no"})).stdout


def test_show_tells_machines_the_same(url: str, run: Run) -> None:
    id = add(url, "smol-ddpo", told=LINEAGE)
    found = json.loads(run("runs", "show", id, "--format", "json").stdout)
    chain = [(one["model"], one["stage"], one["recipe"], one["rows"], one["seed"]) for one in found["chain"]]
    assert chain == [
        ("smol-ddpo", "ddpo", "smol", 12, 42),
        ("smol-dsft", "dsft", "smol", 12, 42),
        ("base", None, None, None, None),
    ]
    with Store(url) as store:
        assert found["protocol_fingerprint"] == store.run(id).protocol_fingerprint
        assert found["version"] == store.run(id).version
    assert found["lineage"] == LINEAGE
    assert found["scores"][0]["value"] == 7.0


def test_a_model_without_a_lineage_says_so(url: str, run: Run) -> None:
    id = add(url, "a")
    assert "no lineage.json tells how this model was made" in run("runs", "show", id).stdout
    assert run("runs", "show", id, "--format", "csv").stdout.startswith("model,benchmark,metric")


@pytest.mark.parametrize(
    "told",
    [
        {"stage": 3, "recipe": ["x"], "parent": "none", "data": 7, "seed": "x", "git_commit": {}},
        {"stage": "\x1b[31m|", "recipe": "<b>", "parent": {"name": None, "lineage": {"parent": {"name": "\x00"}}}},
        {"parent": {"lineage": []}},
    ],
)
def test_a_hostile_lineage_is_shown_and_not_obeyed(url: str, run: Run, told: dict[str, Any]) -> None:
    id = add(url, "a", told=told)
    for format in ("table", "markdown"):
        text = run("runs", "show", id, "--format", format).stdout
        assert "lineage: " in text
        assert "\x1b" not in text
        assert "\x00" not in text
    assert "<b>" not in run("runs", "show", id, "--format", "markdown").stdout
    json.loads(run("runs", "show", id, "--format", "json").stdout)


def test_delete_says_what_goes_and_asks(url: str, run: Run) -> None:
    id = add(url, "a")
    run("runs", "tag", id, "release")
    with pytest.raises(UserError, match="nothing was deleted"):
        run("runs", "delete", id, input="n\n")
    assert ids(run("runs", "--format", "json")) == [id]
    done = run("runs", "delete", id, input="y\n")
    assert done.stdout.strip() == "y", "the test's own answer, echoed"
    assert f"to delete: run {id} (a on mt-bench-mini by rubric, tagged release)" in done.stderr
    assert "1 answer, 1 judgment, 1 sample, 1 score" in done.stderr
    assert ids(run("runs", "--format", "json")) == []


def test_delete_asks_nobody_where_nobody_answers(url: str, run: Run) -> None:
    id = add(url, "a")
    with pytest.raises(UserError, match="nobody answers; --yes asks nobody"):
        run("runs", "delete", id, input="")
    assert run("runs", "delete", id, "--yes").exit_code == 0
    assert ids(run("runs", "--format", "json")) == []


def test_delete_takes_several_runs_or_those_that_where_says(url: str, run: Run) -> None:
    made = [add(url, name) for name in ("a", "b", "c", "d")]
    run("runs", "delete", made[0], made[1], made[0], "--yes")
    assert ids(run("runs", "--format", "json")) == [made[3], made[2]]
    run("runs", "delete", "--where", "model=c", "--yes")
    assert ids(run("runs", "--format", "json")) == [made[3]]
    done = run("runs", "delete", "--where", "model=c", "--yes")
    assert (done.exit_code, done.stderr) == (0, "there is no such run; nothing was deleted\n")
    for words in ([], [made[3], "--where", "model=d"]):
        with pytest.raises(UserError, match="name runs, or say by --where which"):
            run("runs", "delete", *words, "--yes")


def test_of_many_runs_some_are_named_and_the_rest_counted(url: str, run: Run) -> None:
    made = [add(url, name) for name in "abcdefg"]
    done = run("runs", "delete", "--where", "judge=rubric", "--yes")
    lines = done.stderr.splitlines()
    assert [line.split()[3] for line in lines[:5]] == made[:5]
    assert lines[5] == "and 2 more runs"
    assert "7 answers, 7 judgments, 7 samples, 7 scores" in lines[6]


def test_dependents_are_named_and_deleted_only_when_asked(url: str, run: Run) -> None:
    base, rival, other = add(url, "base"), add(url, "a", rival="base"), add(url, "c")
    again = add(url, "a", judge="gpt-4")
    done = run("runs", "delete", base, "--yes")
    assert f"1 run compares with its answers: {rival} (a on mt-bench-mini)" in done.stderr
    assert "--dependents deletes it, too" in done.stderr
    assert ids(run("runs", "--format", "json")) == [again, other, rival]
    with Store(url) as store:
        assert len(store.answers_of(rival)) == 2
    run("runs", "delete", rival, "--dependents", "--yes")
    assert ids(run("runs", "--format", "json")) == [other], "whoever grades its answers again goes with it"


def test_delete_offers_the_dependents_as_well(url: str, run: Run) -> None:
    base, rival, other = add(url, "base"), add(url, "a", rival="base"), add(url, "c")
    with pytest.raises(UserError, match="nothing was deleted: nobody answers"):
        run("runs", "delete", base, input="")
    with pytest.raises(UserError, match=r"nothing was deleted\."):
        run("runs", "delete", base, input="y\nn\n")
    assert ids(run("runs", "--format", "json")) == [other, rival, base]
    done = run("runs", "delete", base, input="y\ny\n")
    assert "Delete what depends on them, too? [y/N]" in done.stderr
    assert "Delete these 2 runs? [y/N]" in done.stderr
    assert ids(run("runs", "--format", "json")) == [other]
    again = add(url, "a", rival="c")
    run("runs", "delete", other, input="n\ny\n")
    assert ids(run("runs", "--format", "json")) == [again]


def test_a_run_of_another_host_is_deleted_by_force(url: str, run: Run) -> None:
    with Store(url) as store:
        store.put_model(fingerprint="sha256:m", name="m", location="x")
        id = store.start_run(RunStart("mt-bench-mini", "m", "sha256:m", "sha256:e")).id
    with pytest.raises(UserError, match=r"is being written by .* add --force"):
        run("runs", "delete", id, "--yes")
    assert run("runs", "delete", id, "--yes", "--force").exit_code == 0
    assert ids(run("runs", "--format", "json")) == []


def test_runs_of_a_gate_are_told_from_results(url: str, run: Run) -> None:
    with Store(url) as store:
        store.put_model(fingerprint="sha256:m", name="m", location="x")
        protocol = {"limit": 3, "sequential": {}, "drift": {"sitting": 1}}
        store.start_run(RunStart("mt-bench-mini", "m", "sha256:m", "sha256:e", protocol=protocol)).finish(
            "complete", []
        )
    assert "complete (drift, sequential)" in run("runs").stdout
    (row,) = json.loads(run("runs", "--format", "json").stdout)
    assert row["status"] == "complete"
    assert ",complete," in run("runs", "--format", "csv").stdout


def test_a_seed_of_any_length_is_one_sentence(url: str, run: Run) -> None:
    add(url, "a")
    with pytest.raises(UserError, match="expected a whole number"):
        run("runs", "--where", f"seed={'1' * 5000}")


def test_runs_that_share_answers_are_named_and_stay(url: str, run: Run) -> None:
    first, second = add(url, "a"), add(url, "a")
    done = run("runs", "delete", first, "--yes")
    assert f"1 other run uses some of the same answers or judgments, kept for them: {second}" in done.stderr
    assert "0 answers, 0 judgments, 1 sample, 1 score" in done.stderr
    assert json.loads(run("runs", "show", second, "--format", "json").stdout)["scores"][0]["value"] == 7.0


def test_evaluating_commands_tag_their_runs(url: str, run: Run, model_dir: Path) -> None:
    on = ("--model", str(model_dir), "--limit", "1", "--quiet")
    run("mtbench", "--benchmark", "mt-bench-mini", *on, "--tag", "nightly", "--tag", "best")
    run("open-llm", "--benchmark", "open-llm-mini", "--tasks", "arc_challenge", *on, "--tag", "nightly")
    run("alpaca-eval", "--benchmark", "alpaca-eval-mini", *on, "--tag", "nightly")
    rows = json.loads(run("runs", "--tag", "nightly", "--format", "json").stdout)
    assert {row["benchmark"]: row["tags"] for row in rows} == {
        "mt-bench-mini": ["best", "nightly"],
        "open-llm-mini": ["nightly"],
        "alpaca-eval-mini": ["nightly"],
    }
    graded = next(row["id"] for row in rows if row["benchmark"] == "mt-bench-mini")
    run("judge", "--run", graded, "--judge", "rubric", "--tag", "again", "--quiet")
    (row,) = json.loads(run("runs", "--tag", "again", "--format", "json").stdout)
    assert (row["benchmark"], row["tags"]) == ("mt-bench-mini", ["again"])


def test_a_blank_tag_is_found_before_any_work(url: str, run: Run, model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--tag: a tag is a word"):
        run("mtbench", "--model", str(model_dir), "--benchmark", "mt-bench-mini", "--tag", " ")
    assert list(tmp_path.iterdir()) == []


def test_reproduce_needs_no_store_and_a_recipe_without_figures_is_one_sentence(tmp_path: Path) -> None:
    where = f"sqlite:///{tmp_path}/none.db"
    done = CliRunner().invoke(app, ["reproduce", "--recipe", "zephyr7b", "--format", "json", "--store", where])
    assert done.exit_code == 0
    rows = json.loads(done.stdout)
    assert {(row["model"], row["benchmark"], row["metric"]) for row in rows} >= {
        ("zephyr-7b-beta", "mt-bench", "score"),
        ("zephyr-7b-beta", "open-llm-1", "mmlu"),
        ("zephyr-dsft-1", "alpaca-eval-1", "win-rate"),
    }
    assert {row["verdict"] for row in rows} == {"not measured"}
    none = CliRunner().invoke(app, ["reproduce", "--recipe", "smol", "--store", where])
    assert (none.exit_code, none.stdout.count("\n")) == (0, 1)
    assert "reproduces no published model" in none.stdout
    machines = CliRunner().invoke(app, ["reproduce", "--recipe", "smol", "--format", "json", "--store", where])
    assert json.loads(machines.stdout) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["mt-bench", "mt-bench=", "=0.1", "mt-bench=0", "mt-bench=-1", "mt-bench=nan", "a=b"])
def test_a_margin_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    words = ["reproduce", "--recipe", "zephyr7b", "--store", f"sqlite:///{tmp_path}/none.db", "--margin", text]
    with pytest.raises(UserError, match="expected BENCHMARK=M"):
        CliRunner().invoke(app, words, catch_exceptions=False)
