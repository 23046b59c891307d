"""A run as `runs show` prints it, with its model's lineage back to the base; what `runs delete` says before it asks.

In: the store. Out: text and plain data. A lineage comes with a checkpoint, from anybody: it is shown, never believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from zephyr_bench.escaping import visible
from zephyr_bench.fingerprint import short
from zephyr_bench.reports.render import MISSING, render_table
from zephyr_bench.reports.scores import judge_noise, render_run

if TYPE_CHECKING:
    from zephyr_bench.store import Deletion, RunInfo, Store

NAMED = 5  # runs of a kind; more are counted
_QUESTIONS = {  # of a lineage
    "compared": "training data compared with the questions of",
    "not_compared": "not compared with those of",
}
_CHAIN = ("model", "stage", "recipe", "data", "seed", "commit", "weights")


@dataclass(frozen=True)
class Ancestor:
    """A model of the chain; what its lineage doesn't tell is None."""

    model: str
    fingerprint: str | None
    stage: str | None  # None: nothing tells how it was made
    recipe: str | None
    data: str | None  # hash of the rows that it was trained on
    rows: int | None
    seed: int | None
    git_commit: str | None
    created: str | None
    note: str | None = None  # quantised


def chain(model: str, fingerprint: str | None, lineage: Mapping[str, Any], note: str | None = None) -> list[Ancestor]:
    """The model, its parent, and so on to the one whose making nobody tells: the base."""
    found = []
    name: Any = model
    told: Any = fingerprint
    while True:
        data = _tree(lineage.get("data"))
        found.append(
            Ancestor(
                model=str(name or "unnamed"),
                fingerprint=_text(told),
                stage=_text(lineage.get("stage")),
                recipe=_text(lineage.get("recipe")),
                data=_text(data.get("fingerprint")),
                rows=_whole(data.get("rows")),
                seed=_whole(lineage.get("seed")),
                git_commit=_text(lineage.get("git_commit")),
                created=_text(lineage.get("created")),
                note=_text(note),
            )
        )
        parent = _tree(lineage.get("parent"))
        if not parent:
            return found
        name, told, note = parent.get("name"), parent.get("fingerprint"), parent.get("note")
        lineage = _tree(parent.get("lineage"))


def render_shown(store: Store, run: RunInfo, format: str) -> str:
    """Scores, lineage and protocol, for people; as csv the scores alone."""
    text = render_run(store, run.id, format)
    if format not in ("table", "markdown"):
        return text
    known = store.model(run.model_fingerprint)
    ancestors = chain(run.model, run.model_fingerprint, known.lineage, known.note)
    title = " <- ".join(f"{a.stage} ({a.model})" if a.stage else a.model for a in ancestors)
    notes = [f"protocol {run.protocol_fingerprint}; runs with the same one were made and graded alike"]
    if told := _questions_told(known.lineage):
        notes.append(told)
    if len(ancestors) == 1 and ancestors[0].stage is None:
        notes.insert(0, "no lineage.json tells how this model was made")
    cells = [list(_cells(ancestor)) for ancestor in ancestors]
    return f"{text}\n" + render_table(_CHAIN, cells, format, title=f"lineage: {title}", notes=notes)


def shown_record(store: Store, run: RunInfo) -> dict[str, Any]:
    """All of it for machines, beside what lists have of a run."""
    scores = store.scores_of([run.id]).get(run.id, [])
    noise = judge_noise(store.samples_of(run.id), scores)
    known = store.model(run.model_fingerprint)
    lineage = dict(known.lineage)
    training = store.training(lineage.get("stage_fingerprint") or "")
    ancestors = chain(run.model, run.model_fingerprint, lineage, known.note)
    return {
        "seed": run.seed,
        "version": run.version,
        "protocol": dict(run.protocol),
        "protocol_fingerprint": run.protocol_fingerprint,
        "judge_fingerprint": run.judge_fingerprint,
        "environment": dict(run.environment),
        "model_fingerprint": run.model_fingerprint,
        "lineage": lineage,
        "chain": [asdict(ancestor) for ancestor in ancestors],
        "training": training and dict(training.values),
        "judge_noise": None if noise is None else asdict(noise),
    }


def _questions_told(lineage: Mapping[str, Any]) -> str:
    """With which benchmarks' questions the training data was compared, before it was trained on."""
    told = _tree(lineage.get("evaluation_questions"))
    found = [(what, sorted(_tree(told.get(key)))) for key, what in _QUESTIONS.items()]
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in found if names)


def deletion_told(plan: Deletion, runs: Sequence[RunInfo]) -> list[str]:
    """What goes and whom it touches, a line each, for a terminal. `runs` are the first NAMED of the plan."""
    lines = [f"to delete: {_run_told(run)}" for run in runs]
    if len(plan.runs) > len(runs):
        lines.append(f"and {_counted(len(plan.runs) - len(runs), 'more run')}")
    counts = {"answer": plan.answers, "judgment": plan.judgments, "sample": plan.samples, "score": plan.scores}
    gone = ", ".join(_counted(number, what) for what, number in counts.items())
    lines.append(f"what no other run uses goes as well: {gone}")
    if plan.users:
        uses = f"{'uses' if len(plan.users) == 1 else 'use'} some of the same answers or judgments"
        lines.append(f"{_counted(len(plan.users), 'other run')} {uses}, kept for them: {_listed(plan.users)}")
    for why in dict.fromkeys(one.why for one in plan.dependents):
        depending = [f"{one.run} ({one.model} on {one.benchmark})" for one in plan.dependents if one.why == why]
        lines.append(f"{_counted(len(depending), 'run')} {why}: {_listed(depending)}")
    if plan.dependents:
        lines.append("such a run keeps all that it has, but can't be made again; --dependents deletes it, too")
    return [visible(line) for line in lines]


def _run_told(run: RunInfo) -> str:
    tagged = f", tagged {', '.join(run.tags)}" if run.tags else ""
    judged = f" by {run.judge}" if run.judge else ""
    return f"run {run.id} ({run.model} on {run.benchmark}{judged}{tagged})"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _cells(ancestor: Ancestor) -> Iterator[str]:
    yield f"{ancestor.model} ({ancestor.note})" if ancestor.note else ancestor.model
    yield ancestor.stage or "base"
    yield ancestor.recipe or MISSING
    rows = None if ancestor.rows is None else f"{_counted(ancestor.rows, 'row')}"
    yield ", ".join(part for part in (rows, ancestor.data and short(ancestor.data)) if part) or MISSING
    yield MISSING if ancestor.seed is None else str(ancestor.seed)
    yield (ancestor.git_commit or MISSING)[:12]
    yield short(ancestor.fingerprint) if ancestor.fingerprint else MISSING


def _tree(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
