"""A server that answers chats: where it is, what it takes, and the key that never shows.

Pure but for the environment, where the key is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from zephyr_bench.errors import UserError

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class Server:
    """`who` names it in messages: "judge gpt-4 at https://…"."""

    who: str
    base_url: str
    api_key_env: str
    tries: int = 7  # of one call; the waits between double, from half a second to eight
    timeout_seconds: float = 120.0  # of one try
    concurrency: int | None = None  # calls at once; None: as many as it takes, found out
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

    def key(self) -> str | None:
        """The key from the environment; a server on this machine does without."""
        key = os.environ.get(self.api_key_env, "").strip()
        return key or ("none" if urlsplit(self.base_url).hostname in _LOOPBACK else None)

    def missing(self, what: str, otherwise: str) -> list[str]:
        """What the key lacks, a sentence each with what to do."""
        key = self.key()
        if key is None:
            return [f"an API key for {what}: set {self.api_key_env}, or {otherwise}"]
        if not (key.isascii() and key.isprintable() and " " not in key):  # it stands in an HTTP header
            return [f"a well-formed API key for {what}: {self.api_key_env} holds blanks or unprintable characters"]
        return []

    def key_refused(self, status: int) -> UserError:
        return UserError(f"{self.who}: the key was refused ({status}); put a valid one into {self.api_key_env}.")

    def without_key(self, text: str) -> str:
        key = self.key()
        return text.replace(key, "***") if key and key != "none" else text


def check_url(value: str) -> str:
    """The URL without its last slash. Raises ValueError for one that is none, or that holds a password."""
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("expected a URL such as http://127.0.0.1:8000/v1")
    if url.username or url.password:
        raise ValueError("holds a password; put the key into the variable of api_key_env")
    return value.rstrip("/")


def told_url(value: str) -> str:
    """The user's --base-url, checked. Raises UserError."""
    try:
        return check_url(value)
    except ValueError:  # the URL may hold a password: it is not shown
        raise UserError("--base-url: expected a URL without a password, such as http://127.0.0.1:8000/v1.") from None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait: a number, or a date (RFC 9110, 10.2.3)."""
    told = headers.get("retry-after")
    if told is None:
        return None
    try:
        seconds = float(told)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError):
            return None
    return max(0.0, seconds) if seconds == seconds else None


def sendable(text: str) -> str:
    """As UTF-8 can hold it: half a surrogate pair, which a model may leave, is shown as U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
