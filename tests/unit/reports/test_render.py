"""Tables as text: alignment, escaping, terminals, what each format may hold."""

from __future__ import annotations

import csv
import io
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zephyr_bench.errors import UserError
from zephyr_bench.escaping import csv_text, markdown, visible
from zephyr_bench.reports.render import (
    Notes,
    number,
    render_records,
    render_table,
    terminal_table,
    with_error,
)


@given(st.text())
def test_a_shown_name_is_one_line_without_hidden_characters(name: str) -> None:
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in visible(name))
    visible(name).encode("utf-8")


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "json"])
def test_a_name_gives_githubs_runner_no_command(form: str) -> None:
    names = ["::error::pwn", "  ::stop-commands::x", "a ##[error]pwn", "b\n::error::pwn"]
    text = render_table(["model"], [[name] for name in names], form, title=names[0], notes=names)
    assert "##[" not in text
    assert not any(line.lstrip(' "').startswith("::") for line in text.splitlines() if form != "json")
    if form == "json":
        assert [row["model"] for row in json.loads(text)] == names
    assert visible("a::b") == "a::b"


@given(st.text())
def test_markdown_cell_can_break_no_table_and_open_no_tag(name: str) -> None:
    cell = markdown(name)
    assert "\n" not in cell
    assert "<" not in cell
    bare = cell.replace("\\\\", "")
    assert bare.count("|") == bare.count("\\|")
    assert bare.count("`") == bare.count("\\`")


@given(st.text(min_size=1))
def test_markdown_of_plain_words_is_the_words(name: str) -> None:
    plain = "".join(char for char in name if char.isalnum()) or "x"
    assert markdown(plain) == plain


@pytest.mark.parametrize("link", ["https://evil.example/x", "HTTP://evil.example", "www.evil.example"])
def test_an_address_in_a_name_becomes_no_link(link: str) -> None:
    assert "://" not in markdown(link)
    assert "www." not in markdown(link)


def test_task_names_keep_their_underscores() -> None:
    assert markdown("mmlu_high_school_geography") == "mmlu_high_school_geography"
    assert markdown("_emphasis_") == "\\_emphasis\\_"


@pytest.mark.parametrize("name", ["=1+1", "+x", "-x", "@SUM(A1)", " =1", "\t=1"])
def test_spreadsheet_takes_no_name_for_a_formula(name: str) -> None:
    rows = list(csv.reader(io.StringIO(render_records([{"model": name, "value": -1.5}], ["model", "value"], "csv"))))
    assert not rows[1][0].lstrip().startswith(("=", "+", "-", "@"))
    assert rows[1][1] == "-1.5"


def test_a_rounded_negative_number_is_no_formula() -> None:
    assert csv_text("-0.70") == "-0.70"
    assert csv_text("-0.70*2") == "'-0.70*2"


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_csv_and_json_read_back(name: str) -> None:
    rows = [{"model": name, "value": 0.1 + 0.2}]
    assert json.loads(render_records(rows, ["model", "value"], "json")) == rows
    cell = list(csv.reader(io.StringIO(render_records(rows, ["model", "value"], "csv"))))[1]
    assert cell[0].removeprefix("'") in (visible(name), visible(name).removeprefix("'"))
    assert float(cell[1]) == 0.1 + 0.2


@given(
    st.lists(st.tuples(st.text(max_size=80), st.floats(-1e6, 1e6), st.floats(0, 1e3)), min_size=1, max_size=5),
    st.one_of(st.none(), st.integers(1, 120)),
)
def test_no_number_is_cut_on_any_terminal(rows: list[tuple[str, float, float]], width: int | None) -> None:
    cells = [[name, with_error(value, error)] for name, value, error in rows]
    text = terminal_table(["model", "score"], cells, numeric={1}, width=width)
    assert "…" not in text.replace("…".join(name for name, _, _ in rows), "")
    words = text.split()
    for _, value, error in rows:
        assert any(word.endswith(number(value)) for word in words)
        assert any(word.endswith(f"±{number(error)}") for word in words)


def test_names_fold_on_a_narrow_terminal() -> None:
    name = "checkpoints/" + "x" * 60
    text = terminal_table(["model", "score"], [[name, "6.19 ±0.31"]], numeric={1}, width=40)
    assert max(len(line) for line in text.splitlines()) <= 40
    assert "".join(line.split()[0] for line in text.splitlines()[2:]) == name


def test_markup_in_a_cell_is_text() -> None:
    assert "[red]x[/red]" in render_table(["a"], [["[red]x[/red]"]], "table")


def test_markdown_table_aligns_numbers_to_the_right() -> None:
    text = render_table(["model", "score"], [["a", "1.00"]], "markdown", numeric={1}, title="t", notes=["n"])
    assert text == "t\n\n| model | score |\n| :--- | ---: |\n| a | 1.00 |\n\nn  \n"


def test_table_without_rows_is_its_head() -> None:
    assert render_table(["model", "score"], [], "table").splitlines()[0] == "model   score"


def test_records_never_hold_nan() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        render_records([{"value": float("nan")}], ["value"], "json")


def test_unknown_format_is_named() -> None:
    with pytest.raises(UserError, match="unknown format 'xml': expected table, markdown, csv or json"):
        render_table(["a"], [["b"]], "xml")


@pytest.mark.parametrize(
    ("value", "told"), [(None, "-"), (-0.001, "0.00"), (0.001, "0.00"), (0.7, "+0.70"), (-2.1, "-2.10")]
)
def test_signed_numbers_have_no_signed_zero(value: float | None, told: str) -> None:
    assert number(value, signed=True) == told


def test_same_footnote_has_one_number() -> None:
    notes = Notes()
    assert [notes.mark("a"), notes.mark("b"), notes.mark("a")] == [" ¹", " ²", " ¹"]
    assert notes.lines() == ["¹ a", "² b"]
