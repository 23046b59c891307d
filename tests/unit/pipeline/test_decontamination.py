"""Evaluation questions in training data are found, told, left out, and never trained on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tiny_data import DDPO, DSFT, write_jsonl

from zephyr_bench import catalogue
from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.protocol import Benchmark, TellsQuestions
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.errors import UserError
from zephyr_bench.pipeline import decontamination
from zephyr_bench.pipeline.decontamination import Asked, Index, decontaminated, words_of
from zephyr_bench.pipeline.training import train_stages
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Recipe, load_recipe
from zephyr_bench.store import Store
from zephyr_bench.training_data.reading import StageData, read_recipe

MakeRecipe = Callable[..., Recipe]
LONG = "Tell me why the grey heron stands on one leg in cold water for hours before it moves again."  # 19 words
OTHER = "Name the three rivers that meet below the old town bridge."
SHORT = "Who is she?"


def index(*texts: str, ngram: int | None = 13) -> Index:
    return Index([Asked("b", str(number), text) for number, text in enumerate(texts)], ngram)


def found(of: Index, prompt: str = "", reply: str = "") -> list[tuple[str, bool]]:
    return [(asked.id, whole) for asked, whole in of.find([prompt], [reply])]


def test_thirteen_words_in_a_row_are_an_overlap_and_twelve_are_none() -> None:
    words = LONG.split()
    assert found(index(LONG), prompt="So: " + " ".join(words[3:16]) + ", no?") == [("0", False)]
    assert found(index(LONG), prompt=" ".join(words[3:15])) == []
    assert found(index(LONG, ngram=12), prompt=" ".join(words[3:15])) == [("0", False)]


def test_case_and_punctuation_say_nothing_but_sums_differ() -> None:
    assert found(index(LONG), prompt=LONG.upper().replace(" ", ",  ").replace("HERON", "“heron”")) == [("0", True)]
    assert words_of("Don't: 2 + 2, (x)!") == ("dont", "2", "+", "2", "x")
    asked = index("What is the value of 12 + 7 in all?")
    assert found(asked, prompt="What is the value of 12 / 7 in all?") == []


def test_a_shorter_question_is_looked_for_whole() -> None:
    assert found(index(OTHER), prompt=f"Please help. {OTHER} Thanks.") == [("0", True)]
    assert found(index(OTHER), prompt=OTHER.replace("bridge", "gate")) == []


def test_a_question_of_few_words_counts_only_as_all_of_a_prompt() -> None:
    assert found(index(SHORT), prompt="who is she") == [("0", True)]
    assert found(index(SHORT), prompt=f"Look at her. {SHORT}") == []


def test_a_reply_can_overlap_but_asks_no_question() -> None:
    assert found(index(LONG, OTHER), reply=f"{LONG} {OTHER}") == [("0", False), ("1", False)]
    assert found(index(LONG, OTHER, ngram=None), reply=f"{LONG} {OTHER}") == []
    assert found(index(LONG, OTHER, ngram=None), prompt=LONG) == [("0", True)]


WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=14)


@given(question=WORDS, prompt=WORDS, ngram=st.integers(4, 8))
def test_an_overlap_is_what_the_definition_says(question: list[str], prompt: list[str], ngram: int) -> None:
    def runs(words: Sequence[str], length: int) -> set[tuple[str, ...]]:
        return {tuple(words[start : start + length]) for start in range(len(words) - length + 1)}

    length = len(question)
    whole = question == prompt != [] if length < 6 else tuple(question) in runs(prompt, length)
    overlap = whole or bool(runs(question, ngram) & runs(prompt, ngram))
    expected = [("0", whole)] if overlap else []
    assert found(index(" ".join(question), ngram=ngram), prompt=" ".join(prompt)) == expected


def benchmark(tmp_path: Path, name: str, *questions: str) -> Benchmark:
    """Of MT-Bench's kind, with these questions."""
    rows = [{"id": f"{name}-{n}", "category": "writing", "turns": [text]} for n, text in enumerate(questions, 1)]
    write_jsonl(tmp_path / f"{name}.jsonl", rows)
    spec = {"kind": "mt_bench", "description": name, "judge": "rubric", "questions": {"file": f"{name}.jsonl"}}
    (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({**spec, "margin": 1.0}))
    return open_benchmark(str(tmp_path / f"{name}.yaml"))


