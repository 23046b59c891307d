"""Statistics of scores: pure functions over numbers, no I/O. See docs/design/statistics.md."""
