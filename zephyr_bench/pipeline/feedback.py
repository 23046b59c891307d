"""The feedback stage: sample answers, have the judge grade them, keep pairs (arXiv 2310.16944, section 3.2).

Every answer and judgment goes through the store, so a killed stage goes on where it was, and so does one that its
budget stopped. What it leaves is in files too: pairs.jsonl, held_out.jsonl and no_pair.jsonl.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from zephyr_bench.benchmarks.asking import ask
from zephyr_bench.benchmarks.evaluate import recorded_run
from zephyr_bench.benchmarks.grading import grade
from zephyr_bench.benchmarks.protocol import Job
from zephyr_bench.engines.locate import locate
from zephyr_bench.engines.protocol import Engine, EngineOptions, ModelSource
from zephyr_bench.errors import BudgetReached, UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.judges import JudgeOptions, open_judge
from zephyr_bench.judges.jury import JuryJudge
from zephyr_bench.judges.protocol import Judge
from zephyr_bench.pipeline.engines import OpenEngines
from zephyr_bench.pipeline.estimate import judging_tokens
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import FeedbackStage, Recipe
from zephyr_bench.records import Judgment, Match, Question
from zephyr_bench.store import Store
from zephyr_bench.training_data.data import Pair
from zephyr_bench.training_data.feedback import Graded, NoPair, RankedPair, make_pair, write_no_pairs, write_pairs

NAME = "ai-feedback"


def check_budget(stage: FeedbackStage, options: EngineOptions, *, prompts: int) -> None:
    """Raises UserError, before any work, where the judgments can't be had for `budget_usd`, as far as one can tell."""
    if stage.budget_usd is None:
        return
    judge = open_judge(stage.judge, include=options.include)
    judgments = prompts * stage.samples * len(stage.engines)
    usd = _about_usd(judge, stage, judgments)
    if usd is None:
        raise UserError(
            f"feedback.budget_usd: what judge {judge.name} costs is not known; put its price into its YAML, or take "
            "the budget out."
        )
    if usd > stage.budget_usd:
        raise UserError(
            f"feedback.budget_usd {stage.budget_usd:g}: {judgments:,} judgments by {judge.name} cost about {usd:.2f} "
            "USD; raise the budget, or lower feedback.prompts.limit or feedback.samples."
        )


@dataclass
class _Purse:
    """What the judgments of the stage may cost (None: anything), and what those told so far do, in USD."""

    budget: float | None
    unknown: float  # what one counts for whose server doesn't tell
    _costs: dict[str, float] = field(default_factory=dict)  # by the judgment's key
    spent: float = 0.0

    @property
    def left(self) -> float | None:
        return None if self.budget is None else self.budget - self.spent

    def pay(self, judgments: Iterable[Judgment]) -> None:
        for judgment in judgments:
            cost = self.unknown if judgment.cost_usd is None else judgment.cost_usd
            self.spent += cost - self._costs.get(judgment.key, 0.0)
            self._costs[judgment.key] = cost

    def reached(self, judge: str) -> BudgetReached:
        return BudgetReached(
            f"feedback: {self.spent:.4f} USD of feedback.budget_usd {self.budget:g} are spent, and another judgment by "
            f"{judge} may cost more than is left; what was made is stored, and a higher budget goes on."
        )


@dataclass(frozen=True)
class _Work:
    """What is the same for every engine of the stage."""

    stage: FeedbackStage
    options: EngineOptions
    questions: Sequence[Question]
    seed: int
    store: Store
    progress: Progress
    purse: _Purse

    def judge(self, *, may_cost: float | None = None) -> Judge:
        return open_judge(self.stage.judge, include=self.options.include, options=JudgeOptions(max_cost_usd=may_cost))


