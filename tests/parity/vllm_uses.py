"""What a user does with a local engine, by its name: judges, plain texts, lm-eval's tasks, a config of alpaca_eval.

In: `vllm` or `transformers`, a model's directory, a folder to write a user's files into. Out: what came of each use, as
JSON takes it, so that those of both engines can be laid side by side. It imports no pytest, as vllm_checks.py. Scores
are vllm_scored.py's matter.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from lm_eval_data import write_data
from vllm_scored import multiple_choice, options, scored

from zephyr_bench import catalogue
from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.evaluate import evaluate
from zephyr_bench.engines import open_engine
from zephyr_bench.engines.protocol import CompletionRequest, EngineOptions
from zephyr_bench.judges import JudgeOptions, open_judge
from zephyr_bench.judges.alpaca_eval_prompt import chat_of, filled, names_in
from zephyr_bench.progress import Progress
from zephyr_bench.records import GenerationRequest, Match, Sampling
from zephyr_bench.store import Store
from zephyr_bench.testing.judges import pair, single

ASKED = "Name the capital of France."
ANSWERS = ("Paris.", "Rome, I think.", "", "It is a city in France, and a large one too.", "I don't know.")
SINGLES = [single(ASKED, answer) for answer in ANSWERS]
PAIRS = [pair(ASKED, ANSWERS[number], ANSWERS[number - 1]) for number in range(len(ANSWERS))]
LONG = "Paris " * 10_000  # tokens, and more than the model takes
TOO_LONG = [single(ASKED, LONG), pair(ASKED, LONG, "Paris.")]
TEXTS = (
    "The three primary colours are",
    "Once upon a time, in a village by the sea,",
    "Q: What is 2+2?\nA: 4\n\nQ: What is 3+5?\nA:",
    "def add(a, b):\n    return",
)
STOPS = ("\n\n", ".")
PLAIN = """Which answer to the question is better, (a) or (b)?

Question: Name a fruit.
(a) An apple.
(b) A stone.
Better: (a)

