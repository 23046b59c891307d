"""The nightly script with a real model: a checkpoint as good as the release passes, a damaged one fails and is named.

And the workflow that runs it: it says what GitHub takes, and the script only what our command line knows.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer
import yaml

from zephyr_bench.cli import app
from zephyr_bench.engines.locate import locate

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / ".ci" / "nightly"
WORKFLOW = ROOT / ".github" / "workflows" / "nightly.yml"
COMMAND = str(Path(sys.executable).with_name("zephyr-bench"))
# enough questions that the damage is beyond doubt, few enough for a minute a night on one core
RECIPE = {
    "description": "a night of a test",
    "model": "smollm2-135m-instruct",
    "evaluate": [{"benchmark": "alpaca-eval-mini", "limit": 32}, {"benchmark": "open-llm-mini", "limit": 8}],
}


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Of a night: nobody's settings but the test's."""
    ours = ("NIGHTLY_", "ZEPHYR_BENCH", "GITHUB_")
    left = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    store = f"sqlite:///{folder}/store.db"
    settings = {"NIGHTLY_RECIPE": str(folder / "night.yaml"), "ZEPHYR_BENCH": COMMAND, "ZEPHYR_BENCH_STORE": store}
    return {**left, **settings, "HF_HUB_OFFLINE": "1", **more}


def nightly(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), *words], capture_output=True, text=True, cwd=folder, env=environment(folder, **more), check=False
    )


