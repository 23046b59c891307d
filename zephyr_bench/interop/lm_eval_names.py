"""lm-eval's names of tasks and metrics: those before 0.4 as those of 0.4, for what the Open LLM Leaderboards ask.

Before 0.4 a task's results were `metric` and `metric_stderr`; since then they are `metric,filter` and
`metric_stderr,filter`. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

Label = tuple[str, str]  # metric, filter

NO_FILTER = "none"
_SUBJECT = "hendrycksTest-"  # of MMLU
_RENAMED: Mapping[str, tuple[str, Mapping[str, Label]]] = {
    "truthfulqa_mc": ("truthfulqa_mc2", {"mc2": ("acc", NO_FILTER)}),
    # the number behind '####', which 0.4 calls strict
    "gsm8k": ("gsm8k", {"acc": ("exact_match", "strict-match")}),
}
# 0.4.0's only filter of gsm8k became strict-match when a second one was added
_RENAMED_LABELS: Mapping[str, Mapping[Label, Label]] = {
    "gsm8k": {("exact_match", "get-answer"): ("exact_match", "strict-match")}
}


def task_since_0_4(task: str) -> str:
    if task.startswith(_SUBJECT):
        return f"mmlu_{task.removeprefix(_SUBJECT)}"
    return _RENAMED[task][0] if task in _RENAMED else task


def label_since_0_4(task: str, metric: str) -> Label | None:
    """Of a metric before 0.4; None where 0.4 has no such one."""
    if task not in _RENAMED:
        return metric, NO_FILTER
    return _RENAMED[task][1].get(metric)


def label_of_0_4(task: str, metric: str, extraction: str) -> Label | None:
    """Of any 0.4; None of what has no filter, as the task's name and its number of rows beside the metrics."""
    label = metric, extraction
    return _RENAMED_LABELS.get(task, {}).get(label, label) if extraction else None


class Key(NamedTuple):
    """What a results' number is of; the filter is empty before 0.4."""

    metric: str
    filter: str
    is_error: bool  # the metric's standard error


def split_key(key: str) -> Key:
    name, _, extraction = key.partition(",")
    return Key(name.removesuffix("_stderr"), extraction, name.endswith("_stderr"))


def keys_of(label: Label) -> tuple[str, str]:
    """Under which keys results tell a metric and its standard error."""
    metric, extraction = label
    return f"{metric},{extraction}", f"{metric}_stderr,{extraction}"
