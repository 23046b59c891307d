"""Judges that are language models: a form (what is shown, how the reply is read) over an engine (who answers).

Knows no server and no store: verdicts are yielded as the engine finishes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import chain
from typing import Any

from zephyr_bench.engines.protocol import Engine, most_tokens
from zephyr_bench.errors import JudgeUnavailable, ServiceError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.judges.budget import Budget
from zephyr_bench.judges.forms import Form
from zephyr_bench.judges.prices import Prices
from zephyr_bench.judges.protocol import JudgeOptions
from zephyr_bench.records import Generation, GenerationRequest, Judgment, Match, Sampling


class ChatJudge:
    """`open_engine` gives the engine when it is first needed; `identity` is what a verdict hangs on beside the form."""

    _price_key = "usd_per_million_tokens"

    def __init__(
        self,
        name: str,
        form: Form,
        sampling: Sampling,
        identity: Mapping[str, Any],
        prices: Prices | None,
        options: JudgeOptions,
        open_engine: Callable[[], Engine],
    ) -> None:
        self.name = name
        self._form = form
        self._sampling = sampling
        self._identity = identity
        self._prices = prices
        self._budget = Budget(options.max_cost_usd)
        self._open_engine = open_engine

    @cached_property
    def fingerprint(self) -> str:
        """Of all that a verdict hangs on; a server is known by its address."""
        return fingerprint({**self._identity, **self._form.fingerprint_parts()})

    @cached_property
    def _engine(self) -> Engine:
        return self._open_engine()

    def missing(self) -> list[str]:
        absent = self._form.missing()
        parts = [f"the prompts of judge {self.name}: {absent}"] if absent else []
        if self._budget.limited and self._prices is None:
            parts.append(f"a price for --max-cost: put {self._price_key} into the YAML of judge {self.name}")
        return parts

    def unfit(self, *, paired: bool) -> str | None:
        """Why it can't grade pairs, or single answers; None where it can."""
        what = "compare answers" if paired else "grade an answer by itself"
        found = self._form.unfit(paired=paired)
        return f"a judge that can {what}, which {self.name} can't: {found}" if found else None

    def cost_usd(self, input_tokens: int, output_tokens: int) -> float | None:
        return self._prices.usd(input_tokens, output_tokens) if self._prices else None

    def grade(self, matches: Iterable[Match]) -> Iterator[Judgment]:
        """Raises BudgetReached where the next call could cost more than is left, once what is under way is finished."""
        try:
            yield from self._grade(iter(matches))
        finally:
            self._engine.close()

    def _grade(self, waiting: Iterator[Match]) -> Iterator[Judgment]:
        while True:
            left_over: list[Match] = []  # the first that the budget has no room for
            under_way: dict[str, tuple[Match, float]] = {}
            try:
                for reply in self._engine.generate(self._affordable(waiting, under_way, left_over)):
                    match, most = under_way.pop(reply.key)
                    judgment = self._judgment(match, reply)
                    self._budget.settle(most, judgment.cost_usd)
                    yield judgment
            except ServiceError as error:
                raise JudgeUnavailable(str(error)) from None
            finally:
                for _, most in under_way.values():
                    self._budget.settle(most, 0.0)
            if not left_over:
                return
            self._budget.check(self.name, self._most_usd(self._request(left_over[0])))
            waiting = chain(left_over, waiting)

    def _affordable(
        self, matches: Iterator[Match], under_way: dict[str, tuple[Match, float]], left_over: list[Match]
    ) -> Iterator[GenerationRequest]:
        """While calls are under way, the most that they may cost counts as spent."""
        for match in matches:
            request = self._request(match)
            most = self._most_usd(request)
            if not self._budget.reserve(most):
                left_over.append(match)
                return
            under_way[request.key] = match, most
            yield request

    def _request(self, match: Match) -> GenerationRequest:
        return GenerationRequest(
            match.key(self.fingerprint),
            tuple(self._form.chat(match)),
            replace(self._sampling, seed=match.replicate),  # so that repeats draw anew
            top_logprobs=self._form.top_logprobs,
            or_nothing=True,
        )

    def _most_usd(self, request: GenerationRequest) -> float:
        return self._prices.usd(*most_tokens(request)) if self._prices else 0.0

    def _judgment(self, match: Match, reply: Generation) -> Judgment:
        score, reason = self._form.verdict(match, reply)
        if not reply.text and reply.completion_tokens == 0 and reply.finish_reason == "length":
            score, reason = None, "the judge's prompt leaves no room for a reply"
        inputs, outputs = reply.prompt_tokens, reply.completion_tokens
        return Judgment(
            key=reply.key,
            judge=self.name,
            score=score,
            reason=reason,
            reply=reply.text,
            input_tokens=inputs,
            output_tokens=outputs,
            cost_usd=None if inputs is None or outputs is None else self.cost_usd(inputs, outputs),
            prompt=self._form.name(match),
        )