Question: {instruction}
(a) {output_1}
(b) {output_2}
Better: ("""
CHATML = """<|im_start|>system
You choose the better of two answers. Reply with (a) or (b) and nothing else.
<|im_end|>
<|im_start|>user
Question: {instruction}

(a) {output_1}

(b) {output_2}

Which is better, (a) or (b)?
<|im_end|>"""
TASKS = (("open-llm-1", "gsm8k"), ("open-llm-2", "leaderboard_ifeval"))  # as plain texts, and as chats
ROWS = 2


def uses(kind: str, location: str, folder: Path) -> dict[str, Any]:
    """`seconds` are those of each use."""
    found: dict[str, Any] = {"seconds": {}}
    for use in (judged, expected, completed, drawn, scored, multiple_choice, tasks, alpaca_eval_config):
        begun = time.perf_counter()
        found[use.__name__] = use(kind, location, folder / use.__name__)
        found["seconds"][use.__name__] = round(time.perf_counter() - begun, 1)
    return found


def judged(kind: str, location: str, folder: Path) -> dict[str, Any]:
    """By the catalogue's YAML of the embedded judge, with this kind in it: what was drawn, and what it means."""
    return _by_judge(judge_yaml(kind, location, folder, expected=False), [*SINGLES, *PAIRS, *TOO_LONG])


def expected(kind: str, location: str, folder: Path) -> dict[str, Any]:
    """Likewise, by the score token's probabilities."""
    return _by_judge(judge_yaml(kind, location, folder, expected=True), [*SINGLES, *PAIRS])


def judge_yaml(kind: str, location: str, folder: Path, *, expected: bool) -> str:
    """The file."""
    value = yaml.safe_load(catalogue.find("judge", "smollm2-135m").read_text(encoding="utf-8"))
    parts = value["templates"]
    parts = {key: {**part, "expected": expected} for key, part in parts.items()}
    folder.mkdir(parents=True)
    path = folder / f"by-{kind}.yaml"
    path.write_text(yaml.safe_dump({**value, "kind": kind, "model": location, "templates": parts}), encoding="utf-8")
    return str(path)


def _by_judge(name: str, matches: Sequence[Match]) -> dict[str, Any]:
    """[score, reply, reason, tokens of the prompt, of the reply] of each match, in their order."""
    judge = open_judge(name, options=JudgeOptions(engine=EngineOptions(device="cpu")))
    lacking = judge.missing()
    assert not lacking, lacking
    found = {judgment.key: judgment for judgment in judge.grade(matches)}
    return {
        str(number): [one.score, one.reply, one.reason, one.input_tokens, one.output_tokens]
        for number, one in enumerate(found[match.key(judge.fingerprint)] for match in matches)
    }


def completed(kind: str, location: str, folder: Path) -> dict[str, Any]:
    """Plain texts by their tokens: to the limit, and to a stop string; [text, why it ended, its tokens, the likeliest
    at the first of them]."""
    engine: Any = open_engine(location, options(kind))
    requests = []
    for number, text in enumerate(TEXTS):
        prompt = tuple(engine.encode(text))
        requests.append(CompletionRequest(f"{number}", prompt, Sampling(max_new_tokens=24), top_logprobs=5))
        stopped = Sampling(max_new_tokens=64, stop=STOPS)
        requests.append(CompletionRequest(f"{number}/stop", prompt, stopped, top_logprobs=5))
    found = {result.key: result for result in engine.complete(requests)}
    engine.close()
    return {
        key: [one.text, one.finish_reason, one.completion_tokens, dict(one.tokens[0].alternatives)]
        for key, one in sorted(found.items())
    }


def drawn(kind: str, location: str, folder: Path) -> dict[str, Any]:
    """The likeliest at the place of a token that was drawn: probabilities before temperature and top_p."""
    engine: Any = open_engine(location, options(kind))
    sampling = Sampling(temperature=0.7, top_p=0.8, max_new_tokens=1, seed=5)
    prompts = enumerate(tuple(engine.encode(text)) for text in TEXTS)
    requests = [CompletionRequest(f"{number}", prompt, sampling, top_logprobs=20) for number, prompt in prompts]
    found = {result.key: dict(result.tokens[0].alternatives) for result in engine.complete(requests)}
    engine.close()
    return dict(sorted(found.items()))


def tasks(kind: str, location: str, folder: Path) -> dict[str, Any]:
    """The scores of lm-eval's tasks that write, the texts behind them, and whether a second run asks for any again."""
    data = write_data(folder / "data")
    found: dict[str, Any] = {"lacking": []}
    for suite, task in TASKS:
        benchmark = open_benchmark(suite, tasks=[task], data=data)
        if lacking := benchmark.missing():
            found["lacking"] += lacking
            continue
        with Store(f"sqlite:///{folder}/{task}.db") as store:
            engine = open_engine(location, options(kind))
            told = [
                evaluate(benchmark, asked, judge=None, store=store, progress=Progress(quiet=True), limit=ROWS)
                for asked in (engine, _silent(engine))
            ]
            engine.close()
            texts = {answer.question: answer.text for answer in store.answers_of(told[0].run)}
        first, again = ({score.metric: score.value for score in one.scores} for one in told)
        found[task] = {"scores": first, "again": again, "texts": texts}
    return found


def _silent(engine: Any) -> Any:
    """The engine where everything is made already."""

    def complete(requests: Iterable[CompletionRequest]) -> Iterator[Any]:
        asked = [request.key for request in requests if request.made is None]
        assert not asked, f"asked again: {asked}"
        return iter(())

    silent = copy.copy(engine)
    silent.complete = complete
    return silent


def alpaca_eval_config(kind: str, location: str, folder: Path) -> dict[str, Any]:
    """By a user's own evaluator config, plain and as a chat. transformers has no chats there: it is asked without."""
    function = {"vllm": "vllm_local_completions", "transformers": "huggingface_local_completions"}[kind]
    own: Mapping[str, Any] = {"temperature": 0} if kind == "vllm" else {"do_sample": False}
    kwargs = {"model_name": location, "max_new_tokens": 6, "model_kwargs": {"dtype": "float32"}, **own}
    plain = _by_judge(_config(folder / "plain", PLAIN, function, kwargs), [*PAIRS, *TOO_LONG[1:]])
    if kind == "vllm":
        kwargs = {**kwargs, "is_chatml_prompt": True}
        return {"plain": plain, "chat": _by_judge(_config(folder / "chat", CHATML, function, kwargs), PAIRS)}
    engine = open_engine(location, options(kind))
    names = names_in(CHATML)
    chats = []
    for number, match in enumerate(PAIRS):
        outputs = {"output_1": match.answers[0].text or "", "output_2": (match.rival or ())[0].text or ""}
        chat = tuple(chat_of(filled(CHATML, names, {"instruction": ASKED, **outputs})))
        chats.append(GenerationRequest(f"{number}", chat, Sampling(max_new_tokens=6)))
    told = {result.key: result for result in engine.generate(chats)}
    chat_replies = {
        key: [None, one.text, None, one.prompt_tokens, one.completion_tokens] for key, one in sorted(told.items())
    }
    return {"plain": plain, "chat": chat_replies}


def _config(folder: Path, prompt: str, function: str, kwargs: Mapping[str, Any]) -> str:
    mine = folder / "mine"
    mine.mkdir(parents=True)
    (mine / "prompt.txt").write_text(prompt, encoding="utf-8")
    annotator = {
        "prompt_template": "mine/prompt.txt",
        "fn_completions": function,
        "completions_kwargs": dict(kwargs),
        "completion_parser_kwargs": {"outputs_to_match": {1: r"(?i)^\s*\(?a\)", 2: r"(?i)^\s*\(?b\)"}},
    }
    (mine / "configs.yaml").write_text(yaml.safe_dump({"my_judge": annotator}), encoding="utf-8")
    return str(mine)
