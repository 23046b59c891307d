"""A file of a model's answers, judged: read into the store as a run, then graded like any stored run's answers."""

from __future__ import annotations

from pathlib import Path

from zephyr_bench.benchmarks.alpaca_eval import AlpacaEval
from zephyr_bench.benchmarks.evaluate import Outcome
from zephyr_bench.benchmarks.rejudge import judge_run
from zephyr_bench.errors import UserError
from zephyr_bench.interop.alpaca_benchmarks import Choice
from zephyr_bench.interop.alpaca_import import read_alpaca_eval
from zephyr_bench.interop.imported_runs import Plan, add_answers_alone, imported_model
from zephyr_bench.judges.protocol import Judge
from zephyr_bench.progress import Progress
from zephyr_bench.store import Store


def read_outputs_of_one(file: Path, choice: Choice) -> Plan:
    """Raises UserError for a file that holds anything but one model's outputs."""
    plan = read_alpaca_eval([file], choice)
    models = [run.model for run in plan.runs]
    if plan.judged or len(models) != 1:
        found = "judgments" if plan.judged else f"outputs of {', '.join(models)}"
        raise UserError(
            f"--outputs {file}: expected one model's outputs, found {found}; `zephyr-bench import alpaca-eval` reads "
            f"it, `zephyr-bench judge --run RUN` judges a run of it."
        )
    return plan


def judge_outputs(store: Store, plan: Plan, benchmark: AlpacaEval, judge: Judge, progress: Progress) -> Outcome:
    """Raises UserError for outputs that are not for the benchmark's instructions, and then stores nothing of them."""
    (run,) = plan.answered
    chosen = benchmark.with_answers(store, imported_model(run.model), None)
    chosen.paired(list(run.answers.values()))
    imported = add_answers_alone(store, run)
    return judge_run(store, imported.run, chosen, judge, progress)
