"""MATH by a served model, whose replies are of many kinds, against lm-eval's own scores of the same replies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.model import LM
from lm_eval_data_2 import MATHS, write_data_2
from servers import fake_openai

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.evaluate import evaluate
from zephyr_bench.engines import open_engine
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.progress import Progress
from zephyr_bench.store import Store

SHOTS = 4


def reply(problem: str) -> str:
    """Right and wrong ones in several forms, by what the problem happens to be."""
    whole = int(problem.partition("1 + ")[2].partition("$")[0]) + 1
    kinds = [
        f"The sum is $\\boxed{{{whole}}}$.",
        f"Final Answer: The final answer is ${whole}$. I hope it is correct.",
        f"It is $\\frac{{{2 * whole}}}{{2}}$",
        f"It is {whole + 1}, or so.",
        "No idea.",
        "",
    ]
    return kinds[len(problem) % len(kinds)]


class Canned(LM):
    """Answers as the fake server does, and keeps the chats."""

    tokenizer_name = "canned"

    def __init__(self) -> None:
        super().__init__()
        self.chats: list[Any] = []

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        self.chats = [json.loads(request.args[0]) for request in requests]
        return [reply(chat[-1]["content"]) for chat in self.chats]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return json.dumps(chat_history)

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood  # type: ignore[assignment]


def test_chats_and_scores_of_a_served_model_are_lm_evals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import lm_eval.tasks
    from lm_eval.evaluator import simple_evaluate

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "our-cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "their-cache")
    monkeypatch.chdir(write_data_2(tmp_path / "data"))
    benchmark = open_benchmark("open-llm-2", data=Path(), tasks=["leaderboard_math_hard"])
    if lacking := benchmark.missing():
        pytest.skip("; ".join(lacking))
    asked: list[Any] = []

    def answer(body: Any) -> str:
        asked.append(body["messages"])
        return reply(body["messages"][-1]["content"])

    with fake_openai(answer) as server, Store(f"sqlite:///{tmp_path}/s.db") as store:
        engine = open_engine("served", EngineOptions(engine="openai", base_url=server.url))
        outcome = evaluate(benchmark, engine, judge=None, store=store, progress=Progress(quiet=True))
        samples = store.samples_of(outcome.run)
    folder = Path(lm_eval.tasks.__file__).parent / "leaderboard"
    found = simple_evaluate(
        model=(model := Canned()),
        tasks=["leaderboard_math_hard"],
        task_manager=lm_eval.tasks.TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
        apply_chat_template=True,
        fewshot_as_multiturn=True,
    )
    assert found is not None
    assert len(found["samples"]) == len(MATHS)
    assert sorted(map(str, asked)) == sorted(map(str, model.chats))
    assert {len(chat) for chat in asked} == {2 * SHOTS + 1}
    scores = {f"{leaf}/{row['doc_id']}": row["exact_match"] for leaf, rows in found["samples"].items() for row in rows}
    assert {sample.question: sample.value for sample in samples if sample.metric == "exact_match"} == scores
    assert 0.2 < sum(scores.values()) / len(scores) < 0.8
