"""Fixtures of the store's tests; what they are made of is in conftest_store.py."""

from conftest_store import database, made_file, new_url, path, server, store, url

__all__ = ["database", "made_file", "new_url", "path", "server", "store", "url"]