def chat(prompt: str, reply: str = "Yes.") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]}


class Case:
    """Four dialogues: one is a question of the benchmark, one shares a part of it."""

    def __init__(self, tmp_path: Path, make_recipe: MakeRecipe, **sections: Any) -> None:
        self.out = tmp_path / "out"
        self.path = write_jsonl(
            tmp_path / "chats.jsonl",
            [chat("Hello."), chat(LONG), chat("Go on.", LONG.replace("Tell me", "I know")), chat("Bye.")],
        )
        self.benchmark = benchmark(tmp_path, "birds", LONG)
        self.recipe = make_recipe(dsft={**DSFT, "data": [{"file": "chats.jsonl"}]}, **sections)

    def run(self, *benchmarks: Benchmark, **options: Any) -> Mapping[str, StageData[Any]]:
        return decontaminated(
            read_recipe(self.recipe),
            self.recipe,
            benchmarks or [self.benchmark],
            out=self.out,
            progress=options.pop("progress", Progress(quiet=True)),
            **options,
        ).data

    def train(self, *more: Benchmark) -> None:
        with Store(f"sqlite:///{self.path.with_name('store.db')}") as store:
            train_stages(
                self.recipe,
                EngineOptions(device="cpu"),
                store=store,
                out=self.out,
                progress=Progress(quiet=True),
                benchmarks=[self.benchmark, *more],
            )

    def report(self) -> dict[str, Any]:
        return dict(json.loads((self.out / "decontamination.json").read_text()))


