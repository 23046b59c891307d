"""Log-probabilities by a local engine, and by lm-eval's own vllm model: the same texts, asked of either.

In: `vllm` or `transformers`, a model's directory, a folder for a store. Out: of each pair of a context and its
continuation the log-probability, the greedy flag and the count of tokens, as JSON takes them. It imports no pytest.
"""

from __future__ import annotations

import copy
import importlib.metadata
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from lm_eval.api.instance import Instance

from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.evaluate import evaluate
from zephyr_bench.engines import open_engine
from zephyr_bench.engines.lm_eval_model import EngineLM
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.progress import Progress
from zephyr_bench.records import ScoreRequest
from zephyr_bench.store import Store

ADDED = "".join(f"Question: {a} + {b}?\nAnswer: {a + b}\n\n" for a in range(12) for b in range(3))
HAMLET = "Question: who wrote Hamlet?\nAnswer:"
ANSWERS = (" Shakespeare", " William", " William Shakespeare", " Marlowe, I think", " A", " B", " C")
PAIRS = [
    # so long a context that a few tokens after it are asked one after the other; and one that is read with all of them
    *((ADDED + HAMLET, answer) for answer in ANSWERS),
    *((ADDED + "Question: 2 + 3?\nAnswer:", answer) for answer in (" 5", " 6", "5")),
    *((HAMLET, answer) for answer in ANSWERS),
    (HAMLET + " ", "Shakespeare"),  # the blank belongs to the continuation
    *((before + "A B C D E F G", after) for before in ("", ADDED) for after in (" H", " H I", " H I K")),
    ("un", "believable"),  # the boundary lies inside a word
    ("", "The sky is blue."),
    ("", " The"),
    ("Zwölf Boxkämpfer jagen ", "Viktor quer über den großen Sylter Deich"),
    ("<|im_start|>user\nHi<|im_end|>\n", "<|im_start|>assistant"),  # begins with BOS
]
SHORT = 300  # tokens that the model is said to hold, so that long contexts are cut
ROWS = 3  # of each of the benchmark's tasks

Told = dict[str, list[Any]]  # JSON of [context, continuation] -> [log-probability, greedy or not, tokens]


class Nothing:
    """A cache that forgets."""

    def token_scores(self, keys: Sequence[str]) -> dict[str, Any]:
        return {}

    def add_token_scores(self, scores: Iterable[Any]) -> None:
        pass


def scored(kind: str, location: str, folder: Path) -> dict[str, Told]:
    """The pairs above; by vLLM also as by a shorter model, for lm-eval cuts for vLLM otherwise than for others."""
    engine: Any = open_engine(location, options(kind))
    found = {"whole": _told(EngineLM(engine, Nothing()), PAIRS)}  # type: ignore[arg-type]
    if kind == "vllm":
        length = engine._texts.max_length
        engine._texts.max_length = SHORT
        found["cut"] = _told(EngineLM(engine, Nothing()), PAIRS)  # type: ignore[arg-type]
        engine._texts.max_length = length
    engine.close()
    return found


def multiple_choice(kind: str, location: str, folder: Path) -> dict[str, Any]:
    """The packaged benchmark's scores and the pairs behind them; and whether a second run asks for any again."""
    folder.mkdir(parents=True)
    benchmark = open_benchmark("open-llm-mini")
    pairs: Told = {}
    asking = EngineLM.loglikelihood

    def recording(self: EngineLM, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        found = asking(self, requests, disable_tqdm)
        pairs.update(_by_pair(self, [request.args for request in requests], found))
        return found

    with Store(f"sqlite:///{folder}/store.db") as store, mock.patch.object(EngineLM, "loglikelihood", recording):
        engine = open_engine(location, options(kind))
        assert not benchmark.unfit(engine), benchmark.unfit(engine)
        first, again = (
            {score.metric: score.value for score in evaluate(benchmark, asked, **run(store)).scores}
            for asked in (engine, _silent(engine))
        )
        engine.close()
    return {"scores": first, "again": again, "pairs": pairs}


def run(store: Store) -> dict[str, Any]:
    return {"judge": None, "store": store, "progress": Progress(quiet=True), "limit": ROWS}


def by_lm_eval(location: str, pairs: Iterable[str]) -> dict[str, Told]:
    """lm-eval's own model over vLLM, of these pairs as above; and of those above where it is said to be shorter."""
    known = importlib.metadata.version

    def version(name: str) -> str:
        """vLLM for CPUs is distributed under another name."""
        import vllm

        return str(vllm.__version__) if name == "vllm" else known(name)

    with mock.patch("importlib.metadata.version", version):
        from lm_eval.models.vllm_causallms import VLLM
    lm = VLLM(location, dtype="float32", enforce_eager=True, kv_cache_memory_bytes=2 << 30)
    whole = _told(lm, [tuple(json.loads(pair)) for pair in pairs])
    lm._max_length = SHORT
    cut = _told(lm, PAIRS)
    lm.model.llm_engine.engine_core.shutdown()
    return {"whole": whole, "cut": cut}


def options(kind: str) -> EngineOptions:
    return replace(EngineOptions(device="cpu", dtype="float32"), engine=kind)


def _told(lm: Any, pairs: Sequence[tuple[str, str]]) -> Told:
    requests = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]
    return _by_pair(lm, pairs, lm.loglikelihood(requests, disable_tqdm=True))


def _by_pair(lm: Any, pairs: Sequence[tuple[str, str]], found: Sequence[tuple[float, bool]]) -> Told:
    counts = [len(lm.tok_encode(continuation)) for _, continuation in pairs]
    return {
        json.dumps(pair): [log_prob, is_greedy, count]
        for pair, (log_prob, is_greedy), count in zip(pairs, found, counts, strict=True)
    }


def _silent(engine: Any) -> Any:
    """The engine where every score is there already."""

    def score(requests: Iterable[ScoreRequest]) -> Iterator[Any]:
        asked = [request.key for request in requests]
        assert not asked, f"asked again: {asked}"
        return iter(())

    silent = copy.copy(engine)
    silent.score = score
    return silent
