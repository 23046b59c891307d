"""The feedback stage: sample answers, have the judge grade them, keep pairs (arXiv 2310.16944, section 3.2).

Every answer and judgment goes through the store, so a killed stage goes on where it was. What it leaves is
in files too: pairs.jsonl and held_out.jsonl.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from zephyr_bench.benchmarks.asking import ask
from zephyr_bench.benchmarks.evaluate import recorded_run
from zephyr_bench.benchmarks.grading import grade
from zephyr_bench.benchmarks.protocol import Job
from zephyr_bench.engines.locate import locate
from zephyr_bench.engines.protocol import Engine, EngineOptions, ModelSource
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.judges.protocol import Judge
from zephyr_bench.pipeline.engines import OpenEngines
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import FeedbackStage, Recipe
from zephyr_bench.records import Match, Question
from zephyr_bench.store import Store
from zephyr_bench.trainers.data import Pair, read_prompts
from zephyr_bench.trainers.feedback import Graded, RankedPair, make_pair, write_pairs

NAME = "ai-feedback"


def collect_feedback(
    stage: FeedbackStage,
    recipe: Recipe,
    models: Mapping[str, ModelSource],
    judge: Judge,
    engines: OpenEngines,
    options: EngineOptions,
    *,
    store: Store,
    out: Path,
    progress: Progress,
) -> tuple[list[Pair], list[Pair]]:
    """(pairs to train on, pairs held out). `models` are those of the recipe's stages, by their short names."""
    prompts = read_prompts(stage.prompts, recipe=recipe)
    held_out = read_prompts(stage.held_out, recipe=recipe) if stage.held_out else []
    _check_apart(prompts, held_out)
    questions = [*prompts, *held_out]
    graded: dict[str, list[Graded]] = {question.id: [] for question in questions}
    for name in stage.engines:
        progress.say(f"feedback: {stage.samples} answers to each of {len(questions)} prompts from {name}")
        source = models.get(name) or locate(name, include=options.include)
        for question, answers in _graded(stage, recipe, questions, engines.get(source), judge, store, progress).items():
            graded[question] += answers
    trained = _pairs(prompts, graded, recipe, out / "pairs.jsonl", "to train on", progress)
    held = _pairs(held_out, graded, recipe, out / "held_out.jsonl", "held out", progress) if held_out else []
    return trained, held


def _check_apart(prompts: Sequence[Question], held_out: Sequence[Question]) -> None:
    ids, texts = {prompt.id for prompt in prompts}, {prompt.turns for prompt in prompts}
    for prompt in held_out:
        if prompt.id in ids or prompt.turns in texts:
            raise UserError(
                f"feedback.held_out: prompt '{prompt.id}' is one of feedback.prompts too; remove one of them."
            )


def _graded(
    stage: FeedbackStage,
    recipe: Recipe,
    questions: Sequence[Question],
    engine: Engine,
    judge: Judge,
    store: Store,
    progress: Progress,
) -> dict[str, list[Graded]]:
    """Question id -> this engine's answers with their grades, in the order of their replicates."""
    protocol = {
        "prompts": fingerprint([question.fingerprint for question in questions]),
        "samples": stage.samples,
        "sampling": stage.sampling.model_dump(mode="json"),
    }
    found: dict[str, list[Graded]] = {question.id: [] for question in questions}
    with recorded_run(store, engine, judge, benchmark=NAME, protocol=protocol, seed=recipe.seed) as run:
        job = Job(engine=engine, judge=judge, run=run, progress=progress, seed=recipe.seed)
        for replicate in range(stage.samples):
            answers = ask(job, questions, sampling=lambda _: stage.sampling.sampling(), replicate=replicate)
            matches = [Match(question, 1, answers[question.id]) for question in questions]
            for match, judgment in grade(job, matches):
                found[match.question.id].append(Graded(match.answers[0], judgment.score))
        run.finish("complete", [])
    return found


def _pairs(
    prompts: Sequence[Question],
    graded: Mapping[str, Sequence[Graded]],
    recipe: Recipe,
    path: Path,
    what: str,
    progress: Progress,
) -> list[Pair]:
    made: list[RankedPair | None] = [make_pair(prompt, graded[prompt.id], seed=recipe.seed) for prompt in prompts]
    ranked = [entry for entry in made if entry is not None]
    write_pairs(path, ranked)
    ungraded = sum(entry.score is None for prompt in prompts for entry in graded[prompt.id])
    none = f"; {len(prompts) - len(ranked)} gave none (their answers tie)" if len(ranked) < len(prompts) else ""
    lost = f"; {ungraded} answers have no grade and are not used" if ungraded else ""
    progress.say(f"feedback: {len(ranked)} pairs {what} from {len(prompts)} prompts{none}{lost}")
    return [entry.pair for entry in ranked]
