"""A text column that gives back every Python string exactly, as any database can hold it.

Databases take no lone surrogate (no UTF-8 for it), and PostgreSQL no NUL; models and servers produce
both, and what they said was paid for. Such a character is stored as DLE (U+0010, "data link escape")
and its four hex digits; DLE itself likewise. All other text is stored as it is.
"""

from __future__ import annotations

import re

from sqlalchemy import Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

_UNSTORABLE = re.compile("[\x00\x10\ud800-\udfff]")
_ESCAPE = re.compile("\x10([0-9a-f]{4})")


def escape(text: str) -> str:
    return _UNSTORABLE.sub(lambda found: f"\x10{ord(found[0]):04x}", text)


def unescape(stored: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), stored)


class ExactText(TypeDecorator[str]):
    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else escape(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else unescape(value)
