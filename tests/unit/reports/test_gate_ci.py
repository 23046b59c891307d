"""The gate's report for machines: JSON, CSV, JUnit, GitHub's annotations and step summary; names are hostile."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from conftest_reports import AddRun, chat_samples
from gate_runs import gate, graded, level, preferred

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.errors import UserError
from zephyr_bench.reports.gate import GateReport
from zephyr_bench.reports.gate_ci import github_annotations, junit, step_summary
from zephyr_bench.reports.gate_formats import render_gate
from zephyr_bench.store import Store

HOSTILE = "m\x00\x1b[31m\ud800\uffff|<b>`%0A::error title=x,y::z\n##[add-mask]*** ]]>"


@pytest.fixture
def mixed(store: Store, add_run: AddRun) -> GateReport:
    """A regression, a pass, and a benchmark that the candidate lacks."""
    add_run("base", samples=level())
    add_run("new", samples=graded(-1))
    add_run("base", "alpaca-eval-mini", samples=preferred(0))
    add_run("new", "alpaca-eval-mini", samples=preferred(0.25))
    add_run("base", "mt-bench", samples=level())
    return gate(store, "base", "new")


@pytest.fixture
def hostile(store: Store, add_run: AddRun) -> GateReport:
    base = add_run("base", samples=level())
    run = add_run(HOSTILE, samples=graded(-1))
    return gate(store, base, run)


def read(report: GateReport) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(render_gate(report, "json"))
    return found


def test_json_has_full_precision_and_the_same_keys_for_every_benchmark(mixed: GateReport) -> None:
    found = read(mixed)
    assert (found["version"], found["verdict"], found["exit_code"]) == (1, "regression", 1)
    assert (found["level"], found["adjustment"], found["confidence"]) == (0.025, "holm", 0.95)
    passed, missing, worse = found["benchmarks"]
    assert passed.keys() == missing.keys() == worse.keys()
    told = [(row["benchmark"], row["verdict"], row["reason"]) for row in found["benchmarks"]]
    assert told == [
        ("alpaca-eval-mini", "pass", "better"),
        ("mt-bench", "inconclusive", "missing"),
        ("mt-bench-mini", "regression", "lower"),
    ]
    row = mixed.rows[2]
    assert row.ruling is not None
    assert row.design is not None
    assert (worse["low"], worse["high"]) == (row.ruling.low, row.ruling.high)
    assert (worse["p_lower_adjusted"], worse["detectable"]) == (row.ruling.p_lower_adjusted, row.design.detectable)
    assert worse["worse"][0]["metric"] in ("math", "writing")
    assert worse["lost_most"][0]["candidate"] < worse["lost_most"][0]["baseline"]
    assert missing["difference"] is None


def test_the_json_is_the_one_that_the_document_tells(mixed: GateReport) -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "design" / "gate.md").read_text(encoding="utf-8")
    found = read(mixed)
    for key in (*found, *found["benchmarks"][0]):
        assert f"`{key}`" in text, key


def test_csv_has_a_row_a_benchmark(mixed: GateReport) -> None:
    rows = list(csv.DictReader(io.StringIO(render_gate(mixed, "csv"))))
    assert [row["verdict"] for row in rows] == ["pass", "inconclusive", "regression"]
    assert float(rows[2]["difference"]) == read(mixed)["benchmarks"][2]["difference"]
    assert rows[1]["candidate_run"] == ""


def test_the_same_report_is_the_same_bytes(mixed: GateReport) -> None:
    for format in ("table", "markdown", "csv", "json"):
        assert render_gate(mixed, format) == render_gate(mixed, format)
    assert junit(mixed) == junit(mixed)
    with pytest.raises(UserError, match="unknown format 'xml'"):
        render_gate(mixed, "xml")


def test_junit_has_a_case_a_benchmark(mixed: GateReport) -> None:
    root = ElementTree.fromstring(junit(mixed))
    (suite,) = root
    assert root.tag == "testsuites"
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["3", "1", "0", "1"]
    cases = {case.get("name"): case for case in suite.findall("testcase")}
    assert list(cases) == ["alpaca-eval-mini by rubric", "mt-bench by rubric", "mt-bench-mini by rubric"]
    assert [child.tag for child in cases["alpaca-eval-mini by rubric"]] == []
    (skipped,) = cases["mt-bench by rubric"]
    assert (skipped.tag, skipped.get("type")) == ("skipped", "missing")
    assert skipped.get("message") == "mt-bench: new has no complete run of it"
    (failure,) = cases["mt-bench-mini by rubric"]
    assert (failure.tag, failure.get("type")) == ("failure", "lower")
    assert (failure.get("message") or "").startswith("mt-bench-mini score 5.00 to 4.00 (-1.00, margin 0.3): lower")
    assert (failure.text or "").startswith("worst in ")


# of Ant's schema (windyroad/JUnit-Schema) and of Jenkins' (junit-10.xsd): what each element must have, and may hold
_ATTRIBUTES = {
    "testsuites": set(),
    "testsuite": {
        *("name", "package", "id", "timestamp", "hostname", "tests", "failures", "errors", "skipped", "time")
    },
    "properties": set(),
    "property": {"name", "value"},
    "testcase": {"name", "classname", "time"},
    "failure": {"type", "message"},
    "skipped": {"type", "message"},
    "system-out": set(),
    "system-err": set(),
}


def test_junit_fits_both_common_schemas(mixed: GateReport) -> None:
    root = ElementTree.fromstring(junit(mixed))
    for element in root.iter():
        assert set(element.keys()) == _ATTRIBUTES[element.tag]
    (suite,) = root
    order = [element.tag for element in suite]
    assert order == ["properties", *["testcase"] * 3, "system-out", "system-err"]  # Ant's is a sequence
    assert all(len(case) <= 1 for case in suite.findall("testcase"))  # and a choice of one


def test_junit_of_hostile_names_is_xml_and_shows_them(hostile: GateReport) -> None:
    text = junit(hostile)
    root = ElementTree.fromstring(text)
    told = "".join(root.itertext())
    assert r"m\x00\x1b[31m\ud800\uffff" in told
    assert not any(ord(char) < 0x20 and char != "\n" for char in text)
    assert len(list(root.iter("testcase"))) == 1


def test_annotations_are_an_error_a_regression_and_a_warning_for_what_is_not_told(mixed: GateReport) -> None:
    lines = list(github_annotations(mixed))
    assert lines[0] == "::warning title=mt-bench%3A inconclusive::mt-bench: new has no complete run of it"
    assert lines[1].startswith("::error title=mt-bench-mini%3A regression::mt-bench-mini score 5.00 to 4.00 (-1.00")
    assert "%0Aworst in " in lines[1]
    assert len(lines) == 2


def test_annotations_of_hostile_names_are_one_command_each(hostile: GateReport) -> None:
    (line,) = github_annotations(hostile)
    assert "\n" not in line
    _, properties, message = line.split("::", 2)
    assert properties == "error title=mt-bench-mini%3A regression"
    # what GitHub's runner makes of it: the text, with our own line breaks and none of the name's
    shown = message.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")
    assert "%0A::error title=x,y::z" in shown
    assert len(shown.split("\n")) == 4


def test_a_title_has_no_character_that_ends_it(store: Store, add_run: AddRun) -> None:
    aggregate = open_benchmark("mt-bench-mini").aggregate
    for name, samples in (("old", level()), ("young", graded(-1))):
        add_run(name, "a:b,c%d", samples=samples, scores=aggregate(samples))
    (line,) = github_annotations(gate(store, "old", "young", margin=["0.3"]))
    assert line.startswith("::error title=a%3Ab%2Cc%25d%3A regression::")


@pytest.mark.parametrize("format", ["table", "markdown", "csv", "json"])
def test_no_output_holds_what_a_terminal_or_a_runner_obeys(hostile: GateReport, format: str) -> None:
    text = render_gate(hostile, format)
    assert "##[" not in text
    assert "\x1b" not in text
    assert not any(line.lstrip().startswith("::") for line in text.split("\n"))
    if format == "json":
        assert read(hostile)["benchmarks"][0]["candidate"]["model"] == HOSTILE


def test_the_step_summary_is_a_heading_a_table_and_what_stands_below(mixed: GateReport) -> None:
    text = step_summary(mixed)
    lines = text.split("\n")
    assert lines[0] == "## gate: regression: mt-bench-mini; inconclusive: mt-bench (new against base)"
    assert lines[2].startswith("| benchmark | metric |")
    assert "Holm" in text
    assert text.endswith("\n\n")


def test_the_step_summary_shows_hostile_names_as_text(hostile: GateReport) -> None:
    text = step_summary(hostile)
    assert "<b>" not in text
    assert "&lt;b&gt;" in text


def test_questions_named_by_a_file_are_text_too(store: Store, add_run: AddRun) -> None:
    base, worse = (
        [replace(sample, question=f"{sample.question}\n::error::x") for sample in samples]
        for samples in (chat_samples(*[(9, 9)] * 12), chat_samples(*[(3, 2)] * 12))
    )
    add_run("base", samples=base)
    add_run("new", samples=worse)
    found = gate(store, "base", "new")
    (line,) = github_annotations(found)
    assert r"\n::error::x" in line
    assert "%0A::error" not in line
