"""The feedback stage: pairs from stored answers and grades, within what the judge may cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from servers import FakeOpenAi, Raw, completion, fake_openai
from tiny_data import DSFT, write_jsonl

from zephyr_bench import catalogue
from zephyr_bench.engines.locate import locate
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.errors import BudgetReached, MissingParts, UserError
from zephyr_bench.pipeline.engines import OpenEngines
from zephyr_bench.pipeline.feedback import check_budget, collect_feedback
from zephyr_bench.pipeline.requirements import check_recipe
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Recipe
from zephyr_bench.store import Store
from zephyr_bench.training_data.data import Pair
from zephyr_bench.training_data.reading import read_prompts

PROMPTS = 2
CALL_USD = 0.4  # a judgment's, and the most that one may cost: 400 tokens at 1,000 USD a million
ABOUT_USD = 0.3  # what is expected of one
LENGTHS = [{"check": "words", "max": most} for most in range(1, 12)] + [{"check": "count", "text": "a", "min": 1}]
OPTIONS = EngineOptions(device="cpu")


@pytest.fixture
def recipe_with(make_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Recipe]:
    """Two prompts, two answers each of the tiny model; keyword arguments are the feedback stage's."""

    def make(sections: dict[str, Any] | None = None, **stage: Any) -> Recipe:
        rows = [{"id": f"p{n}", "prompt": f"Say {n}.", "checks": LENGTHS} for n in range(PROMPTS)]
        write_jsonl(tmp_path / "prompts.jsonl", rows)
        feedback = {
            "prompts": {"file": "prompts.jsonl"},
            "engines": ["start"],
            "samples": 2,
            "sampling": {"temperature": 1.0, "max_new_tokens": 8},
            "judge": "rubric",
            **stage,
        }
        return make_recipe(feedback=feedback, **(sections or {}))

    return make


@contextmanager
def judge_server(folder: Path, *names: str, tokens: int = 400) -> Iterator[FakeOpenAi]:
    """Grades in turn 1, 2, 3, …, and says that each took so many tokens. The judges' YAML files are in `folder`."""
    grades = iter(range(1, 100))

    def reply(body: dict[str, Any]) -> Raw:
        told = completion(body["model"], f"Rating: [[{1 + next(grades) % 10}]]")
        told["usage"] = {"prompt_tokens": 100, "completion_tokens": tokens, "total_tokens": 100 + tokens}
        return Raw(json.dumps(told).encode())

    with fake_openai(reply) as server:
        spec = yaml.safe_load(catalogue.find("judge", "gpt-4").read_text())
        spec |= {"base_url": server.url, "max_retries": 0, "max_tokens": 400}
        spec |= {"usd_per_million_tokens": {"input": 0, "output": 1000}}
        for number, name in enumerate(names):
            (folder / f"{name}.yaml").write_text(yaml.safe_dump({**spec, "temperature": number / 10}))
        yield server


def collect(recipe: Recipe, folder: Path) -> list[Pair]:
    assert recipe.feedback is not None
    prompts = read_prompts(recipe.feedback.prompts, recipe=recipe).items
    check_budget(recipe.feedback, OPTIONS, prompts=len(prompts))
    with Store(f"sqlite:///{folder}/store.db") as store:
        pairs, _ = collect_feedback(
            recipe.feedback,
            recipe,
            {"start": locate(recipe.model)},
            OpenEngines(OPTIONS),
            OPTIONS,
            prompts=prompts,
            held_out=(),
            store=store,
            out=folder / "feedback",
            progress=Progress(quiet=True),
        )
    return pairs


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_budget_that_cannot_be_kept_is_told_before_anything_is_asked(
    recipe_with: Callable[..., Recipe], tmp_path: Path
) -> None:
    with judge_server(tmp_path, "paid") as server:
        recipe = recipe_with(judge=str(tmp_path / "paid.yaml"), budget_usd=1.1)
        with pytest.raises(UserError, match=r"budget_usd 1.1: 4 judgments by paid cost about 1.20 USD; raise"):
            collect(recipe, tmp_path)
    assert not server.requests
    assert not (tmp_path / "store.db").exists()


def test_a_budget_needs_a_price(recipe_with: Callable[..., Recipe], tmp_path: Path) -> None:
    with judge_server(tmp_path, "paid"):
        spec = yaml.safe_load((tmp_path / "paid.yaml").read_text())
        del spec["usd_per_million_tokens"]
        (tmp_path / "unpriced.yaml").write_text(yaml.safe_dump(spec))
        with pytest.raises(UserError, match="what judge unpriced costs is not known; put its price into its YAML"):
            collect(recipe_with(judge=str(tmp_path / "unpriced.yaml"), budget_usd=1), tmp_path)


