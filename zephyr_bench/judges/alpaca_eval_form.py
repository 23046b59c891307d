"""What a judge by alpaca_eval's evaluator config is shown, and how its reply is read. Pure.

A match's `answers` are the prompt's output_1 and its `rival` output_2. The score is the preference for `answers`: 2 - v
of alpaca_eval's value v.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zephyr_bench.engines.server import sendable
from zephyr_bench.judges import alpaca_eval_parsers as parsers
from zephyr_bench.judges.alpaca_eval_calls import ModelCall
from zephyr_bench.judges.alpaca_eval_config import Annotator
from zephyr_bench.judges.alpaca_eval_prompt import chat_of, filled, names_in
from zephyr_bench.judges.forms import Verdict
from zephyr_bench.records import Generation, Match, Message


class AlpacaEvalForm:
    """The config's prompt, filled in for each match, and its parser."""

    def __init__(self, template: str, annotator: Annotator, call: ModelCall) -> None:
        self._template = template
        self._names = names_in(template)
        self._config = annotator.config
        self._parser = annotator.parser
        self._call = call
        self._empty = " " if call.backend == "openai" and call.chat else ""  # decoders/openai.py puts a blank there
        self.top_logprobs = int(call.parameters["top_logprobs"]) if self._parser.reads_tokens else 0

    def missing(self) -> str | None:
        return None

    def unfit(self, *, paired: bool) -> str | None:
        return None if paired else "alpaca_eval's prompts compare two answers"

    def fingerprint_parts(self) -> Mapping[str, Any]:
        return {
            "prompt": self._template,
            "chat": self._call.chat,
            "strip": self._call.strip,
            "parser": self._config.fn_completion_parser,
            "parser_arguments": repr(
                self._config.completion_parser_kwargs
            ),  # keys may be numbers, and their order counts
            "parser_version": parsers.VERSION,
        }

    def name(self, match: Match) -> str | None:
        return None

    def chat(self, match: Match) -> list[Message]:
        """Raises ValueError where an answer makes the prompt no chat."""
        assert match.rival is not None
        outputs = match.answers[0].text or "", match.rival[0].text or ""
        values = {"instruction": match.question.turns[0], "output_1": outputs[0], "output_2": outputs[1]}
        prompt = sendable(filled(self._template, self._names, values))
        if self._call.chat:
            return chat_of(prompt)
        return [{"role": "user", "content": prompt.strip() if self._call.strip else prompt}]

    def verdict(self, match: Match, reply: Generation) -> Verdict:
        if not self._parser.reads_tokens:
            return parsers.verdict(self._parser, reply.text or self._empty)
        if not reply.tokens:
            return None, "no probabilities of tokens were told with the judge's reply"
        return parsers.verdict(self._parser, [token.alternatives for token in reply.tokens])
