"""The rows of FastChat's files for what the store holds. Pure: values in, plain JSON objects out.

An imported row is put together again from its origin; what zephyr-bench made gets FastChat's fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from zephyr_bench.interop.fastchat_answers import FIRST_CHOICE, ORIGIN
from zephyr_bench.interop.fastchat_questions import as_written, by_id
from zephyr_bench.interop.stored_run import Row, StoredRun, apart, filled
from zephyr_bench.records import Answer
from zephyr_bench.store import Verdict

_MADE_HERE = -1  # in place of a first choice: the answer is of no row that was read


def check_graded_alike(runs: Iterable[StoredRun]) -> None:
    """Raises UserError for runs of one model whose grades would be mixed in the file of their judge."""
    seen: dict[tuple[str, str, str], StoredRun] = {}
    for run in runs:
        if run.verdicts:
            known = seen.setdefault((run.info.benchmark, run.info.model, run.judge), run)
            if known.info.references != run.info.references:
                raise apart(known, run, f"were judged by {run.judge} with other references")


def question_rows(runs: Iterable[StoredRun]) -> list[Row]:
    """In order of id. Raises UserError where two runs ask different questions under one id."""
    found: dict[str, tuple[Row, StoredRun]] = {}
    for run in runs:
        for id, row in _questions(run).items():
            known, other = found.setdefault(id, (row, run))
            if _turns(known) != _turns(row):
                raise apart(other, run, f"ask different questions under the id {id}")
            if len(row) > len(known):  # this run's was read from a file, with the notes beside it
                found[id] = row, run
    return [row for _, (row, _) in sorted(found.items(), key=lambda item: by_id(item[0]))]


def _questions(run: StoredRun) -> dict[str, Row]:
    categories = {sample.question: sample.category for sample in run.samples}
    read: Mapping[str, Row] = run.info.environment.get("questions", {})
    found = dict(read)
    for question in run.questions:
        category = categories.get(question.id, question.category)
        row = read.get(question.id, {"question_id": as_written(question.id), "category": category, "turns": None})
        texts = {"turns": list(question.turns)} if "turns" in row else {"text": question.turns[0]}
        found[question.id] = filled(row, texts)
    # the store keeps questions of one content once, under the first one's id: another's turns may not be told
    return {id: row for id, row in found.items() if _turns(row) not in (None, [None])}


def _turns(row: Row) -> Any:
    return row["turns"] if "turns" in row else [row["text"]]


def answer_rows(runs: Iterable[StoredRun]) -> dict[str, list[Row]]:
    """By model, in order of question. Answers without a text are left out.

    Raises UserError where two runs have different answers of one model to a question.
    """
    found: dict[tuple[str, str], dict[tuple[int, int], tuple[Answer, StoredRun]]] = {}
    for run in runs:
        for answer in run.answers:
            if answer.text is not None:
                turns = found.setdefault((answer.model, answer.question), {})
                known, other = turns.setdefault((answer.replicate, answer.turn), (answer, run))
                if known.text != answer.text:
                    raise apart(other, run, f"have different answers of {answer.model} to question {answer.question}")
    rows: dict[str, list[Row]] = {}
    for (model, _), turns in sorted(found.items(), key=lambda item: (item[0][0], by_id(item[0][1]))):
        rows.setdefault(model, []).extend(_rows_of_question(list(turns.values())))
    return rows


def _rows_of_question(given: Sequence[tuple[Answer, StoredRun]]) -> Iterator[Row]:
    """The row that FastChat goes by, which is the last, holds the first choices."""
    groups: dict[int, list[tuple[Answer, StoredRun]]] = {}
    for answer, run in given:
        first = (answer.origin or {}).get(FIRST_CHOICE, _MADE_HERE)
        groups.setdefault(first, []).append((answer, run))
    for first in sorted(groups, reverse=True):
        answer, run = groups[first][0]
        texts = {(a.replicate, a.turn): a.text for a, _ in groups[first]}
        row = _made_here(answer, run, texts) if first == _MADE_HERE else dict((answer.origin or {})[ORIGIN])
        if row.get("choices") is None:
            yield filled(row, {"text": texts[first, 1]})
            continue
        choices = []
        for place, choice in enumerate(row["choices"]):
            number = choice["index"] if first == _MADE_HERE else max(first, 0) + place
            if turns := list(_known_turns(texts, number)):
                choices.append({**choice, "turns": turns})
        if choices:
            yield {**row, "choices": choices}


def _known_turns(texts: Mapping[tuple[int, int], str | None], replicate: int) -> Iterator[str]:
    turn = 1
    while (text := texts.get((replicate, turn))) is not None:
        yield text
        turn += 1


def _made_here(answer: Answer, run: StoredRun, texts: Mapping[tuple[int, int], str | None]) -> Row:
    return {
        "question_id": as_written(answer.question),
        "answer_id": answer.key.removeprefix("sha256:")[:22],  # as long as FastChat's
        "model_id": answer.model,
        "choices": [{"index": number} for number in sorted({replicate for replicate, _ in texts})],
        "tstamp": _seconds(run.info.created),
    }


def single_rows(runs: Iterable[StoredRun]) -> dict[str, list[Row]]:
    """By judge, in order of question; rows of one answer in the order of its replicates."""
    found: dict[str, dict[str, tuple[Any, Row]]] = {}
    for run in runs:
        for verdict in run.verdicts:
            if verdict.rival is None:
                order = (by_id(verdict.question), verdict.turn, verdict.replicate, run.info.model)
                rows = found.setdefault(run.judge, {})
                rows.setdefault(verdict.judgment.key, (order, _single(run, verdict)))
    return {judge: _in_order(rows) for judge, rows in found.items()}


def _single(run: StoredRun, verdict: Verdict) -> Row:
    judgment = verdict.judgment
    if read := (judgment.origin or {}).get(ORIGIN):
        return filled(read, {"judgment": judgment.reply})
    return {
        "question_id": as_written(verdict.question),
        "model": run.info.model,
        "judge": [run.judge, judgment.prompt or _prompt("single-v1", verdict.turn)],
        "user_prompt": "",
        "judgment": judgment.reply,
        "score": -1 if judgment.score is None else _plain(judgment.score),
        "turn": verdict.turn,
        "tstamp": _seconds(verdict.created),
    }


def pair_rows(runs: Iterable[StoredRun]) -> dict[str, list[Row]]:
    """By judge, likewise. A pair of which one order alone was judged is left out, as it has no verdict yet."""
    found: dict[str, dict[frozenset[str], tuple[Any, Row]]] = {}
    for run in runs:
        models = {answer.key: answer.model for answer in run.answers}
        pairs = {(v.answer, v.rival, v.question, v.turn, v.replicate): v for v in run.verdicts if v.rival is not None}
        for first in pairs.values():
            second = pairs.get((first.rival or "", first.answer, first.question, first.turn, first.replicate))
            if second is None or not _stands_as_given(first, second, run, models):
                continue
            sides = models[first.answer], models[second.answer]
            order = (by_id(first.question), first.turn, first.replicate, sides)
            rows = found.setdefault(run.judge, {})
            # the rival's own run holds the same two, the other way round
            both = frozenset((first.judgment.key, second.judgment.key))
            rows.setdefault(both, (order, _pair(run, first, second, sides)))
    return {judge: _in_order(rows) for judge, rows in found.items()}


def _stands_as_given(first: Verdict, second: Verdict, run: StoredRun, models: Mapping[str, str]) -> bool:
    """Of a pair's two orders, whether this is the row's own; of one made here the run's model stands first."""
    if first.judgment.origin or second.judgment.origin:
        return bool(first.judgment.origin)
    return models[first.answer] == run.info.model


