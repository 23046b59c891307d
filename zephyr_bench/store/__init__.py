"""The results store: models, runs, answers, judgments and scores, each kept the moment it exists.

`Store` opens it and reads, `RunWriter` writes one run. Knows no engine, judge, benchmark or report.
The tables are told in schema.py, for those who write SQL.
"""

from zephyr_bench.store.connection import shown
from zephyr_bench.store.deletion import Deletion
from zephyr_bench.store.dump_file import Dump, check_dump
from zephyr_bench.store.load import Loaded, check_revision
from zephyr_bench.store.run_info import ModelInfo, RunInfo, RunStart, Verdict
from zephyr_bench.store.run_writer import RunWriter
from zephyr_bench.store.store import DEFAULT_URL, Store
from zephyr_bench.store.trainings import Training, TrainingWriter

__all__ = [
    "DEFAULT_URL",
    "Deletion",
    "Dump",
    "Loaded",
    "ModelInfo",
    "RunInfo",
    "RunStart",
    "RunWriter",
    "Store",
    "Training",
    "TrainingWriter",
    "Verdict",
    "check_dump",
    "check_revision",
    "shown",
]
