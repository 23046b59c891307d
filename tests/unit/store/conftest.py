"""Fixtures of the store's tests; what they are made of is in conftest_store.py."""

from conftest_store import path, store

__all__ = ["path", "store"]
