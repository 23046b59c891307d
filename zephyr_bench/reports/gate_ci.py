"""A gate's report as CI systems read it: GitHub's annotations and step summary, JUnit's XML. Pure text.

Names of models and questions come from outside: each format gets them so that they are shown, never obeyed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from zephyr_bench.escaping import visible
from zephyr_bench.reports.gate import GateReport, Row
from zephyr_bench.reports.gate_formats import render_gate
from zephyr_bench.reports.gate_words import details, full_name, why
from zephyr_bench.reports.render import number
from zephyr_bench.stats.gate import Verdict

_SUITE = "zephyr-bench gate"
_NO_TIME = "1970-01-01T00:00:00"  # nothing was compared
# what XML 1.0 has no place for, not even escaped: production [2] Char
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def step_summary(report: GateReport) -> str:
    """Markdown for $GITHUB_STEP_SUMMARY, to be appended: a heading, the table, what stands below it."""
    title, _, rest = render_gate(report, "markdown").partition("\n\n")
    return f"## {title}\n\n{rest}\n"


def github_annotations(report: GateReport) -> Iterator[str]:
    """Workflow commands, a line each: an error for a regression, a warning for what can't be told."""
    levels = {Verdict.REGRESSION: "error", Verdict.INCONCLUSIVE: "warning"}
    for row in report.rows:
        if row.verdict in levels:
            lines = [_summed_up(row, report), *details(row)]
            title = f"{row.benchmark}: {row.verdict.value}"
            yield f"::{levels[row.verdict]} title={_property(title)}::{_data(lines)}"


def _summed_up(row: Row, report: GateReport) -> str:
    entry = row.entry
    if entry is None:
        return f"{row.benchmark}: {why(row, report)}"
    change = entry.change
    return (
        f"{row.benchmark} {entry.metric} {number(change.base)} to {number(change.candidate)} "
        f"({number(entry.gated.difference.value, signed=True)}, margin {entry.gated.margin:g}): {why(row, report)}"
    )


def _data(lines: list[str]) -> str:
    """GitHub's escapes of a command's message (actions/toolkit, command.ts); a line break is one of them."""
    return "%0A".join(visible(line).replace("%", "%25") for line in lines)


def _property(text: str) -> str:
    return visible(text).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")


def junit(report: GateReport) -> str:
    """A suite with a test case for each benchmark. A regression is a failure; what can't be told is skipped.

    Neither passed nor failed is what "inconclusive" means, and the exit code 3 says it once more. An <error> would be
    a fault of the gate's own. Fits Ant's schema and Jenkins' (junit-10.xsd), which differ in what they demand.
    """
    count = {verdict: str(sum(row.verdict is verdict for row in report.rows)) for verdict in Verdict}
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        name=_SUITE,
        package="zephyr_bench",
        id="0",
        timestamp=_made(report),
        hostname="localhost",
        tests=str(len(report.rows)),
        failures=count[Verdict.REGRESSION],
        errors="0",
        skipped=count[Verdict.INCONCLUSIVE],
        time="0",
    )
    properties = ElementTree.SubElement(suite, "properties")
    told = {
        "verdict": report.verdict.value,
        "baseline": report.baseline,
        "candidate": report.candidate,
        "confidence": f"{report.confidence:g}",
    }
    for name, value in told.items():
        ElementTree.SubElement(properties, "property", name=name, value=_xml(value))
    for row in report.rows:
        _test_case(suite, row, report)
    ElementTree.SubElement(suite, "system-out").text = _xml(render_gate(report, "markdown"))
    ElementTree.SubElement(suite, "system-err")
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _test_case(suite: ElementTree.Element, row: Row, report: GateReport) -> None:
    name = _xml(full_name(row, report))
    case = ElementTree.SubElement(suite, "testcase", name=name, classname="zephyr_bench.gate", time="0")
    kinds = {Verdict.REGRESSION: "failure", Verdict.INCONCLUSIVE: "skipped"}
    if row.verdict in kinds:
        message = _xml(_summed_up(row, report))
        outcome = ElementTree.SubElement(case, kinds[row.verdict], type=row.reason, message=message)
        outcome.text = "\n".join(_xml(line) for line in details(row)) or None


def _xml(text: str) -> str:
    """Control characters shown as their escapes; line breaks, which our own texts have, stay."""
    shown = "\n".join(visible(line) for line in text.split("\n"))
    return _NOT_XML.sub(lambda char: f"\\u{ord(char[0]):04x}", shown)


def _made(report: GateReport) -> str:
    """When the newest candidate was made, without a time zone: the same report is the same bytes."""
    times = [row.entry.comparison.candidate.created for row in report.rows if row.entry]
    found = [match[0] for time in times if (match := re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", time))]
    return max(found, default=_NO_TIME)
