"""What a model wrote for a row of lm-eval's samples, as an answer of ours, and the row put together again from it.

A row is of a generated text where its one request has a prompt and options to write by, and its replies are texts.
Prompt and texts become question and answers, the rest of the document's rows (one a filter) their origin. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.interop.imported_runs import Told
from zephyr_bench.records import Answer, Question

ORIGIN = "lm_eval"  # of the first answer to a document: its rows, with None for prompt and texts
PROMPT = "prompt"  # beside it, the prompt's digest: the store keeps a question once, under the first one's id
Row = dict[str, Any]


def is_generated(row: Mapping[str, Any]) -> bool:
    return _prompt(row) is not None and _texts(row) is not None


def answers_of(model: str, leaf: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[Told]:
    """To the document that these rows are of; an answer for each time it was asked."""
    prompt, texts = _prompt(rows[0]) or "", _texts(rows[0]) or []
    question = Question(f"{leaf}/{rows[0]['doc_id']}", leaf, (prompt,))
    for replicate, text in enumerate(texts):
        what = {"model": model, "question": question.id, "prompt": prompt, "text": text, "replicate": replicate}
        origin = None
        if replicate == 0:
            origin = {ORIGIN: [_without_texts(row, prompt, texts) for row in rows], PROMPT: prompt_digest(prompt)}
        key = fingerprint({"imported": what, "origin": origin})
        yield question, Answer(key, model, question.id, 1, text, replicate=replicate, origin=origin)


def rows_of(prompts: Mapping[str, str], answers: Sequence[Answer]) -> list[Row] | None:
    """The rows that these answers to one document were read from; None where they were read from none.

    `prompts` are by digest.
    """
    ordered = sorted(answers, key=lambda answer: answer.replicate)
    origin = ordered[0].origin if ordered else None
    if not origin or ORIGIN not in origin:
        return None
    texts = [answer.text for answer in ordered]
    return [_with_texts(row, prompts[origin[PROMPT]], texts) for row in origin[ORIGIN]]


def prompt_digest(prompt: str) -> str:
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()


def _prompt(row: Mapping[str, Any]) -> str | None:
    found = _request(row)
    prompt = found[0] if found else None
    if isinstance(prompt, list) and len(prompt) == 1:  # of a model that only chats: its messages as JSON
        prompt = prompt[0]
    return prompt if isinstance(prompt, str) else None


def _request(row: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """(prompt, options) of the only request."""
    arguments = row.get("arguments")
    values = list(arguments.values()) if isinstance(arguments, dict) else arguments
    if not isinstance(values, list) or len(values) != 1:
        return None
    parts = list(values[0].values()) if isinstance(values[0], dict) else values[0]
    if not isinstance(parts, list) or len(parts) != 2 or not isinstance(parts[1], dict):
        return None
    return parts[0], parts[1]


def _texts(row: Mapping[str, Any]) -> list[str] | None:
    replies = row.get("resps")
    if not isinstance(replies, list) or len(replies) != 1 or not isinstance(replies[0], list) or not replies[0]:
        return None
    texts = replies[0]
    return texts if all(isinstance(text, str) for text in texts) else None


def _without_texts(row: Mapping[str, Any], prompt: str, texts: Sequence[str]) -> Row:
    """Whole where a filter's row of the document is of another prompt or text, in files put together by hand."""
    same = _prompt(row) == prompt and _texts(row) == texts
    return {**row, "resps": None, "arguments": _replaced(row["arguments"], None)} if same else dict(row)


def _with_texts(row: Row, prompt: str, texts: Sequence[str | None]) -> Row:
    if row["resps"] is not None:
        return row
    return {**row, "resps": [list(texts)], "arguments": _replaced(row["arguments"], prompt)}


def _replaced(arguments: Any, prompt: str | None) -> Any:
    """The arguments with another prompt in its place."""
    if isinstance(arguments, dict):
        ((name, request),) = arguments.items()
        return {name: _in_request(request, prompt)}
    return [_in_request(arguments[0], prompt)]


def _in_request(request: Any, prompt: str | None) -> Any:
    if isinstance(request, dict):
        (first, old), *rest = request.items()
        return {first: _in_place_of(old, prompt), **dict(rest)}
    return [_in_place_of(request[0], prompt), *request[1:]]


def _in_place_of(old: Any, prompt: str | None) -> Any:
    return [prompt] if isinstance(old, list) else prompt
