"""The rows of lm-eval's samples for what the store holds of a run. Pure: values in, plain JSON objects out.

Rows of generated texts that were read come out as they were read. Else the store has a row's numbers that count, and of
generated texts prompt and reply; what it doesn't have is null: the document, its target and hashes, of scored texts the
requests and log-probabilities, and what a filter made of a text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zephyr_bench.benchmarks.open_llm_scores import TaskRule
from zephyr_bench.interop.lm_eval_names import NO_FILTER, Label
from zephyr_bench.interop.lm_eval_texts import prompt_digest, rows_of
from zephyr_bench.interop.stored_run import Row, StoredRun
from zephyr_bench.records import Answer, SampleScore

Values = dict[Label, list[SampleScore]]  # of a document: a row's one value, or its parts'


def sample_rows(run: StoredRun) -> dict[str, list[Row]]:
    """By task, in the store's order; of a task with several filters one filter's rows after the other's."""
    answers: dict[str, list[Answer]] = {}
    for answer in run.answers:
        answers.setdefault(answer.question, []).append(answer)
    shown = {question.id: question.turns[0] for question in run.questions}
    by_digest = {prompt_digest(prompt): prompt for prompt in shown.values()}
    found: dict[str, list[Row]] = {}
    for leaf, documents in documents_of(run).items():
        rows = [
            rows_of(by_digest, answers.get(question, ()))
            or _rows_made_here(question, labels, answers.get(question, ()), shown.get(question))
            for question, labels in documents.items()
        ]
        longest = max(map(len, rows))
        found[leaf] = [of_one[place] for place in range(longest) for of_one in rows if place < len(of_one)]
    return found


def documents_of(run: StoredRun) -> dict[str, dict[str, Values]]:
    """Task -> question -> metric and filter -> the values of a row's parts, or its one."""
    labels = Labels(run)
    found: dict[str, dict[str, Values]] = {}
    for sample in run.samples:
        if sample.question:  # else it says why the run lacks a score
            documents = found.setdefault(sample.category, {})
            documents.setdefault(sample.question, {}).setdefault(labels.of(sample), []).append(sample)
    return found


class Labels:
    """lm-eval's metric and filter of samples, as the run's protocol tells them."""

    def __init__(self, run: StoredRun) -> None:
        self._told: list[tuple[TaskRule, Mapping[str, Any]]] = [
            (TaskRule.read(told), told) for told in run.info.protocol["tasks"]
        ]
        self._owners: dict[str, tuple[TaskRule, Mapping[str, Any]]] = {}

    def entry(self, leaf: str) -> Mapping[str, Any]:
        """The protocol's, of the task that lm-eval's is a part of."""
        return self._owner(leaf)[1]

    def of(self, sample: SampleScore) -> Label:
        rule, told = self._owner(sample.category)
        if sample.metric in rule.metrics:
            return sample.metric, told.get("filter", NO_FILTER)
        metric, _, extraction = sample.metric.partition(",")
        return metric, extraction or NO_FILTER

    def _owner(self, leaf: str) -> tuple[TaskRule, Mapping[str, Any]]:
        if leaf not in self._owners:
            owners = [owner for owner in self._told if owner[0].owns(leaf)]
            self._owners[leaf] = max(owners, key=lambda owner: (leaf in owner[0].leaves, len(owner[0].task)))
        return self._owners[leaf]


def _rows_made_here(question: str, values: Values, answers: Sequence[Answer], prompt: str | None) -> list[Row]:
    """One a filter."""
    texts = [answer.text for answer in sorted(answers, key=lambda answer: answer.replicate)]
    rows = []
    for extraction in dict.fromkeys(label[1] for label in values):
        metrics = {metric: _as_told(samples) for (metric, of), samples in values.items() if of == extraction}
        rows.append(
            {
                "doc_id": int(question.rpartition("/")[2]),
                "doc": None,
                "target": None,
                "arguments": {"gen_args_0": {"arg_0": prompt}} if texts and prompt is not None else None,
                "resps": [texts] if texts else None,
                # lm-eval's own filter takes the first reply
                "filtered_resps": texts[:1] if texts and extraction == NO_FILTER else None,
                "filter": extraction,
                "metrics": list(metrics),
                "doc_hash": None,
                "prompt_hash": None,
                "target_hash": None,
                **metrics,
            }
        )
    return rows


def _as_told(samples: Sequence[SampleScore]) -> Any:
    ordered = sorted(samples, key=lambda sample: sample.turn)
    return ordered[0].value if ordered[0].turn == 0 else [sample.value for sample in ordered]
