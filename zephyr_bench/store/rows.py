"""Records to table rows and back. A NaN is refused here, at the last door before the disk."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, Row, Text, select, type_coerce

from zephyr_bench.records import Answer, Judgment, Match, Question, SampleScore, Score, ScoredTokens
from zephyr_bench.store.exact_text import ExactText, unescape
from zephyr_bench.store.schema import answers, judgments, samples, scores, token_scores

Item = TypeVar("Item")

_KEYS_PER_QUERY = 1000  # databases limit the parameters of a statement

ANSWER = tuple(
    answers.c[name]
    for name in (
        "key",
        "model",
        "question",
        "turn",
        "text",
        "finish_reason",
        "prompt_tokens",
        "completion_tokens",
        "replicate",
        "origin",
    )
)
JUDGMENT = tuple(
    judgments.c[name]
    for name in (
        "key",
        "judge",
        "score",
        "reason",
        "reply",
        "input_tokens",
        "output_tokens",
        "cost_usd",
        "prompt",
        "origin",
    )
)
TOKEN_SCORE = tuple(token_scores.c[name] for name in ("key", "log_prob", "is_greedy", "tokens"))
SAMPLE = tuple(
    samples.c[name] for name in ("question", "category", "metric", "value", "turn", "reason", "rival", "replicate")
)
# as they are stored: a type that unescapes each value by itself takes most of the time of many rows
SAMPLE_STORED = tuple(
    type_coerce(column, Text()) if isinstance(column.type, ExactText) else column for column in SAMPLE
)
SCORE = tuple(scores.c[name] for name in ("metric", "value", "stderr", "n", "missing"))


def now() -> str:
    """UTC, of one width, so that text order is time order."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def in_batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, _KEYS_PER_QUERY)):
        yield batch


def rows_by_key(
    connection: Connection, columns: tuple[Column[Any], ...], keys: Iterable[str]
) -> dict[str, Sequence[Any]]:
    """Key -> row, of the keys that the first column has, in the order asked for."""
    wanted = list(dict.fromkeys(keys))
    found: dict[str, Sequence[Any]] = {}
    for batch in in_batches(wanted):
        query = select(*columns).where(columns[0].in_(batch))
        found.update((row[0], row) for row in connection.execute(query))
    return {key: found[key] for key in wanted if key in found}


def answers_by_key(connection: Connection, keys: Iterable[str]) -> dict[str, Answer]:
    """Key -> answer, of the keys that are stored."""
    return {key: Answer(*row) for key, row in rows_by_key(connection, ANSWER, keys).items()}


def number(value: float | None, what: str) -> float | None:
    """As a plain float. Raises ValueError for what is no finite one: a missing value is None, with a reason."""
    if value is None:
        return None
    if not math.isfinite(value):
        told = "NaN" if math.isnan(value) else "infinite"
        raise ValueError(f"{what} is {told}; a missing value is None, with a reason")
    return float(value)


def question_row(question: Question) -> dict[str, Any]:
    content = {"turns": question.turns, "reference": question.reference, "checks": question.checks}
    return {
        "fingerprint": question.fingerprint,
        "id": question.id,
        "category": question.category,
        "content": content,
    }


def question(row: Row[Any]) -> Question:
    content = row.content
    checks = tuple(tuple(turn) for turn in content["checks"])
    return Question(row.id, row.category, tuple(content["turns"]), tuple(content["reference"]), checks)


def answer_row(question: Question, answer: Answer, created: str) -> dict[str, Any]:
    return {
        "key": answer.key,
        "model": answer.model,
        "question": answer.question,
        "question_fingerprint": question.fingerprint,
        "turn": answer.turn,
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "created": created,
        "replicate": answer.replicate,
        "origin": answer.origin,
    }


def judgment_row(match: Match, judgment: Judgment, created: str) -> dict[str, Any]:
    return {
        "key": judgment.key,
        "judge": judgment.judge,
        "score": number(judgment.score, f"score of judgment {judgment.key}"),
        "reason": judgment.reason,
        "reply": judgment.reply,
        "input_tokens": judgment.input_tokens,
        "output_tokens": judgment.output_tokens,
        "cost_usd": number(judgment.cost_usd, f"cost of judgment {judgment.key}"),
        "question": match.question.id,
        "question_fingerprint": match.question.fingerprint,
        "turn": match.turn,
        "answer_key": match.answers[-1].key,
        "rival_key": match.rival[-1].key if match.rival else None,
        "replicate": match.replicate,
        "created": created,
        "prompt": judgment.prompt,
        "origin": judgment.origin,
    }


def token_score_row(scored: ScoredTokens) -> dict[str, Any]:
    if math.isnan(scored.log_prob):  # -inf is one: of what can't follow
        raise ValueError(f"log-probability of {scored.key} is NaN")
    return {
        "key": scored.key,
        "log_prob": float(scored.log_prob),
        "is_greedy": bool(scored.is_greedy),
        "tokens": scored.tokens,
    }


def sample_row(run: int, position: int, sample: SampleScore) -> dict[str, Any]:
    return {
        "run": run,
        "metric": sample.metric,
        "question": sample.question,
        "turn": sample.turn,
        "rival": sample.rival,
        "replicate": sample.replicate,
        "position": position,
        "category": sample.category,
        "value": number(sample.value, f"{sample.metric} of question {sample.question}"),
        "reason": sample.reason,
    }


def sample(stored: Sequence[Any]) -> SampleScore:
    """Of a row of SAMPLE_STORED."""
    question, category, metric, value, turn, reason, rival, replicate = stored
    why = None if reason is None else unescape(reason)
    told = unescape(question), unescape(category), unescape(metric)
    return SampleScore(*told, value, turn, why, unescape(rival), replicate)


def score_row(run: int, position: int, score: Score) -> dict[str, Any]:
    return {
        "run": run,
        "metric": score.metric,
        "position": position,
        "value": number(score.value, score.metric),
        "stderr": number(score.stderr, f"standard error of {score.metric}"),
        "n": score.n,
        "missing": score.missing,
    }


def link_rows(run: int, what: str, keys: Iterable[str]) -> list[dict[str, Any]]:
    return [{"run": run, what: key} for key in keys]
