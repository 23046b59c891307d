"""Conformance suites for plug-in authors: the tests that our own engines, judges and benchmarks pass.

from zephyr_bench.testing.judges import check_judge
"""
