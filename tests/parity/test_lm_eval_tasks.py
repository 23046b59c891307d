"""Whole tasks on our engine against lm-eval's own command on its own `hf` model: the same rows, the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.model import LM
from lm_eval_data import write_data
from servers import fake_openai
from tiny_model import make_tiny_model

from zephyr_bench.benchmarks import open_benchmark, punkt
from zephyr_bench.benchmarks.evaluate import Outcome, evaluate
from zephyr_bench.benchmarks.lm_eval_chance import repeatable_language_detection
from zephyr_bench.benchmarks.open_llm import OpenLlm
from zephyr_bench.engines import open_engine
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.progress import Progress
from zephyr_bench.store import Store

METRICS = ("prompt_level_strict_acc", "inst_level_strict_acc", "prompt_level_loose_acc", "inst_level_loose_acc")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path}/store.db") as opened:
        yield opened


def suite(name: str, data: Path, **options: Any) -> OpenLlm:
    benchmark = open_benchmark(name, data=data, **options)
    assert isinstance(benchmark, OpenLlm)
    if lacking := benchmark.missing():
        pytest.skip("; ".join(lacking))
    return benchmark


def theirs(model: LM, benchmark: OpenLlm, *, limit: int | None, chat: bool) -> dict[str, Any]:
    """lm-eval's results and samples by task, by its own command's function; only the data's place is told."""
    from lm_eval.evaluator import simple_evaluate

    punkt.let_nltk_find_it()
    repeatable_language_detection()
    ((leaf,),) = (task.declared() for task in benchmark.tasks)
    placed = {"task": leaf.name, "dataset_path": str(benchmark._local(str(leaf.data)))}
    tasks = leaf.manager.load([{"group": "placed", "task": [placed]}])["tasks"]
    found = simple_evaluate(
        model=model,
        tasks=list(tasks.values()),
        limit=limit,
        bootstrap_iters=0,
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
    )
    assert found is not None
    return dict(found)


def ours(benchmark: OpenLlm, engine: Any, store: Store, *, limit: int | None) -> Outcome:
    return evaluate(benchmark, engine, judge=None, store=store, progress=Progress(quiet=True), limit=limit)


def values(outcome: Outcome) -> dict[str, float | None]:
    return {score.metric: score.value for score in outcome.scores}


def assert_same(model: str, benchmark: OpenLlm, store: Store, *, limit: int | None, chat: bool) -> None:
    """The scores, and the texts behind them."""
    from lm_eval.models.huggingface import HFLM

    engine = open_engine(model, EngineOptions(device="cpu"))
    lm = HFLM(pretrained=engine.model.location, device="cpu", dtype="float32", batch_size=1)
    outcome = ours(benchmark, engine, store, limit=limit)
    expected, found = theirs(lm, benchmark, limit=limit, chat=chat), values(outcome)
    texts = {answer.question: answer.text for answer in store.answers_of(outcome.run)}
    for task, results in expected["results"].items():
        assert texts == {f"{task}/{row['doc_id']}": row["resps"][0][0] for row in expected["samples"][task]}
        told = {name.removesuffix(",none"): 100 * value for name, value in results.items() if "," in name}
        told = {name: value for name, value in told.items() if "stderr" not in name}
        kept = {name.removeprefix(f"{task}: "): value for name, value in found.items() if name.startswith(f"{task}: ")}
        (spec,) = (spec for spec in benchmark.tasks if spec.task == task)
        label = spec.metrics[0] if spec.filter == "none" else f"{spec.metrics[0]},{spec.filter}"
        assert {**kept, label: found[task]} == pytest.approx(told, abs=1e-9)


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_tiny_model(tmp_path_factory.mktemp("models") / "tiny", max_length=2600))


@pytest.mark.parametrize("chat", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_gsm8k_is_lm_evals(tiny_model: str, tmp_path: Path, store: Store, chat: bool) -> None:
    # by version 2, gsm8k is lm-eval's own task, with all its metrics
    benchmark = suite("open-llm-2", write_data(tmp_path / "data"), tasks=["gsm8k"], chat_template=chat)
    assert_same(tiny_model, benchmark, store, limit=2, chat=chat)


@pytest.mark.slow
def test_ifeval_is_lm_evals(tiny_model: str, tmp_path: Path, store: Store) -> None:
    benchmark = suite("open-llm-2", write_data(tmp_path / "data"), tasks=["ifeval"])
    assert_same(tiny_model, benchmark, store, limit=None, chat=True)


@pytest.mark.slow
def test_real_rows_on_a_real_model_are_lm_evals(embedded_model: str, real_open_llm: Path, store: Store) -> None:
    benchmark = suite("open-llm-2", real_open_llm, tasks=["gsm8k"])
    assert_same(embedded_model, benchmark, store, limit=2, chat=True)


class Canned(LM):
    """Answers as the fake server does."""

    tokenizer_name = "canned"

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        return [canned(request.doc["prompt"]) for request in requests]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return chat_history[-1]["content"]

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood  # type: ignore[assignment]


def canned(prompt: str) -> str:
    """Answers of many kinds: each follows some instructions, by what the prompt happens to be."""
    words = prompt.split()
    kinds = [
        prompt,
        prompt.lower().replace(",", ""),
        prompt.upper(),
        f"<<A title>>\n\n* {words[0]}\n* {words[-1]}\n\nP.S. {' '.join(words[:12])}.",
        f'"{prompt}"',
        '```json\n{"answer": [1, 2]}\n```',
        "Section 1\nOne. Two. Three.\n***\nSection 2\nFour! Five? Dr. Six went home. *This* is [name] and **that**.",
        "Das ist ein langer deutscher Satz. Und noch einer. Es gibt hier kein Komma.",
        "My answer is yes.",
        "",
    ]
    return kinds[len(prompt) % len(kinds)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["leaderboard_ifeval", "ifeval"])
def test_the_scores_of_540_real_prompts_by_a_server_are_lm_evals(name: str, real_open_llm: Path, store: Store) -> None:
    version = "open-llm-2" if name == "leaderboard_ifeval" else "open-llm-1"
    benchmark = suite(version, real_open_llm, tasks=[name])
    with fake_openai(lambda body: canned(body["messages"][-1]["content"])) as server:
        engine = open_engine("served", EngineOptions(engine="openai", base_url=server.url))
        found = values(ours(benchmark, engine, store, limit=None))
    told = theirs(Canned(), benchmark, limit=None, chat=True)["results"][name]
    told = {metric: 100 * told[f"{metric},none"] for metric in METRICS}
    assert 5 < told["prompt_level_strict_acc"] < told["inst_level_loose_acc"] < 95
    if name == "leaderboard_ifeval":
        both = told["prompt_level_strict_acc"] + told["inst_level_strict_acc"]
        assert found == pytest.approx({"average": both / 2, name: both / 2}, abs=1e-9)
    else:
        first, *others = METRICS
        expected = {f"{name}: {metric}": told[metric] for metric in others}
        assert found == pytest.approx({"average": told[first], name: told[first], **expected}, abs=1e-9)
