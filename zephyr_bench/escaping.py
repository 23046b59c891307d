"""Names come from outside: each output format gets them so that they are shown, never obeyed.

A model may be called `|`, `=cmd()`, `<script>` or hold a terminal's escape codes. Pure text to text.
"""

from __future__ import annotations

import re
import unicodedata

# control and format characters (bidi overrides among them), lone surrogates, line and paragraph separators
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_FORMULA = ("=", "+", "-", "@")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_COMMAND = re.compile(r"^\s*:(?=:)|##\[")  # actions/runner, ActionCommand.cs
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def visible(text: str) -> str:
    """The text on one line, with each character that isn't shown replaced by its escape.

    So is what GitHub's runner takes for a command in a job's output: `::` where a line begins, `##[` anywhere.
    """
    line = "".join(_escape(char) if unicodedata.category(char) in _HIDDEN else char for char in text)
    return _COMMAND.sub(lambda found: found[0][:-1] + _escape(found[0][-1]), line)


def _escape(char: str) -> str:
    code = ord(char)
    if char in _NAMED:
        return _NAMED[char]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def markdown(text: str) -> str:
    """The text as literal text of a GitHub-flavoured table cell: no markup, HTML, link or column break."""
    text = re.sub(r"[&<>]", lambda char: _HTML[char[0]], visible(text))
    text = re.sub(r"[\\`|*\[\]~$]", r"\\\g<0>", text)
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # inside a word an underscore is no emphasis
    # GitHub makes links of bare addresses; an entity is no colon or full stop to it
    text = re.sub(r"(?i)\b(https?|ftp)(?=://)(:)", r"\1&#58;", text)
    return re.sub(r"(?i)\b(www)\.", r"\1&#46;", text)


def csv_text(text: str) -> str:
    """The text as a cell that a spreadsheet takes for text, not for a formula (a quote goes before it)."""
    shown = visible(text)
    formula = shown.lstrip().startswith(_FORMULA) and not _NUMBER.fullmatch(shown)
    return f"'{shown}" if formula else shown
