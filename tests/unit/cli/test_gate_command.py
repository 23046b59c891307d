"""`zephyr-bench gate` as CI meets it: exit codes, what goes to stdout, stderr and files, and real annotations."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import Result
from typer.testing import CliRunner

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.cli import app
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import SampleScore
from zephyr_bench.reports.baselines import write_baseline
from zephyr_bench.store import RunStart, Store

COMMAND = str(Path(sys.executable).with_name("zephyr-bench"))
VERDICTS = {0: "pass", 1: "regression", 3: "inconclusive"}


@pytest.fixture(autouse=True)
def outside_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests may themselves run in a workflow."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store with a release, a candidate that is as good, one that is worse and one that wavers."""
    place = f"sqlite:///{tmp_path / 'results.db'}"
    with Store(place) as store:
        evaluated(store, "release", [5.0] * 24)
        evaluated(store, "same", [5.0] * 24)
        evaluated(store, "worse", [4.0 - 0.1 * (place % 3) for place in range(24)])
        evaluated(store, "wavering", [5.0 + (-1) ** place * (place % 4) for place in range(24)])
    return place


def evaluated(store: Store, model: str, grades: list[float], *, benchmark: str = "mt-bench-mini") -> str:
    checkpoint = fingerprint(model)
    store.put_model(fingerprint=checkpoint, name=model, location="", lineage={})
    start = RunStart(
        benchmark=benchmark,
        model=model,
        model_fingerprint=checkpoint,
        engine_fingerprint=checkpoint,
        judge="rubric",
        judge_fingerprint=fingerprint("rubric"),
        protocol={"limit": None},
    )
    run = store.start_run(start)
    samples = [SampleScore(f"q{n}", ("math", "writing")[n % 2], "score", grade, 1) for n, grade in enumerate(grades)]
    run.add_samples(samples)
    run.finish("complete", open_benchmark("mt-bench-mini").aggregate(samples))
    return run.id


def gate(baseline: str, candidate: str, *words: str) -> Result:
    return CliRunner().invoke(app, ["gate", "--baseline", baseline, "--candidate", candidate, *words])


def read(done: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("candidate", "code"), [("release", 0), ("same", 0), ("worse", 1), ("wavering", 3)], ids=lambda value: str(value)
)
def test_the_exit_code_is_the_verdict(url: str, candidate: str, code: int) -> None:
    done = gate("release", candidate, "--store", url, "--format", "json")
    assert (done.exit_code, done.stderr) == (code, "")
    assert (read(done)["verdict"], read(done)["exit_code"]) == (VERDICTS[code], code)
    table = gate("release", candidate, "--store", url)
    assert table.exit_code == code
    assert table.stdout.startswith(f"gate: {VERDICTS[code]}")


def test_a_whole_command_ends_with_the_verdicts_code_and_loads_no_torch(url: str) -> None:
    code = (
        "import sys; from zephyr_bench.cli import main\n"
        "try: main()\n"
        "finally: print([name for name in ('torch', 'transformers', 'pandas', 'lm_eval') if name in sys.modules], "
        "file=sys.stderr)"
    )
    words = ["gate", "--baseline", "release", "--candidate", "worse", "--store", url]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "[]\n")
    assert "worst in math" in done.stdout or "worst in writing" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--baseline", "relaese", "--candidate", "same"], "Did you mean release"),
        (["--baseline", "release", "--candidate", "same", "--margin", "-1"], "--margin -1: expected 0 or more"),
        (["--baseline", "release", "--candidate", "same", "--confidence", "95"], "--confidence 95: expected 0.5"),
        (["--baseline", "release", "--candidate", "same", "--recipe", "smoll"], "unknown recipe 'smoll'"),
        (["--baseline", "release", "--candidate", "same", "--benchmark", "mt-bensh"], "Did you mean mt-bench-mini"),
        (["--baseline", "absent.json", "--candidate", "same"], "absent.json does not exist"),
        (["--baseline", "release", "--candidate", "same", "--allow-different", "limitt"], "Did you mean limit?"),
    ],
)
def test_a_mistake_is_one_sentence(url: str, words: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["gate", *words, "--store", url])
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)
    assert (done.exception.exit_code, done.stdout) == (2, "")


