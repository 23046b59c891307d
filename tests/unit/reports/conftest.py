"""Fixtures of the reports' tests; what they are made of is in conftest_reports.py."""

from conftest_reports import add_run, store

__all__ = ["add_run", "store"]
