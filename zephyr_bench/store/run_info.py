"""What is told of a run when it begins, and what the store tells of runs and models afterwards."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import Judgment

DRIFT = "drift"  # in a protocol: the baseline's answers graded again (pipeline/anchors.py), no result of the model's
SEQUENTIAL = "sequential"  # likewise: judged in random order until the gate was certain (pipeline/sequential_gate.py)
OF_A_GATE = (DRIFT, SEQUENTIAL)  # whose judging it was: no difference in how an answer was made or graded
# what a run of ours means that doesn't tell it: younger versions do, or only where it is otherwise
MEANT: Mapping[str, Any] = {
    "order": "both",
    "judgments": 1,
    "limit": None,
    "only": None,
    "not_answered": 0,
    "spread": False,
    "fewshot_as_multiturn": True,
    "system_instruction": None,
    "gen_kwargs": None,
}
PARTS = ("limit", "only", *OF_A_GATE)  # what a protocol tells of a run that isn't the whole benchmark
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
    version: str = ""  # of zephyr-bench that made it

    @property
    def protocol_fingerprint(self) -> str:
        """Equal for runs that were made and graded alike: benchmark, protocol, judge and our release.

        What a run of ours means without telling it counts as told, and what a gate notes of its judging doesn't count.
        Two development versions of one release count as one. The model, its seed and its engine are not in it: they
        are what is compared, or repeats of it.
        """
        told = self.compared_protocol
        if not self.imported:  # of another harness nobody knows what it means by silence
            told = {name: value for name, value in told.items() if name not in MEANT or value != MEANT[name]}
        return fingerprint(
            {
                "benchmark": self.benchmark,
                "protocol": told,
                "judge": self.judge_fingerprint,
                "version": release(self.version),
            }
        )

    @property
    def compared_protocol(self) -> dict[str, Any]:
        """The protocol without what a gate notes there of its judging."""
        return {name: value for name, value in self.protocol.items() if name not in OF_A_GATE}

    @property
    def part(self) -> str:
        """`limit`, `only`, `drift`, `sequential`, or several of them: why this is no result of the whole benchmark."""
        return part_of({name: self.protocol.get(name) for name in PARTS})

    @property
    def of_a_gate(self) -> bool:
        """Judged for a gate, and no further than that took."""
        return any(name in self.protocol for name in OF_A_GATE)

    @property
    def grading(self) -> tuple[str, str | None, tuple[str, ...], str | None]:
        """Benchmark, judge, rivals and references: figures of one grading stand in one column."""
        return self.benchmark, self.judge, self.rivals, self.references

    @property
    def imported(self) -> bool:
        """Made by another harness: what its files don't tell isn't known, the version that made it least of all."""
        return "imported" in self.environment

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


def part_of(told: Mapping[str, Any]) -> str:
    """`RunInfo.part`, of what a protocol has by those names."""
    return ", ".join(name for name in PARTS if told.get(name) not in (None, [], ()))


def release(version: str) -> str:
    """`0.3.1` of 0.3.1, 0.3.1.dev4 and 0.3.1rc1+local: what is released is what can be told apart."""
    found = re.match(r"\d+(\.\d+)*", version)
    return found[0] if found else version