def bench(folder: Path, *words: str, store: str) -> str:
    words = (COMMAND, *words, "--store", f"sqlite:///{folder}/{store}")
    done = subprocess.run(
        words, capture_output=True, text=True, cwd=folder, env=environment(folder), timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def damage(checkpoint: Path) -> None:
    """Noise as large as the weights themselves, in one matrix of each layer; config and tokenizer stay as they are."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(checkpoint / "model.safetensors")
    noise = torch.Generator().manual_seed(0)
    for name, weight in weights.items():
        if name.endswith("mlp.down_proj.weight"):
            weight += weight.std() * torch.randn(weight.shape, generator=noise)
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.slow
def test_an_unchanged_checkpoint_passes_and_a_damaged_one_fails_by_name(embedded_model: str, tmp_path: Path) -> None:
    (tmp_path / "night.yaml").write_text(yaml.safe_dump(RECIPE))
    out = tmp_path / "trained"
    shutil.copytree(locate(embedded_model).location, out / "checkpoint-100")
    watch = ["watch", "trained", "--recipe", "night.yaml", "--once", "--tag", "release"]
    bench(tmp_path, *watch, store="release.db")
    export = ["export", "baseline", "release@latest", "--output", "release.json", "--anchors", "5"]
    bench(tmp_path, *export, store="release.db")

    words = ("trained", "release.json", "reports")
    first = nightly(tmp_path, *words)
    assert first.returncode == 0, first.stderr
    gate = json.loads((tmp_path / "reports" / "gate.json").read_text())
    assert gate["verdict"] == "pass"
    assert {row["benchmark"]: row["reason"] for row in gate["benchmarks"]} == {
        "alpaca-eval-mini": "same-answers",
        "open-llm-mini": "same-answers",
    }
    assert suite(tmp_path)["failures"] == "0"

    shutil.copytree(out / "checkpoint-100", out / "checkpoint-200")
    damage(out / "checkpoint-200")
    summary = tmp_path / "summary.md"
    second = nightly(tmp_path, *words, GITHUB_STEP_SUMMARY=str(summary))
    assert second.returncode == 1, second.stderr
    gate = json.loads((tmp_path / "reports" / "gate.json").read_text())
    worse = {row["benchmark"]: row for row in gate["benchmarks"] if row["verdict"] == "regression"}
    assert gate["verdict"] == "regression"
    assert "alpaca-eval-mini" in worse
    assert worse["alpaca-eval-mini"]["candidate"]["model"] == "checkpoint-200"
    assert worse["alpaca-eval-mini"]["high"] < 0
    assert "regression: alpaca-eval-mini" in second.stderr
    assert "questions that lost most: ae-" in second.stdout
    assert int(suite(tmp_path)["failures"]) == len(worse)
    assert summary.read_text() == second.stdout
    assert (tmp_path / "reports" / "gate.md").read_text() in second.stdout
    leaderboard = (tmp_path / "reports" / "leaderboard.md").read_text()
    assert leaderboard.index("checkpoint-100") < leaderboard.index("checkpoint-200"), "the better one first"
    runs = json.loads(bench(tmp_path, "runs", "--format", "json", store="store.db"))
    nights = [(run["model"], run["benchmark"]) for run in runs if run["tags"] == ["nightly"]]
    assert sorted(nights) == [
        (f"checkpoint-{step}", benchmark) for step in (100, 200) for benchmark in ("alpaca-eval-mini", "open-llm-mini")
    ]


def suite(folder: Path) -> Mapping[str, str]:
    (found,) = ElementTree.parse(folder / "reports" / "gate.xml").getroot()
    return found.attrib


@pytest.fixture
def night(model_dir: Path, tmp_path: Path) -> Path:
    """A folder with a recipe and a checkpoint that a tiny model makes a short night of."""
    evaluate = [{"benchmark": "alpaca-eval-mini", "limit": 6}]
    (tmp_path / "night.yaml").write_text(yaml.safe_dump({**RECIPE, "evaluate": evaluate}))
    shutil.copytree(model_dir, tmp_path / "trained" / "checkpoint-1")
    (tmp_path / "trained" / "checkpoint-1" / "trainer_state.json").write_text("{}")
    return tmp_path


@pytest.mark.slow
def test_without_a_baseline_the_first_night_says_how_one_is_made(night: Path) -> None:
    done = nightly(night, "trained", "release.json", "reports", GITHUB_ACTIONS="true")
    assert done.returncode == 2
    told = "there is no release.json yet; once a night's checkpoint is good enough to be the release, run "
    assert told in done.stderr
    assert "::error::there is no release.json yet" in done.stdout
    (export,) = re.findall(r"`(zephyr-bench export baseline .*?)`", done.stderr)
    assert "checkpoint-1" in (night / "reports" / "leaderboard.md").read_text()
    bench(night, *shlex.split(export)[1:], store="store.db")
    again = nightly(night, "trained", "release.json", "reports")
    assert again.returncode == 0, again.stderr
    assert "gate: pass" in again.stdout


@pytest.mark.slow  # three nights
def test_what_cannot_be_told_warns_and_fails_only_a_strict_night(night: Path, tmp_path: Path) -> None:
    """Two models of random weights answer unlike each other, and six questions tell little."""
    from tiny_model import make_tiny_model

    assert nightly(night, "trained", "absent.json", "reports").returncode == 2
    export = ["export", "baseline", "nightly@latest", "--output", "release.json", "--anchors", "5"]
    bench(night, *export, store="store.db")
    other = make_tiny_model(tmp_path / "trained" / "checkpoint-2", seed=1, max_length=2048)
    (other / "trainer_state.json").write_text("{}")
    wide = {"NIGHTLY_GATE_ARGS": "--margin alpaca-eval-mini=0.01"}
    loose = nightly(night, "trained", "release.json", "reports", **wide)
    assert json.loads((night / "reports" / "gate.json").read_text())["verdict"] == "inconclusive"
    assert loose.returncode == 0, loose.stderr
    assert "the gate can't tell whether the newest checkpoint is worse than release.json" in loose.stderr
    strict = nightly(night, "trained", "release.json", "reports", NIGHTLY_STRICT="1", **wide)
    assert strict.returncode == 3


@pytest.mark.slow
def test_a_night_without_a_checkpoint_fails_and_gates_nothing_old(night: Path) -> None:
    assert nightly(night, "trained", "absent.json", "reports").returncode == 2
    export = ["export", "baseline", "nightly@latest", "--output", "release.json", "--anchors", "5"]
    bench(night, *export, store="store.db")
    (night / "trained" / "checkpoint-1" / "config.json").unlink()
    done = nightly(night, "trained", "release.json", "reports")
    assert done.returncode == 2
    assert "checkpoint-1: model directory" in done.stderr
    assert "was not evaluated (exit 2), so nothing is gated" in done.stderr
    told = (night / "reports" / "gate.md").read_text()
    assert "not gated: the newest checkpoint was not evaluated (exit 2)" in told, "instead of an old verdict"
    assert (night / "reports" / "leaderboard.md").exists()


def played(folder: Path, *commands: str) -> dict[str, str]:
    """What the script calls, played by a shell's lines; `$1` is the command's first word."""
    file = folder / "played"
    file.write_text("\n".join(["#!/usr/bin/env bash", *commands]) + "\n")
    file.chmod(0o755)
    return {"ZEPHYR_BENCH": str(file)}


GATE_JSON = """if [[ $1 == gate ]]; then printf '{\\n  "verdict": "%s"\\n}\\n' {} >reports/gate.json; exit 1; fi"""


@pytest.mark.parametrize(
    ("commands", "status"),
    [
        ([GATE_JSON.replace("{}", "regression")], 1),
        ([GATE_JSON.replace("{}", "pass")], 2),
        (["if [[ $1 == gate ]]; then exit 1; fi"], 2),  # a traceback
        (["if [[ $1 == watch ]]; then exit 1; fi"], 2),
        (["if [[ $1 == watch ]]; then exit 4; fi"], 4),
    ],
)
def test_only_a_regression_is_told_by_a_one(tmp_path: Path, commands: list[str], status: int) -> None:
    done = nightly(tmp_path, "trained", "release@latest", "reports", **played(tmp_path, *commands))
    assert done.returncode == status, done.stderr
    assert "not gated: " in (tmp_path / "reports" / "gate.md").read_text() or status == 1


def test_a_fault_of_the_script_itself_is_no_regression(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file where the folder goes")
    assert nightly(tmp_path, "trained", "release@latest", "reports", **played(tmp_path)).returncode == 2
    (tmp_path / "others" / "gate.md").mkdir(parents=True)  # rm -f removes no folder
    assert nightly(tmp_path, "trained", "release@latest", "others", **played(tmp_path)).returncode == 2


def test_more_words_may_stand_on_several_lines(tmp_path: Path) -> None:
    more = {"NIGHTLY_WATCH_ARGS": "--limit 4\n--max-cost 5\n", "NIGHTLY_GATE_ARGS": "--margin a=1\n  --margin b=2"}
    heard = played(tmp_path, 'echo "$@" >>heard')
    assert nightly(tmp_path, "trained", "release@latest", "reports", **heard, **more).returncode == 0
    watch, gate, _ = (tmp_path / "heard").read_text().splitlines()
    assert watch.endswith(" --limit 4 --max-cost 5")
    assert gate.endswith(" --margin a=1 --margin b=2")


def test_what_a_name_says_is_no_command_to_github(tmp_path: Path) -> None:
    words = ("trained\n::warning::100%", "release@latest", "reports")
    done = nightly(tmp_path, *words, **played(tmp_path, "exit 2"), GITHUB_ACTIONS="true")
    (told,) = (line for line in done.stdout.splitlines() if line.startswith("::error"))
    assert told.startswith("::error::the newest checkpoint of trained%0A::warning::100%25 was not evaluated")


def test_a_baseline_without_anchors_is_told_before_anything_is_evaluated(tmp_path: Path) -> None:
    runs = '{"zephyr_bench_baseline": 1,\n"runs": [\n{\n  "run": {"judge": %s},\n  "anchors": %s\n}\n]}\n'
    heard = played(tmp_path, "echo $1 >>heard")
    words = ("trained", "our release.json", "reports")
    for judge, anchors, status in (('"grader"', "[]", 2), ('"grader"', "[\n    1\n  ]", 0), ("null", "[]", 0)):
        (tmp_path / "our release.json").write_text(runs % (judge, anchors))
        (tmp_path / "heard").write_text("")
        done = nightly(tmp_path, *words, **heard)
        assert done.returncode == status, done.stderr
        assert ("watch" in (tmp_path / "heard").read_text()) == (status == 0)
        if status:
            assert done.stderr.count("\n") == 1
            assert "export baseline nightly@latest -o our\\ release.json --anchors 10`" in done.stderr
    (tmp_path / "our release.json").write_text(runs % ('"grader"', "[]"))
    assert nightly(tmp_path, *words, **heard, NIGHTLY_ANCHORS="0").returncode == 0


def test_the_script_says_how_it_is_run(tmp_path: Path) -> None:
    for words in ((), ("trained",), ("", "release.json")):
        done = nightly(tmp_path, *words)
        assert done.returncode == 2
        assert done.stderr.startswith("nightly CHECKPOINTS BASELINE [OUT]\n")
    settings = set(re.findall(r"\bNIGHTLY_[A-Z_]+\b", SCRIPT.read_text()))
    assert {name for name in settings if name not in done.stderr} == set(), "each is told"


def commands_of(script: str) -> Iterator[tuple[str, list[str]]]:
    """(command, its options) of each call of ours, with the sentences that tell a user what to run."""
    joined = script.replace("\\\n", " ")
    for call in re.findall(r'(?:"\$bench"|"zephyr-bench) ([^`|;>\n]*)', joined):
        names = re.findall(r"^[a-z-]+(?: baseline)?", call)[0]
        yield names, re.findall(r"(?<=\s)(--?[a-z][a-z-]*)", call)


def options_of(words: str) -> set[str]:
    command = typer.main.get_command(app)
    for word in words.split():
        command = command.commands[word]  # type: ignore[attr-defined]
    return {name for parameter in command.params for name in parameter.opts}


def test_the_script_uses_only_what_the_command_line_knows() -> None:
    found = list(commands_of(SCRIPT.read_text()))
    assert {name for name, _ in found} >= {"watch", "gate", "leaderboard", "export baseline"}
    for name, used in found:
        assert set(used) <= options_of(name), name


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    return dict(yaml.safe_load(WORKFLOW.read_text()))


def test_the_workflow_runs_the_script_each_night_and_on_demand(workflow: dict[Any, Any]) -> None:
    on = workflow[True]  # YAML 1.1 reads `on` so, and GitHub does not mind
    assert [len(entry["cron"].split()) for entry in on["schedule"]] == [5]
    assert "workflow_dispatch" in on
    steps = workflow["jobs"]["evaluate"]["steps"]
    (step,) = (step for step in steps if ".ci/nightly" in step.get("run", ""))
    assert os.access(SCRIPT, os.X_OK)
    known = SCRIPT.read_text()
    for name in step["env"]:
        assert name in known or name in step["run"] or name.endswith(("_API_KEY", "_TOKEN")), name
    extras = re.findall(r"\.\[([a-z,]+)\]", " ".join(step.get("run", "") for step in steps))[0].split(",")
    project = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras)


def test_the_workflow_keeps_the_reports_and_gives_nobody_the_store(workflow: dict[Any, Any]) -> None:
    (upload,) = (step for step in workflow["jobs"]["evaluate"]["steps"] if "upload-artifact" in step.get("uses", ""))
    assert upload["with"]["path"] == "nightly/"
    *_, publish = workflow["jobs"]["publish"]["steps"]
    # an artifact of one folder holds what is in it, without its name
    assert publish["env"]["REPORTS"] == "${{ runner.temp }}/reports"


def test_the_workflow_pins_its_actions_and_may_write_only_to_publish(workflow: dict[Any, Any]) -> None:
    used = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[a-z/-]+@[0-9a-f]{40}", action) for action in used)
    assert workflow["permissions"] == {"contents": "read"}
    assert {name for name, job in workflow["jobs"].items() if "permissions" in job} == {"publish"}
    assert "NIGHTLY_PUBLISH_BRANCH != ''" in workflow["jobs"]["publish"]["if"]


def test_the_workflow_pastes_nothing_into_a_shell(workflow: dict[Any, Any]) -> None:
    """What somebody types into a form is a value of the environment, never a part of a script."""
    scripts = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert not [script for script in scripts if "${{" in script]


def test_the_leaderboard_is_committed_to_a_branch_of_its_own_and_only_when_it_changed(
    workflow: dict[Any, Any], tmp_path: Path
) -> None:
    (script,) = (step["run"] for step in workflow["jobs"]["publish"]["steps"] if "run" in step)
    reports = tmp_path / "reports"
    reports.mkdir()

    def git(*words: str, at: Path) -> str:
        as_one = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        return subprocess.run(["git", *as_one, *words], cwd=at, capture_output=True, text=True, check=True).stdout

    def publish(night: str, leaderboard: str) -> None:
        (reports / "leaderboard.md").write_text(leaderboard)
        git("clone", "--quiet", "origin.git", night, at=tmp_path)
        more = {"BRANCH": "nights", "REPORTS": str(reports)}
        run = ["bash", "-euo", "pipefail", "-c", script]
        subprocess.run(run, cwd=tmp_path / night, env={**os.environ, **more}, check=True, capture_output=True)

    git("init", "--quiet", "--bare", "--initial-branch=main", "origin.git", at=tmp_path)
    git("init", "--quiet", "--initial-branch=main", "code", at=tmp_path)
    (tmp_path / "code" / "README.md").write_text("code")
    git("add", "README.md", at=tmp_path / "code")
    git("commit", "--quiet", "--message", "Begin", at=tmp_path / "code")
    git("push", "--quiet", str(tmp_path / "origin.git"), "main", at=tmp_path / "code")
    for night, leaderboard, commits in (("1", "a", 1), ("2", "a", 1), ("3", "b", 2)):
        publish(night, leaderboard)
        log = git("log", "--format=%an", "nights", at=tmp_path / "origin.git").splitlines()
        assert log == ["github-actions[bot]"] * commits
    assert git("ls-tree", "--name-only", "nights", at=tmp_path / "origin.git") == "leaderboard.md\n"
    assert git("show", "nights:leaderboard.md", at=tmp_path / "origin.git") == "b"
