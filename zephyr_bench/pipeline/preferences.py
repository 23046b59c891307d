"""Preference accuracy on held-out pairs: does a checkpoint favour what the judge preferred?

Raw: log p(chosen | prompt) > log p(rejected | prompt), summed over tokens. Implicit: the same of the
reward beta (log p_policy - log p_reference), arXiv 2305.18290 section 4; beta doesn't change the sign.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from zephyr_bench.benchmarks.protocol import HELD_OUT, Job
from zephyr_bench.engines.protocol import ScoringEngine
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import SampleScore, Score, ScoreRequest
from zephyr_bench.stats.intervals import wilson_interval
from zephyr_bench.stats.means import mean_stderr
from zephyr_bench.training_data.data import Pair
from zephyr_bench.training_data.tokens import parted

NAME = HELD_OUT
MARGIN = "log-prob-margin"
IMPLICIT = "implicit-margin"
METRICS = {MARGIN: "log-prob-accuracy", IMPLICIT: "implicit-accuracy"}


def _plain(pair: Pair) -> dict[str, Any]:
    """Without the reference's answer, which says nothing here."""
    return {key: value for key, value in asdict(pair).items() if key != "sampled"}


class HeldOutPreferences:
    """A benchmark over preference pairs. `reference` gives the reference model's margin of each pair, if any."""

    name = NAME
    headline = "log-prob-accuracy"
    judged = False
    default_judge: str | None = None

    def __init__(self, pairs: Sequence[Pair], *, reference: Mapping[str, float] | None = None) -> None:
        self._pairs = pairs
        self._reference = reference

    def missing(self) -> list[str]:
        return []

    def hub_data(self) -> list[str]:
        return []

    def protocol(self, limit: int | None) -> Mapping[str, Any]:
        reference = None if self._reference is None else fingerprint(dict(self._reference))
        return {"pairs": fingerprint([_plain(pair) for pair in self._pairs[:limit]]), "reference": reference}

    def size(self, limit: int | None) -> Mapping[str, int]:
        return {"questions": len(self._pairs[:limit]), "answers": 0, "judgments": 0, "max_new_tokens": 0}

    def samples(self, job: Job) -> Iterator[SampleScore]:
        pairs = self._pairs[: job.limit]
        for pair, margin in _margins(job, pairs):
            yield SampleScore(pair.id, "preferences", MARGIN, margin)
            if self._reference is not None:
                yield SampleScore(pair.id, "preferences", IMPLICIT, margin - self._reference[pair.id])

    def aggregate(self, samples: Sequence[SampleScore]) -> list[Score]:
        """Accuracies in per cent: the share of pairs with a positive margin; an exact tie counts half."""
        scores = []
        for margin, metric in METRICS.items():
            values = [sample.value for sample in samples if sample.metric == margin and sample.value is not None]
            if values:
                correct = [100.0 * (0.5 if value == 0 else value > 0) for value in values]
                mean, stderr = mean_stderr(correct)
                scores.append(Score(metric, mean, stderr, len(values)))
        return scores


def interval_percent(score: Score) -> tuple[float, float]:
    """95 % Wilson interval of an accuracy in per cent."""
    low, high = wilson_interval((score.value or 0.0) / 100 * score.n, score.n)
    return 100 * low, 100 * high


def _margins(job: Job, pairs: Sequence[Pair]) -> Iterator[tuple[Pair, float]]:
    """log p(chosen) - log p(rejected) of each pair, read from the store where it is known."""
    engine = job.engine
    if not isinstance(engine, ScoringEngine):
        raise UserError("preference accuracy reads log-probabilities, which this engine can't tell.")
    requests: dict[str, ScoreRequest] = {}
    sides: list[tuple[Pair, str, str]] = []
    for pair in pairs:
        prompt = engine.render(pair.prompt)
        whole = [
            engine.render([*pair.prompt, one], add_generation_prompt=False) for one in (pair.chosen, pair.rejected)
        ]
        if not all(text.startswith(prompt) for text in whole):
            raise UserError(f"model {engine.model.name}: its chat template rewrites a prompt once it is answered.")
        keys = []
        for context, continuation in parted(engine.encode, prompt, whole).sides:  # as dDPO learns them
            key = fingerprint({"engine": engine.fingerprint, "context": context, "continuation": continuation})
            requests[key] = ScoreRequest(key, context, continuation)
            keys.append(key)
        sides.append((pair, keys[0], keys[1]))
    known = job.run.token_scores(list(requests))
    missing = [request for key, request in requests.items() if key not in known]
    what = f"{engine.model.name}: held-out pairs"
    for scored in job.progress.track(engine.score(missing), what=what, total=len(missing), unit="answers"):
        job.run.add_token_scores([scored])
        known[scored.key] = scored
    for pair, chosen, rejected in sides:
        yield pair, known[chosen].log_prob - known[rejected].log_prob