def test_a_spent_budget_stops_and_a_higher_one_goes_on(recipe_with: Callable[..., Recipe], tmp_path: Path) -> None:
    with judge_server(tmp_path, "paid") as server:
        few, enough = (recipe_with(judge=str(tmp_path / "paid.yaml"), budget_usd=usd) for usd in (1.3, 1.7))
        for _ in range(2):
            with pytest.raises(BudgetReached, match=r"1\.2000 USD of feedback\.budget_usd 1\.3 are spent"):
                collect(few, tmp_path)
            assert len(server.requests) == 3, "what was spent before counts"
        pairs = collect(enough, tmp_path)
        assert len(server.requests) == 4
        assert collect(enough, tmp_path) == pairs
    assert len(server.requests) == 4
    assert len(pairs) == PROMPTS


def test_a_judge_that_costs_more_than_it_may_is_stopped(recipe_with: Callable[..., Recipe], tmp_path: Path) -> None:
    over = pytest.raises(BudgetReached, match=r"1\.3000 USD of feedback\.budget_usd 1\.25 are spent")
    with judge_server(tmp_path, "paid", tokens=1300) as server, over:
        collect(recipe_with(judge=str(tmp_path / "paid.yaml"), budget_usd=1.25), tmp_path)
    assert len(server.requests) <= 3, "no more than were under way"


def test_a_jurys_members_share_one_budget(recipe_with: Callable[..., Recipe], tmp_path: Path) -> None:
    with judge_server(tmp_path, "one", "two") as server:
        jury = {"kind": "jury", "description": "two", "judges": ["one.yaml", "two.yaml"]}
        (tmp_path / "jury.yaml").write_text(yaml.safe_dump(jury))
        few, enough = (recipe_with(judge=str(tmp_path / "jury.yaml"), budget_usd=usd) for usd in (2.5, 3.3))
        with pytest.raises(BudgetReached, match="another judgment by two may cost more than is left"):
            collect(few, tmp_path)
        assert len(server.requests) == 6
        collect(enough, tmp_path)
    assert len(server.requests) == 8


def test_prompts_that_gave_no_pair_are_listed_with_the_reason(
    recipe_with: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = recipe_with()
    assert recipe.feedback is not None
    write_jsonl(
        tmp_path / "prompts.jsonl", [{"id": "p", "prompt": "Hi."}, {"id": "q", "prompt": "Ho.", "checks": LENGTHS[-1:]}]
    )
    pairs = collect(recipe, tmp_path)
    none = rows_of(tmp_path / "feedback" / "no_pair.jsonl")
    assert {row["prompt_id"] for row in none} == {"p", "q"} - {pair.id for pair in pairs}
    assert next(row["reason"] for row in none if row["prompt_id"] == "p") == "no answer has a grade"


def test_the_starting_models_answers_are_sampled_for_selm(recipe_with: Callable[..., Recipe], tmp_path: Path) -> None:
    selm = {"learning_rate": 1e-3, "global_batch": 2, "beta": 0.1, "loss": "selm", "optimism": 0.1}
    recipe = recipe_with({"ddpo": selm}, samples=6)
    pairs = collect(recipe, tmp_path)
    assert pairs
    assert all(pair.sampled for pair in pairs)
    with pytest.raises(UserError, match=r"put dsft into feedback\.engines"):
        recipe_with({"ddpo": selm, "dsft": DSFT}, samples=6)


def test_a_judge_that_only_compares_cannot_rank(recipe_with: Callable[..., Recipe]) -> None:
    recipe = recipe_with(judge="alpaca_eval_gpt4")
    with pytest.raises(MissingParts, match="grade an answer by itself"):
        check_recipe(recipe, OPTIONS, [], [])


def test_trl_trains_on_the_pairs(recipe_with: Callable[..., Recipe], tmp_path: Path, tiny_model_dir: Path) -> None:
    trl = pytest.importorskip("trl")
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with judge_server(tmp_path, "paid"):
        pairs = collect(recipe_with(judge=str(tmp_path / "paid.yaml")), tmp_path)
    assert len(pairs) == 2
    rows = load_dataset(
        "json", data_files=str(tmp_path / "feedback" / "pairs.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )
    config = trl.DPOConfig(
        output_dir=str(tmp_path / "trl"),
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        max_steps=1,
        logging_steps=1,
        disable_tqdm=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    trainer = trl.DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model_dir),
        args=config,
        train_dataset=rows,
        processing_class=tokenizer,
    )
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    answer = trainer.train_dataset[0]["chosen_ids"]
    assert tokenizer.decode(answer) == pairs[0].chosen["content"] + "<|im_end|>\n"
