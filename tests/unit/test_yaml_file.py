"""JSON lines at the door: the line that is named is the line that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from zephyr_bench.errors import UserError
from zephyr_bench.yaml_file import read_jsonl


def test_a_line_that_is_no_utf8_is_named_itself(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n\n{"a": "\xff"}\n{"a": 3}\n')
    rows = read_jsonl(path)
    assert next(rows) == (1, {"a": 1})
    with pytest.raises(UserError, match=r"rows\.jsonl line 3: is not UTF-8 text"):
        next(rows)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_end_as_any_system_ends_them(end: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(end.join([b'{"a": 1}', b"", '{"a": "\u2028"}'.encode()]))
    assert list(read_jsonl(path)) == [(1, {"a": 1}), (3, {"a": "\u2028"})]
