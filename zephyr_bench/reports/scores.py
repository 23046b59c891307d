"""One run's scores: what `mtbench`, `alpaca-eval`, `open-llm` and `runs show` print."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from zephyr_bench.records import SampleScore, Score
from zephyr_bench.reports.contributions import contributions
from zephyr_bench.reports.counted import ODD_ANSWERS, value_told, warnings
from zephyr_bench.reports.kept_terms import keep_terms
from zephyr_bench.reports.ranking import render_standings, rivals_told
from zephyr_bench.reports.render import MISSING, number, render_table
from zephyr_bench.reports.sides import own_answers
from zephyr_bench.reports.standings import Standing
from zephyr_bench.reports.trainings import training_told
from zephyr_bench.stats.repeats import ErrorParts, error_parts

if TYPE_CHECKING:
    from zephyr_bench.store import RunInfo, Store


def render_run(store: Store, run_id: str, format: str) -> str:
    """A run's scores, headline first, as table, markdown, csv or json (the leaderboard's records)."""
    run = store.run(run_id)
    scores = store.scores_of([run.id]).get(run.id, [])
    keep_terms(store, [run.id])
    if format in ("json", "csv"):
        standing = Standing(run.model, run.note or "", run.benchmark, run.judge, tuple(scores), run.id)
        return render_standings([standing], {}, format)
    cells = [
        [
            s.metric,
            value_told(s.metric, s.value),
            MISSING if s.stderr is None else f"±{s.stderr:.2f}",
            str(s.n),
            str(s.missing),
        ]
        for s in scores
    ]
    notes = list(_notes(store, run, scores))
    heads = ["metric", "value", "stderr", "n", "missing"]
    return render_table(heads, cells, format, numeric=range(1, 5), title=_title(run), notes=notes)


def _title(run: RunInfo) -> str:
    name = f"{run.model} ({run.note})" if run.note else run.model
    against = f" against {rivals_told(run.rivals)}" if run.rivals else ""
    judged = f", judged by {run.judge}" if run.judge else ""
    references = f", references {run.references}" if run.references else ""
    return f"{name} on {run.benchmark}{against}{judged}{references}"


def _notes(store: Store, run: RunInfo, scores: Sequence[Score]) -> Iterator[str]:
    state = "" if run.status == "complete" else f"; {run.status}, not to be taken for a whole one"
    yield f"± standard error; run {run.id}{state}"
    lineage = store.model(run.model_fingerprint).lineage
    if training := store.training(lineage.get("stage_fingerprint") or ""):
        yield f"trained: {training_told(training, until=lineage.get('steps'))}"
    samples = store.samples_of(run.id)
    parts = judge_noise(samples, scores)
    if parts and parts.spread == 0:
        yield f"{parts.repeats} judgments an answer, and none differs from another"
    elif parts:
        yield (
            f"{parts.repeats} judgments an answer: one differs from the next by a standard deviation of "
            f"{parts.spread:.2f}; of the error of {scores[0].metric}, the judge gives {parts.judge_stderr:.2f}, "
            f"the choice of questions {number(parts.question_stderr)}"
        )
    missing = max((score.missing for score in scores), default=0)
    if missing:
        reasons = sorted({s.reason for s in samples if s.value is None and s.reason and s.question})
        why = f" ({'; '.join(reasons[:3])})" if reasons else ""
        yield f"{missing} without a score, left out of the mean{why}"
    yield from (f"no {s.metric}: {s.reason}" for s in samples if not s.question and s.reason)
    if any(score.metric in ODD_ANSWERS for score in scores):
        yield from warnings(scores)
    else:
        yield from _odd_answers(store, run)


def judge_noise(samples: Sequence[SampleScore], scores: Sequence[Score]) -> ErrorParts | None:
    """The judge's part in the error of the headline, where answers were judged several times."""
    values = contributions(samples, scores).get(scores[0].metric, []) if scores else []
    if any(value.path for value in values):  # an average of averages
        return None
    return error_parts([v.value for v in values], [v.key for v in values], [v.question for v in values])


def _odd_answers(store: Store, run: RunInfo) -> Iterator[str]:
    """What a mean doesn't show: answers that are empty, were cut, or are not known."""
    own = own_answers(store, run)
    empty = sum(answer.text is not None and not answer.text.strip() for answer in own)
    cut = sum(answer.finish_reason == "length" for answer in own)
    unknown = sum(answer.text is None for answer in own)
    if empty:
        yield f"{empty} of {len(own)} answers are empty"
    if cut:
        limit = run.protocol.get("max_new_tokens")
        yield f"{cut} of {len(own)} answers were cut at {f'{limit} tokens' if limit else 'the token limit'}"
    if unknown:
        yield f"{unknown} of {len(own)} answers are known by their judgments only"
