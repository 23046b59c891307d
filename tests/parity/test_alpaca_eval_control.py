"""Length control of runs: imported annotations with AlpacaEval's data at hand, against alpaca_eval's own function."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alpaca_files import DATA_SET
from gamed_file import write_gamed_file

glm_winrate = pytest.importorskip("alpaca_eval.metrics.glm_winrate")

import pandas as pd  # noqa: E402
import sklearn  # noqa: E402

from zephyr_bench.interop.alpaca_benchmarks import find_benchmarks  # noqa: E402
from zephyr_bench.interop.alpaca_import import read_alpaca_eval  # noqa: E402
from zephyr_bench.interop.imported_runs import add_to_store  # noqa: E402
from zephyr_bench.records import Score  # noqa: E402
from zephyr_bench.store import Store  # noqa: E402

Rows = list[dict[str, Any]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path}/store.db") as opened:
        yield opened


@pytest.fixture
def annotations(real_alpaca_eval: Path) -> Rows:
    return list(json.loads(gzip.decompress((real_alpaca_eval / "v2_vicuna-7b.annotations.json.gz").read_bytes())))


@pytest.fixture
def data(annotations: Rows, tmp_path: Path) -> Iterator[Path]:
    """The published instructions and baseline; difficulties made up, which alpaca_eval is given as well."""
    place = tmp_path / "data" / DATA_SET
    place.mkdir(parents=True)
    rows = [{**{k: r[k] for k in ("instruction", "dataset")}, "output": r["output_1"]} for r in annotations]
    (place / "alpaca_eval_gpt4_baseline.json").write_text(json.dumps(rows))
    gamed = write_gamed_file(place / "df_gamed.csv")
    with pytest.MonkeyPatch.context() as patch, sklearn.config_context():
        patch.setattr(glm_winrate, "hf_hub_download", lambda **_: str(gamed))
        yield tmp_path / "data"


def controlled(store: Store, rows: Rows, data: Path, folder: Path) -> Score:
    file = folder / "annotations.json"
    file.write_text(json.dumps(rows))
    choice = find_benchmarks(version=None, benchmark=None, data=data)
    (done,) = add_to_store(store, read_alpaca_eval([file], choice))
    return next(score for score in store.scores_of([done.run])[done.run] if score.metric == "lc-win-rate")


def theirs(rows: Rows) -> tuple[float, float]:
    found = glm_winrate.get_length_controlled_winrate(
        pd.DataFrame(rows), save_weights_dir=None, is_add_glm_preference_inplace=False, is_warn_extreme_changes=False
    )
    return found["length_controlled_winrate"], found["lc_standard_error"]


def test_imported_annotations_have_alpaca_evals_length_controlled_rate(
    store: Store, annotations: Rows, data: Path, tmp_path: Path
) -> None:
    annotations[7]["preference"] = None
    found = controlled(store, annotations, data, tmp_path)
    assert (found.value, found.stderr) == pytest.approx(theirs(annotations), abs=1e-6)
    assert (found.n, found.missing) == (805, 0)


def test_the_order_of_a_files_rows_changes_nothing(store: Store, annotations: Rows, data: Path, tmp_path: Path) -> None:
    """There each row has the difficulty of its place; here each instruction has its own."""
    shuffled = random.Random(0).sample(annotations, len(annotations))
    found = controlled(store, shuffled, data, tmp_path)
    assert (found.value, found.stderr) == pytest.approx(theirs(annotations), abs=1e-6)


def test_where_only_the_difficulties_are_at_hand_a_row_has_that_of_its_place(
    store: Store, annotations: Rows, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (data / DATA_SET / "alpaca_eval_gpt4_baseline.json").unlink()
    found = controlled(store, annotations, data, tmp_path)
    assert (found.value, found.stderr) == pytest.approx(theirs(annotations), abs=1e-6)


def test_the_baseline_against_itself_has_no_length_control(
    store: Store, annotations: Rows, data: Path, tmp_path: Path
) -> None:
    itself = [
        {**row, "output_2": row["output_1"], "generator_2": row["generator_1"], "preference": 1.5}
        for row in annotations
    ]
    assert controlled(store, itself, data, tmp_path).value is None