def _pair(run: StoredRun, first: Verdict, second: Verdict, models: tuple[str, str]) -> Row:
    replies = {"g1_judgment": first.judgment.reply, "g2_judgment": second.judgment.reply}
    if read := (first.judgment.origin or {}).get(ORIGIN):
        return filled(read, replies)
    return {
        "question_id": as_written(first.question),
        "model_1": models[0],
        "model_2": models[1],
        "g1_winner": _winner(first.judgment.score, "model_1", "model_2"),
        "g2_winner": _winner(second.judgment.score, "model_2", "model_1"),
        "judge": [run.judge, first.judgment.prompt or _prompt("pair-v2", first.turn)],
        "g1_user_prompt": "",
        "g1_judgment": replies["g1_judgment"],
        "g2_user_prompt": "",
        "g2_judgment": replies["g2_judgment"],
        "turn": first.turn,
        "tstamp": _seconds(second.created),
    }


def _winner(preference: float | None, first: str, second: str) -> str:
    if preference is None:
        return "error"
    return "tie" if preference == 0.5 else first if preference > 0.5 else second


def _prompt(first_turn: str, turn: int) -> str:
    return first_turn if turn == 1 else f"{first_turn}-multi-turn"


def _plain(score: float) -> int | float:
    return int(score) if score.is_integer() else score


def _seconds(created: str) -> float:
    return datetime.fromisoformat(created).timestamp()


def _in_order(rows: Mapping[Any, tuple[Any, Row]]) -> list[Row]:
    return [row for _, row in sorted(rows.values(), key=lambda item: item[0])]
