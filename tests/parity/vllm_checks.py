"""Run by an interpreter that has vLLM: `python tests/parity/vllm_checks.py MODEL_DIRECTORY`.

Out: one JSON object on stdout. `failed` holds the conformance checks that failed, each with its reason; `pairs` holds
what engine transformers and engine vllm answered, turn by turn; `uses` what vllm_uses.py did by either; `lm_eval` what
lm-eval's own vllm model said of the texts that were scored; the rest is numbers about them. It imports no pytest, so
that the interpreter needs little beside vLLM and zephyr-bench's own needs.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # as pytest has it

from vllm_scored import by_lm_eval
from vllm_uses import uses

from zephyr_bench.engines import vllm_engine
from zephyr_bench.engines.locate import locate
from zephyr_bench.engines.protocol import Engine, EngineOptions, ModelSource
from zephyr_bench.engines.transformers_engine import TransformersEngine
from zephyr_bench.engines.vllm_engine import VllmEngine
from zephyr_bench.records import Generation, GenerationRequest, Message, Sampling
from zephyr_bench.testing.engines import (
    CHECKS,
    SCORING_CHECKS,
    answers_again_after_close,
    has_a_model_and_a_stable_fingerprint,
)

OPTIONS = EngineOptions(engine="vllm", device="cpu", dtype="float32")
QUESTIONS = (
    "Say hello.",
    "Name a colour, and say why you like it.",
    "What is the capital of France?",
    "Write a haiku about the sea.",
    "Explain photosynthesis to a child.",
    "2+2=",
    "Translate 'good morning' into German.",
    "List three uses of a brick.",
)
SECOND = "Say that again in other words."
GREEDY = Sampling(max_new_tokens=32)
NEW_ENGINES = (has_a_model_and_a_stable_fingerprint, answers_again_after_close)  # need them; the rest may share one


class KeptOpen(VllmEngine):
    """A start takes half a minute, and the checks start one for each call."""

    def close(self) -> None:
        pass


def main(location: str) -> dict[str, Any]:
    source = locate(location)
    kept = KeptOpen(source, OPTIONS)
    checks = [*CHECKS, *SCORING_CHECKS]
    failed = dict(_failed(lambda: kept, [check for check in checks if check not in NEW_ENGINES]))
    begun = time.perf_counter()
    ours = _dialogues(kept)
    seconds = time.perf_counter() - begun
    used = {"vllm": _used_with(kept, location)}
    VllmEngine.close(kept)
    failed |= _failed(lambda: VllmEngine(source, OPTIONS), NEW_ENGINES)
    scored = {**used["vllm"]["scored"]["whole"], **used["vllm"]["multiple_choice"]["pairs"]}
    theirs = _dialogues(TransformersEngine(source, OPTIONS))
    used["transformers"] = _used("transformers", location)
    firsts = [key for key in theirs if key.startswith("1/")]
    return {
        "versions": {"torch": version("torch"), "transformers": version("transformers"), "vllm": _vllm_version()},
        "checks": len(checks),
        "failed": failed,
        "of": len(firsts),
        "equal": sum(ours[key].text == theirs[key].text for key in firsts),
        "equal_first_tokens": sum(ours[key].tokens[0].text == theirs[key].tokens[0].text for key in firsts),
        "log_prob_difference": max(_difference(ours[key], theirs[key]) for key in firsts),
        "same_prompts": all(ours[key].prompt_tokens == theirs[key].prompt_tokens for key in firsts),
        "second_turns": sum(ours[key].text == theirs[key].text for key in theirs if key not in firsts),
        "seconds": round(seconds, 1),
        "uses": used,
        "lm_eval": by_lm_eval(location, scored),
        "pairs": {key: [theirs[key].text, ours[key].text] for key in theirs},
    }


def _used_with(kept: KeptOpen, location: str) -> dict[str, Any]:
    """Whatever is opened there by name is this engine, as far as nobody could tell by an answer."""

    def opened(source: ModelSource, options: EngineOptions) -> VllmEngine:
        other = VllmEngine(source, options)
        assert other.fingerprint == kept.fingerprint, f"another engine is asked for: {source}, {options}"
        return kept

    vllm_engine.VllmEngine = opened  # type: ignore[assignment,misc]
    try:
        return _used("vllm", location)
    finally:
        vllm_engine.VllmEngine = VllmEngine  # type: ignore[misc]


def _used(kind: str, location: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return uses(kind, location, Path(folder))


def _failed(make: Callable[[], Engine], checks: Any) -> Iterator[tuple[str, str]]:
    for check in checks:
        try:
            check(make)
        except Exception:  # noqa: BLE001 - it is told, whatever it is
            yield check.__name__, traceback.format_exc()


def _dialogues(engine: Engine) -> dict[str, Generation]:
    """Two turns of each question, each with the three likeliest of every token."""

    def chat(number: int, *more: Message) -> GenerationRequest:
        first: Message = {"role": "user", "content": QUESTIONS[number]}
        return GenerationRequest(f"{len(more) // 2 + 1}/{number}", (first, *more), GREEDY, top_logprobs=3)

    def then(result: Generation) -> list[GenerationRequest]:
        turn, number = result.key.split("/")
        answer: Message = {"role": "assistant", "content": result.text}
        return [chat(int(number), answer, {"role": "user", "content": SECOND})] if turn == "1" else []

    made = {result.key: result for result in engine.generate(map(chat, range(len(QUESTIONS))), then=then)}
    engine.close()
    return dict(sorted(made.items()))


def _difference(one: Generation, other: Generation) -> float:
    """The largest between log-probabilities of the same token after the same tokens."""
    found = [0.0]
    for ours, theirs in zip(one.tokens, other.tokens, strict=False):
        shared = ours.alternatives.keys() & theirs.alternatives.keys()
        found += [abs(ours.alternatives[text] - theirs.alternatives[text]) for text in shared]
        if ours.text != theirs.text:
            break
    return max(found)


def _vllm_version() -> str:
    import vllm

    return str(vllm.__version__)


if __name__ == "__main__":  # vLLM starts its process by importing this file again
    print(json.dumps(main(sys.argv[1])))
