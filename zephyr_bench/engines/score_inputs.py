"""What a model reads to score a continuation, by the conventions that every scoring engine shares.

In: a request's token ids. Out: the model's input, and where the continuation's scores stand in it. Computes nothing.
"""

from __future__ import annotations

from zephyr_bench.errors import UserError
from zephyr_bench.records import ScoredTokens, ScoreRequest


def of_nothing(request: ScoreRequest) -> ScoredTokens | None:
    """The score of an empty continuation, which no model is asked for; None where there is something to score."""
    return None if request.continuation else ScoredTokens(request.key, 0.0, True, 0)


def model_input(request: ScoreRequest, max_length: int) -> tuple[tuple[int, ...], int]:
    """(the model's input, the first position read from it). Too long a context loses its beginning.

    context 0 1 2 3, continuation 4 5 6   ->  input 0 1 2 3 4 5, read after 3, 4 and 5 the tokens 4, 5 and 6: first 3

    The last token is scored and not read, so `max_length` tokens of input go with `max_length + 1` of text, as in
    lm-eval's models (0.4.13). The continuation is never cut: one that is too long raises UserError, as does an
    empty context.
    """
    if not request.context:
        raise UserError("a score needs a context of one token at least: put BOS or EOS before the continuation.")
    count = len(request.continuation)
    if count > max_length:
        raise UserError(f"a continuation of {count} tokens is longer than the model's {max_length}.")
    inputs = (request.context + request.continuation)[-(max_length + 1) :][:-1]
    return inputs, len(inputs) - count