def collect_feedback(
    stage: FeedbackStage,
    recipe: Recipe,
    models: Mapping[str, ModelSource],
    engines: OpenEngines,
    options: EngineOptions,
    *,
    prompts: Sequence[Question],
    held_out: Sequence[Question],
    store: Store,
    out: Path,
    progress: Progress,
) -> tuple[list[Pair], list[Pair]]:
    """(pairs to train on, pairs held out). `models` are those of the recipe's stages, by their short names.

    Raises BudgetReached where the next judgment could go over the stage's budget; all that was made is stored.
    """
    _check_apart(prompts, held_out)
    questions = [*prompts, *held_out]
    graded: dict[str, list[Graded]] = {question.id: [] for question in questions}
    judge = open_judge(stage.judge, include=options.include)
    purse = _Purse(stage.budget_usd, unknown=_about_usd(judge, stage, 1) or 0.0)
    work = _Work(stage, options, questions, recipe.seed, store, progress, purse)
    for name in stage.engines:
        progress.say(f"feedback: {stage.samples} answers to each of {len(questions)} prompts from {name}")
        source = models.get(name) or locate(name, include=options.include)
        for question, answers in _graded(work, engines.get(source)).items():
            graded[question] += answers
    reference = models[recipe.ddpo_start].name

    def made(questions: Sequence[Question], file: str, what: str) -> tuple[list[Pair], list[NoPair]]:
        found = [make_pair(one, graded[one.id], seed=recipe.seed, reference=reference) for one in questions]
        ranked = [entry for entry in found if isinstance(entry, RankedPair)]
        none = [entry for entry in found if isinstance(entry, NoPair)]
        write_pairs(out / file, ranked)
        progress.say(_told(len(questions), ranked, none, [one for q in questions for one in graded[q.id]], what))
        return [entry.pair for entry in ranked], none

    trained, none = made(prompts, "pairs.jsonl", "to train on")
    held, more = made(held_out, "held_out.jsonl", "held out") if held_out else ([], [])
    write_no_pairs(out / "no_pair.jsonl", [*none, *more])
    return trained, held


def _about_usd(judge: Judge, stage: FeedbackStage, judgments: int) -> float | None:
    """What so many cost; None where the judge's price is not known."""
    return judge.cost_usd(*judging_tokens(judgments, answer_tokens=stage.sampling.max_new_tokens))


def _check_apart(prompts: Sequence[Question], held_out: Sequence[Question]) -> None:
    ids, texts = {prompt.id for prompt in prompts}, {prompt.turns for prompt in prompts}
    for prompt in held_out:
        if prompt.id in ids or prompt.turns in texts:
            raise UserError(
                f"feedback.held_out: prompt '{prompt.id}' is one of feedback.prompts too; remove one of them."
            )


def _graded(work: _Work, engine: Engine) -> dict[str, list[Graded]]:
    """Question id -> this engine's answers with their grades, in the order of their replicates."""
    stage, judge = work.stage, work.judge()
    protocol = {
        "prompts": fingerprint([question.fingerprint for question in work.questions]),
        "samples": stage.samples,
        "sampling": stage.sampling.model_dump(mode="json"),
    }
    found: dict[str, list[Graded]] = {question.id: [] for question in work.questions}
    with recorded_run(work.store, engine, judge, benchmark=NAME, protocol=protocol, seed=work.seed) as run:
        job = Job(engine=engine, judge=judge, run=run, progress=work.progress, seed=work.seed)
        sampled = [
            ask(job, work.questions, sampling=lambda _: stage.sampling.sampling(), replicate=replicate)
            for replicate in range(stage.samples)
        ]
        matches = [Match(question, 1, own[question.id]) for own in sampled for question in work.questions]
        for match, judgment in _judged(work, job, matches):
            found[match.question.id].append(Graded(match.answers[0], judgment.score))
        run.finish("complete", [])
    return {id: sorted(graded, key=lambda one: one.answer.replicate) for id, graded in found.items()}


def _judged(work: _Work, job: Job, matches: Sequence[Match]) -> Iterator[tuple[Match, Judgment]]:
    """As grading.grade, within the budget: the judge may spend what is left of it, a jury's members one by one."""
    if work.purse.budget is not None:
        for number, member in enumerate(_members(work.judge())):
            stored = job.run.judgments(list({match.key(member.fingerprint) for match in matches}))
            work.purse.pay(stored.values())
            limited = _members(work.judge(may_cost=work.purse.left))[number]
            try:
                for _, judgment in grade(replace(job, judge=limited), matches):
                    work.purse.pay([judgment])
                    if work.purse.spent > work.purse.budget:  # by a judge that doesn't keep to what it may cost
                        raise work.purse.reached(member.name)
            except BudgetReached:
                raise work.purse.reached(member.name) from None
    yield from grade(job, matches)  # from the store, where it is limited


def _members(judge: Judge) -> Sequence[Judge]:
    return judge.members if isinstance(judge, JuryJudge) else [judge]


def _told(
    prompts: int, ranked: Sequence[RankedPair], none: Sequence[NoPair], graded: Sequence[Graded], what: str
) -> str:
    reasons = ", ".join(f"{count}: {reason}" for reason, count in Counter(one.reason for one in none).items())
    gave_none = f"; {len(none)} gave none ({reasons})" if none else ""
    ungraded = sum(one.score is None for one in graded)
    lost = f"; {ungraded} answers have no grade and are not used" if ungraded else ""
    return f"feedback: {len(ranked)} pairs {what} from {prompts} prompts{gave_none}{lost}"
