"""One run's scores: what `mtbench`, `alpaca-eval`, `open-llm` and `runs show` print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zephyr_bench.reports.ranking import RECORD_KEYS, records
from zephyr_bench.reports.render import MISSING, number, render_records, render_table
from zephyr_bench.reports.standings import Standing

if TYPE_CHECKING:
    from zephyr_bench.store import Store


def render_run(store: Store, run_id: str, format: str) -> str:
    """A run's scores, headline first, as table, markdown, csv or json (the leaderboard's records)."""
    run = store.run(run_id)
    scores = store.scores_of([run.id]).get(run.id, [])
    if format in ("json", "csv"):
        standing = Standing(run.model, run.note or "", run.benchmark, run.judge, tuple(scores), run.id)
        return render_records(records([standing], {}), RECORD_KEYS, format)
    name = f"{run.model} ({run.note})" if run.note else run.model
    judged = f", judged by {run.judge}" if run.judge else ""
    state = "" if run.status == "complete" else f"; {run.status}, not to be taken for a whole one"
    cells = [
        [
            s.metric,
            number(s.value),
            MISSING if s.stderr is None else f"±{s.stderr:.2f}",
            str(s.n),
            str(s.missing),
        ]
        for s in scores
    ]
    notes = [f"± standard error; run {run.id}{state}"]
    missing = max((score.missing for score in scores), default=0)
    if missing:
        notes.append(f"{missing} without a score, left out of the mean: `zephyr-bench runs show {run.id}` tells more")
    heads = ["metric", "value", "stderr", "n", "missing"]
    return render_table(
        heads, cells, format, numeric=range(1, 5), title=f"{name} on {run.benchmark}{judged}", notes=notes
    )
