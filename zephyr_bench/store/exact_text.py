"""Text columns: sorted alike everywhere, and giving back every Python string exactly, as any database can hold it.

Databases take no lone surrogate (no UTF-8 for it), and PostgreSQL no NUL; models and servers produce
both, and what they said was paid for. Such a character is stored as DLE (U+0010, "data link escape")
and its four hex digits; DLE itself likewise. All other text is stored as it is.
"""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

_UNSTORABLE = re.compile("[\x00\x10\ud800-\udfff]")
_ESCAPE = re.compile("\x10([0-9a-f]{4})")

# SQLite compares text byte by byte; PostgreSQL as the server's country does, unless told
Text = sqlalchemy.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def escape(text: str) -> str:
    return _UNSTORABLE.sub(lambda found: f"\x10{ord(found[0]):04x}", text)


def unescape(stored: str) -> str:
    if "\x10" not in stored:
        return stored
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), stored)


class ExactText(TypeDecorator[str]):
    impl = sqlalchemy.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return Text

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else escape(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else unescape(value)
