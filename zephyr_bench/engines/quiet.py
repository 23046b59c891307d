"""transformers without its bars and warnings, and what it raises for broken files as one sentence."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from zephyr_bench.errors import UserError, ZephyrBenchError, first_line


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """transformers draws bars and warns on stderr while loading; ours says how far it is."""
    from transformers.utils import logging as theirs

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # peft imports it, and it misses a package it may use
    verbosity, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(verbosity)
        if bars:
            theirs.enable_progress_bar()


@contextlib.contextmanager
def readable(what: str) -> Iterator[None]:
    """What transformers and safetensors raise for broken files, as one sentence."""
    try:
        yield
    except (ZephyrBenchError, MemoryError):
        raise
    # a config may hold anything: what comes of it has many kinds, some of them private to huggingface_hub
    except Exception as error:
        reason = first_line(error)
        raise UserError(f"{what} can't be loaded: {reason}") from error
