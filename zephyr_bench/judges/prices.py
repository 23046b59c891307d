"""What a server's tokens cost."""

from __future__ import annotations

from pydantic import Field

from zephyr_bench.recipe import Entry


class Prices(Entry):
    """In USD for a million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)

    def half(self) -> Prices:
        """What a batch costs."""
        return Prices(input=self.input / 2, output=self.output / 2)

    def usd(self, input_tokens: int, output_tokens: int) -> float:
        return (input_tokens * self.input + output_tokens * self.output) / 1e6