def test_without_a_store_the_message_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [COMMAND, "gate", "--baseline", "a", "--candidate", "b"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "store" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_baseline_file_needs_no_store(url: str, tmp_path: Path) -> None:
    with Store(url) as store:
        runs = {run.model: run for run in store.runs()}
        write_baseline(store, [runs["release"]], tmp_path / "release.json")
        write_baseline(store, [runs["worse"]], tmp_path / "worse.json")
    release, worse = str(tmp_path / "release.json"), str(tmp_path / "worse.json")
    done = gate(release, "same", "--store", url, "--format", "json")
    assert done.exit_code == 0
    assert read(done)["benchmarks"][0]["baseline"]["file"] == release
    nowhere = f"sqlite:///{tmp_path / 'absent.db'}"
    assert gate(release, worse, "--store", nowhere).exit_code == 1
    assert gate(release, release, "--store", nowhere).exit_code == 0
    assert not (tmp_path / "absent.db").exists()


def test_margins_of_options_and_recipes_decide(url: str, tmp_path: Path) -> None:
    recipe = tmp_path / "wide.yaml"
    recipe.write_text("description: x\nmodel: x\ngate:\n  margins: {mt-bench-mini: 3}\n", encoding="utf-8")
    done = gate("release", "worse", "--store", url, "--recipe", str(recipe), "--format", "json")
    (row,) = read(done)["benchmarks"]
    assert (done.exit_code, row["reason"], row["margin"]) == (0, "within-margin", 3.0)
    assert row["margin_from"] == "recipe wide"
    done = gate("release", "worse", "--store", url, "--recipe", str(recipe), "--margin", "mt-bench-mini=0.2")
    assert done.exit_code == 1


def test_what_has_no_margin_is_gated_where_it_is_asked_for(url: str) -> None:
    with Store(url) as store:
        for model, grade in (("release", 5.0), ("same", 5.0), ("worse", 4.0)):
            evaluated(store, model, [grade] * 24, benchmark="preferences-held-out")
    done = gate("release", "same", "--store", url, "--format", "json")
    assert [row["benchmark"] for row in read(done)["benchmarks"]] == ["mt-bench-mini"]
    assert any("preferences-held-out; --margin preferences-held-out=M" in note for note in read(done)["notes"])
    refused = gate("release", "same", "--store", url, "--benchmark", "preferences-held-out")
    assert "preferences-held-out is not in the catalogue" in str(refused.exception)
    with Store(url) as store:
        for model in ("release", "same"):
            evaluated(store, model, [5.0] * 24, benchmark="ours")
    refused = gate("release", "same", "--store", url)  # its --include was forgotten
    assert isinstance(refused.exception, UserError)
    assert "ours is not in the catalogue" in str(refused.exception)
    assert "--include" in str(refused.exception)
    assert gate("release", "same", "--store", url, "--benchmark", "mt-bench-mini").exit_code == 0
    alone = ["--benchmark", "mt-bench-mini", "--benchmark", "preferences-held-out"]
    words = ["--margin", "preferences-held-out=0.5", "--margin", "mt-bench-mini=3"]
    done = gate("release", "worse", "--store", url, "--format", "json", *words, *alone)
    assert [row["verdict"] for row in read(done)["benchmarks"]] == ["pass", "regression"]


def test_files_get_what_their_readers_want(url: str, tmp_path: Path) -> None:
    junit, summary, report = tmp_path / "new" / "junit.xml", tmp_path / "summary.md", tmp_path / "gate.json"
    summary.write_text("before\n", encoding="utf-8")
    files = ["--junit", str(junit), "--summary", str(summary), "-o", str(report)]
    for times in (1, 2):
        done = gate("release", "worse", "--store", url, "--format", "json", *files)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr == "gate: regression: mt-bench-mini\n"
        assert json.loads(report.read_text(encoding="utf-8"))["verdict"] == "regression"
        assert ElementTree.parse(junit).getroot()[0].get("failures") == "1"
        text = summary.read_text(encoding="utf-8")
        assert text.startswith("before\n## gate: regression: mt-bench-mini (worse against release)\n")
        assert text.count("## gate: ") == times


def test_in_a_workflow_summary_and_annotations_come_by_themselves(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    done = gate("release", "worse", "--store", url)
    assert done.stderr.startswith("::error title=mt-bench-mini%3A regression::mt-bench-mini score 5.00 to 3.9")
    assert "::error" not in done.stdout
    assert (tmp_path / "summary.md").read_text(encoding="utf-8").startswith("## gate: regression")
    assert gate("release", "worse", "--store", url, "--no-annotations").stderr == ""
    assert gate("release", "same", "--store", url).stderr == ""
    monkeypatch.setenv("GITHUB_ACTIONS", "")
    assert gate("release", "wavering", "--store", url).stderr == ""
    assert gate("release", "wavering", "--store", url, "--annotations").stderr.startswith("::warning title=")


def test_a_file_that_cannot_be_written_is_a_mistake_after_the_result_was_printed(url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = gate("release", "worse", "--store", url, "--summary", str(tmp_path / "file" / "summary.md"))
    assert isinstance(done.exception, UserError)
    assert "name another place with --summary" in str(done.exception)
    assert done.stdout.startswith("gate: regression")


def imported(url: str, *words: str) -> None:
    done = CliRunner().invoke(app, ["import", *words, "--store", url], catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("baseline", "candidate", "verdict", "reason"),
    [
        ("Meta-Llama-3-8B-Instruct-Normal", "Meta-Llama-3-8B-Instruct-Griffin", "regression", "lower"),
        ("Meta-Llama-3-8B-Instruct-Griffin", "Meta-Llama-3-8B-Instruct-Normal", "pass", "better"),
        ("mistral-orpo-trl", "mistral-orpo", "regression", "lower"),
        ("mistral-orpo", "mistral-orpo-mix", "inconclusive", "wide"),
        ("mistral-orpo", "mistral-orpo", "pass", "same-answers"),
    ],
)
def test_real_judgments_of_mt_bench(
    real_mt_bench: Path, tmp_path: Path, baseline: str, candidate: str, verdict: str, reason: str
) -> None:
    url = f"sqlite:///{tmp_path / 'real.db'}"
    imported(url, "fastchat", *map(str, sorted(real_mt_bench.glob("*_gpt-4_single.jsonl.gz"))))
    done = gate(baseline, candidate, "--store", url, "--format", "json", "--benchmark", "mt-bench")
    (row,) = read(done)["benchmarks"]
    assert (row["verdict"], row["reason"], row["margin"]) == (verdict, reason, 0.1), row
    assert VERDICTS[done.exit_code] == verdict
    assert row["questions"] == 80


def test_real_annotations_of_alpaca_eval(real_alpaca_eval: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'real.db'}"
    files = [str(real_alpaca_eval / f"v1_{model}.annotations.json.gz") for model in ("phi-2", "zephyr-7b-alpha")]
    imported(url, "alpaca-eval", *files, "--version", "1")
    worse = gate("zephyr-7b-alpha", "phi-2", "--store", url, "--format", "json")
    (row,) = read(worse)["benchmarks"]
    assert (worse.exit_code, row["benchmark"], row["metric"]) == (1, "alpaca-eval-1", "win-rate")
    assert row["baseline"]["value"] == pytest.approx(85.90, abs=0.01)  # of what both answered
    assert row["margin"] == 1.0
    assert row["questions"] >= 798
    assert gate("phi-2", "zephyr-7b-alpha", "--store", url).exit_code == 0
    assert gate("phi-2", "phi-2", "--store", url).exit_code == 0


@pytest.mark.parametrize(("candidate", "code"), [("same", 0), ("worse", 1), ("wavering", 3)])
def test_a_reader_that_goes_away_changes_neither_verdict_nor_files(
    url: str, tmp_path: Path, candidate: str, code: int
) -> None:
    words = ["gate", "--baseline", "release", "--candidate", candidate, "--store", url]
    command = subprocess.Popen(
        [COMMAND, *words, "--junit", str(tmp_path / "gate.xml")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert command.stdout is not None
    assert command.stderr is not None
    command.stdout.close()
    assert command.stderr.read() == b""
    command.stderr.close()
    assert command.wait() == code
    assert ElementTree.parse(tmp_path / "gate.xml").getroot()[0].get("tests") == "1"


def test_other_commands_whose_reader_goes_away_do_not_look_like_a_regression(url: str) -> None:
    command = subprocess.Popen([COMMAND, "runs", "--store", url], stdout=subprocess.PIPE)
    assert command.stdout is not None
    command.stdout.close()
    assert command.wait() == 141


def test_a_full_disk_behind_stdout_is_a_mistake_after_the_files_were_written(url: str, tmp_path: Path) -> None:
    words = ["gate", "--baseline", "release", "--candidate", "worse", "--store", url]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [COMMAND, *words, "--junit", str(tmp_path / "gate.xml")],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: stdout can't be written: No space left on device")
    assert (tmp_path / "gate.xml").exists()


def test_a_fault_of_our_own_is_no_regression_and_keeps_its_traceback(url: str, tmp_path: Path) -> None:
    """A plug-in that isn't what it says: whatever raises, the exit code is none of the gate's."""
    code = (
        "import sys; from zephyr_bench import cli\n"
        "from zephyr_bench.reports import gate_plan\n"
        "gate_plan.plan_gate = None\n"
        "cli.main()"
    )
    words = ["gate", "--baseline", "release", "--candidate", "worse", "--store", url]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (70, "")
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert "TypeError: 'NoneType' object is not callable" in done.stderr
    assert done.stderr.endswith("this is a fault of zephyr-bench's own; please report it with the lines above\n")
