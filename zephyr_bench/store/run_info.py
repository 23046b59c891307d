"""What is told of a run when it begins, and what the store tells of runs and models afterwards."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zephyr_bench.records import Judgment

STATUSES = ("running", "complete", "incomplete", "interrupted", "failed")


@dataclass(frozen=True)
class RunStart:
    """All that is known of a run before its first answer."""

    benchmark: str
    model: str
    model_fingerprint: str  # of a model that `Store.put_model` was given
    engine_fingerprint: str
    judge: str | None = None
    judge_fingerprint: str | None = None
    protocol: Mapping[str, Any] = field(default_factory=dict, hash=False)  # plain JSON data
    seed: int = 0
    environment: Mapping[str, Any] = field(default_factory=dict, hash=False)  # versions, hardware


@dataclass(frozen=True)
class RunInfo:
    """A run as the store knows it. `status` is one of STATUSES; times are UTC, ISO 8601."""

    id: str
    benchmark: str
    model: str
    model_fingerprint: str
    engine_fingerprint: str
    judge: str | None
    judge_fingerprint: str | None
    status: str
    created: str
    finished: str | None
    tags: tuple[str, ...] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict, hash=False)
    seed: int = 0
    note: str = ""  # the model's: "quantised"
    environment: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def references(self) -> str | None:
        """Name of the reference answers that a judge was shown; None where there are none, or it isn't known."""
        found = self.protocol.get("references")
        known = isinstance(found, str) and not re.fullmatch("[0-9a-f]{64}", found)  # once the file's hash stood here
        return str(found) if known else None

    @property
    def rivals(self) -> tuple[str, ...]:
        """The models that the run's was compared with."""
        return tuple(self.protocol.get("rivals") or ())


@dataclass(frozen=True)
class Verdict:
    """A stored judgment with what it is of."""

    judgment: Judgment
    question: str  # its id
    turn: int
    answer: str  # key of the answer judged
    rival: str | None  # key of the answer that it was compared with
    replicate: int
    created: str


@dataclass(frozen=True)
class ModelInfo:
    """A checkpoint as the store knows it, with how it came to be."""

    fingerprint: str
    name: str
    location: str
    note: str
    lineage: Mapping[str, Any] = field(hash=False)
    created: str = ""