@pytest.mark.parametrize("settings", [None, {"overlaps": "report"}])
def test_an_evaluation_question_in_a_prompt_is_never_trained_on(
    settings: Any, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    case = Case(tmp_path, make_recipe, decontaminate=settings)
    told = (
        r"chats.jsonl line 2: a prompt holds question 'birds-1' of birds: 'Tell me.*', and recipe tiny evaluates on it;"
    )
    with pytest.raises(UserError, match=told):
        case.run()


def test_rows_that_overlap_are_left_out_and_reported(
    tmp_path: Path, make_recipe: MakeRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    case = Case(tmp_path, make_recipe, decontaminate={})
    rows = case.run(progress=Progress())["dsft"].train
    assert [dialogue.messages[0]["content"] for dialogue in rows.items] == ["Hello.", "Bye."]
    assert [place.rpartition(" ")[2] for place in rows.places] == ["1", "4"]
    assert [(row.place.rpartition(" ")[2], row.kind) for row in rows.left_out] == [("2", "overlap"), ("3", "overlap")]
    (told,) = case.report()["benchmarks"]
    assert (told["rows"], told["questions_found"], told["rows_with_a_whole_question"]) == ({"dsft": 2}, 1, 1)
    assert told["examples"][0] == {
        "row": f"{case.path} line 2",
        "question": "birds-1",
        "text": f"{LONG[:80]}…",
        "whole": True,
    }
    assert "| birds | 1 | 1 | 2 | 1 |" in (case.out / "decontamination.md").read_text()
    assert "decontamination: 2 of 4 rows overlap 1 questions (birds 2), left out" in capsys.readouterr().err


def test_a_clean_recipe_keeps_its_rows(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    case = Case(tmp_path, make_recipe)
    data = case.run(benchmark(tmp_path, "rivers", OTHER))
    assert data == read_recipe(case.recipe)
    assert not case.out.exists()


def test_other_benchmarks_can_be_named_and_those_evaluated_on_still_count(
    tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    benchmark(tmp_path, "heron", LONG.replace("moves", "flies"))
    against = [str(tmp_path / "heron.yaml")]
    case = Case(tmp_path, make_recipe, decontaminate={"against": against, "overlaps": "report"})
    rivers = benchmark(tmp_path, "rivers", OTHER)
    assert len(case.run(rivers)["dsft"].train.items) == 4, "heron is not evaluated on"
    assert {one["benchmark"]: one["rows"] for one in case.report()["benchmarks"]} == {
        "rivers": {},
        "heron": {"dsft": 2},
    }
    with pytest.raises(UserError, match="holds question 'birds-1' of birds"):
        case.run()


def test_every_kind_of_row_is_looked_at(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": LONG, "id": "p"}, {"prompt": "Hello?"}])
    write_jsonl(
        tmp_path / "found.jsonl",
        [{"prompt": "Hi", "chosen": LONG, "rejected": "No."}, {"prompt": "Hi", "chosen": "Yes.", "rejected": "No."}],
    )
    feedback = {
        "prompts": {"file": "prompts.jsonl"},
        "engines": ["start"],
        "samples": 2,
        "sampling": {"temperature": 1.0},
        "judge": "rubric",
    }
    case = Case(
        tmp_path,
        make_recipe,
        feedback=feedback,
        ddpo={**DDPO, "data": [{"file": "found.jsonl"}]},
        decontaminate={},
    )
    data = case.run()
    assert {stage: len(part.train.left_out) for stage, part in data.items()} == {"dsft": 2, "feedback": 1, "ddpo": 1}


def test_a_stage_that_would_lose_all_its_rows_is_told(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    case = Case(tmp_path, make_recipe, decontaminate={})
    write_jsonl(case.path, [chat(LONG)])
    with pytest.raises(UserError, match="decontaminate: no row of dsft is left"):
        case.run()


def test_a_benchmark_whose_questions_are_not_here_is_told(
    tmp_path: Path, make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(decontamination, "reachable", lambda: False)
    monkeypatch.setattr("zephyr_bench.hub_file.at_hand", lambda *_: False)
    case = Case(tmp_path, make_recipe, decontaminate={})
    case.run(case.benchmark, open_benchmark("alpaca-eval-1"))
    told = " ".join(capsys.readouterr().err.split())
    assert "training data is not compared with the questions of alpaca-eval-1: the hub does not answer" in told
    assert "fetch alpaca-eval-1 -o DIR" in told
    assert list(case.report()["not_compared"]) == ["alpaca-eval-1"]


def test_lineage_tells_what_training_data_was_compared_with_and_what_not(
    tmp_path: Path, make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decontamination, "reachable", lambda: False)
    monkeypatch.setattr("zephyr_bench.hub_file.at_hand", lambda *_: False)
    case = Case(tmp_path, make_recipe, ddpo=DDPO, decontaminate={})
    case.train(open_benchmark("alpaca-eval-1"))
    for stage in ("dsft", "ddpo"):
        told = json.loads((case.out / stage / "lineage.json").read_text())["evaluation_questions"]
        assert told["compared"] == {"birds": 1}
        assert list(told["not_compared"]) == ["alpaca-eval-1"]
        assert "the hub does not answer" in told["not_compared"]["alpaca-eval-1"]


def test_training_stops_before_any_stage(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    case = Case(tmp_path, make_recipe)
    with pytest.raises(UserError, match="holds question 'birds-1'"):
        case.train()
    assert not case.out.exists()


def test_rows_left_out_are_listed_beside_the_checkpoint(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    case = Case(tmp_path, make_recipe, decontaminate={})
    case.train()
    listed = [json.loads(line) for line in (case.out / "dsft" / "left_out.jsonl").read_text().splitlines()]
    assert [row["row"] for row in listed] == [f"{case.path} line 2", f"{case.path} line 3"]
    assert json.loads((case.out / "dsft" / "lineage.json").read_text())["data"]["rows"] == 2


@pytest.mark.parametrize("name", sorted(catalogue.entries("benchmark")))
def test_every_benchmark_of_the_catalogue_tells_its_questions(name: str) -> None:
    assert isinstance(open_benchmark(name), TellsQuestions)


def test_smol_trains_on_no_question_that_it_is_evaluated_by(tmp_path: Path) -> None:
    recipe = load_recipe("smol", overrides=["decontaminate={}"])
    benchmarks = [open_benchmark(evaluation.benchmark) for evaluation in recipe.evaluate]
    quiet = Progress(quiet=True)
    made = decontaminated(read_recipe(recipe), recipe, benchmarks, out=tmp_path, progress=quiet)
    assert made.data == read_recipe(recipe)
    told = json.loads((tmp_path / "decontamination.json").read_text())["benchmarks"]
    assert {one["benchmark"]: one["questions"] for one in told} == {
        "mt-bench-mini": 64,
        "alpaca-eval-mini": 48,
        "open-llm-mini": 240,
    }
