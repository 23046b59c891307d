"""What a judge may spend: calls reserve the most that they may cost, and settle what they did cost. Pure."""

from __future__ import annotations

from zephyr_bench.errors import BudgetReached


class Budget:
    """In USD. None: no limit."""

    def __init__(self, most: float | None) -> None:
        self._most = most
        self._spent = 0.0
        self._reserved = 0.0

    @property
    def limited(self) -> bool:
        return self._most is not None

    def reserve(self, usd: float) -> bool:
        """False where that could go over the limit."""
        if self._most is not None and self._spent + self._reserved + usd > self._most:
            return False
        self._reserved += usd
        return True

    def settle(self, reserved: float, spent: float | None) -> None:
        """A call has ended. What it cost is not known where the server doesn't tell: then it is what was reserved."""
        self._reserved -= reserved
        self._spent += reserved if spent is None else spent

    def check(self, judge: str, usd: float) -> None:
        """Raises BudgetReached where so much can't be spent, now that nothing is under way."""
        if self._most is not None and self._spent + usd > self._most:
            raise BudgetReached(
                f"judge {judge}: the next call may cost {usd:.4f} USD, and {self._spent:.4f} of --max-cost "
                f"{self._most:g} are spent; what was judged is stored, and a higher --max-cost goes on."
            )
