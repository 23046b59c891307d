"""Win rates, plain and length-controlled: alpaca_eval's own functions and ours, on the same preferences."""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gamed_file import write_gamed_file
from hypothesis import given, settings
from hypothesis import strategies as st

glm_winrate = pytest.importorskip("alpaca_eval.metrics.glm_winrate")
winrate = pytest.importorskip("alpaca_eval.metrics.winrate")
helpers = pytest.importorskip("alpaca_eval.metrics.helpers")

import pandas as pd  # noqa: E402
import sklearn  # noqa: E402

from zephyr_bench.stats.gamed_rows import GamedRows, read_gamed_rows  # noqa: E402
from zephyr_bench.stats.length_control import LengthControlled, length_controlled  # noqa: E402
from zephyr_bench.stats.win_rates import head_to_head, preference_of  # noqa: E402

Row = dict[str, Any]

PUBLISHED = ["v1_phi-2", "v1_zephyr-7b-alpha", "v2_vicuna-7b"]  # their leaderboard rows are at hand
FILES = [*PUBLISHED, "v2_text_davinci_003"]


@pytest.fixture(scope="module")
def gamed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GamedRows]:
    """A made-up df_gamed.csv, which alpaca_eval has for the hub's, and whose settings end with this module."""
    path = write_gamed_file(tmp_path_factory.mktemp("gamed") / "df_gamed.csv")
    with pytest.MonkeyPatch.context() as patch, sklearn.config_context():
        patch.setattr(glm_winrate, "hf_hub_download", lambda **_: str(path))
        with path.open(encoding="utf-8", newline="") as lines:
            yield read_gamed_rows(lines, name=path.name)


def annotations(folder: Path, name: str) -> list[Row]:
    return list(json.loads(gzip.decompress((folder / f"{name}.annotations.json.gz").read_bytes())))


def made_up(values: Sequence[float | None], lengths: Sequence[tuple[int, int]]) -> list[Row]:
    names = {"generator_1": "base", "generator_2": "made-up", "annotator": "made-up"}
    return [
        {"output_1": "x" * one, "output_2": "x" * two, "preference": value, **names}
        for value, (one, two) in zip(values, lengths, strict=True)
    ]


def same_rates(values: Sequence[float | None]) -> None:
    """To 1e-9 points."""
    found = head_to_head([preference_of(value) for value in values])
    theirs = winrate.get_winrate([{"preference": value} for value in values])
    discrete = helpers.ZeroOneScoringRule().describe_head2head(pd.Series(list(values)))
    assert (found.wins, found.losses, found.draws, found.n) == tuple(
        theirs[name] for name in ("n_wins", "n_wins_base", "n_draws", "n_total")
    )
    for ours, peer in [
        (found.win_rate_percent, theirs["win_rate"]),
        (found.stderr_percent, theirs["standard_error"]),
        (found.discrete_win_rate_percent, theirs["discrete_win_rate"]),
        (found.discrete_stderr_percent, discrete["standard_error"]),
    ]:
        assert (math.nan if ours is None else ours) == pytest.approx(peer, abs=1e-9, nan_ok=True)


def ours(rows: Sequence[Row], gamed: GamedRows) -> LengthControlled:
    return length_controlled(
        [preference_of(row["preference"]) for row in rows],
        [float(len(row["output_1"]) - len(row["output_2"])) for row in rows],
        difficulties=gamed.difficulties[: len(rows)],
        gamed=gamed,
    )


def theirs(rows: Sequence[Row]) -> Row:
    return dict(
        glm_winrate.get_length_controlled_winrate(
            pd.DataFrame(rows), save_weights_dir=None, is_warn_extreme_changes=False
        )
    )


def same_control(rows: Sequence[Row], gamed: GamedRows) -> None:
    """To 1e-6 points."""
    found, peer = ours(rows, gamed), theirs(rows)
    assert found.reason is None
    assert found.win_rate_percent == pytest.approx(peer["length_controlled_winrate"], abs=1e-6)
    assert found.stderr_percent == pytest.approx(peer["lc_standard_error"], abs=1e-6)


@pytest.mark.parametrize("name", FILES)
def test_real_annotations_have_alpaca_evals_rates(name: str, real_alpaca_eval: Path) -> None:
    same_rates([row["preference"] for row in annotations(real_alpaca_eval, name)])


@pytest.mark.parametrize("name", PUBLISHED)
def test_real_annotations_have_the_published_rates(name: str, real_alpaca_eval: Path) -> None:
    """All digits of the leaderboard, but for the last bit of a float: the order of a sum isn't published."""
    version, model = name.split("_", 1)
    with (real_alpaca_eval / f"leaderboard_{version}_rows.csv").open(encoding="utf-8", newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if row[""] == model]
    found = head_to_head([preference_of(row["preference"]) for row in annotations(real_alpaca_eval, name)])
    counts = [int(row[column]) for column in ("n_wins", "n_wins_base", "n_draws", "n_total")]
    assert [found.wins, found.losses, found.draws, found.n] == counts
    assert found.win_rate_percent == pytest.approx(float(row["win_rate"]), rel=1e-15, abs=0)
    assert found.stderr_percent == pytest.approx(float(row["standard_error"]), rel=1e-14, abs=0)
    assert found.discrete_win_rate_percent == pytest.approx(float(row["discrete_win_rate"]), rel=1e-15, abs=0)


# without those less than half a point outside [1, 2]: alpaca_eval's discrete rate rounds them into it
VALUES = st.one_of(
    st.sampled_from([0, 0.0, 1, 1.0, 1.5, 2, 2.0, None, -1, 2.51, 7.0]),
    st.floats(1, 2),
    st.floats(2.6, 9),
    st.floats(-9, -0.51),
)


@settings(max_examples=200, deadline=None)
@given(values=st.lists(VALUES, min_size=1, max_size=60).filter(lambda values: any(v is not None for v in values)))
def test_made_up_preferences_have_alpaca_evals_rates(values: list[float | None]) -> None:
    same_rates(values)


@pytest.mark.parametrize(("value", "counted"), [(0.6, 0.0), (2.4, 100.0), (0.4, 50.0)])
def test_alpaca_evals_discrete_rate_counts_what_its_plain_one_drops(value: float, counted: float) -> None:
    """Where ours differs: what is no preference is none for either rate."""
    peer = winrate.get_winrate([{"preference": value}])
    assert (peer["n_total"], peer["discrete_win_rate"]) == (0, counted)
    found = head_to_head([preference_of(value)])
    assert (found.n, found.discrete_win_rate_percent) == (0, None)


@pytest.mark.parametrize("name", FILES)
def test_real_annotations_have_alpaca_evals_length_controlled_rate(
    name: str, real_alpaca_eval: Path, gamed: GamedRows
) -> None:
    same_control(annotations(real_alpaca_eval, name), gamed)


def sampled(kind: str, seed: int) -> list[Row]:
    """6 to 805 instructions, the model's lengths like the baseline's or far off."""
    rng = np.random.default_rng(seed)
    n = int(rng.choice([6, 7, 20, 101, 400, 804, 805]))
    base, own = rng.integers(1, 2000, n), rng.integers(1, int(rng.choice([50, 2000, 6000])), n)
    if kind == "wins":
        values = rng.choice([1.0, 2.0], n, p=[0.7, 0.3]).tolist()
    elif kind == "wins, draws, none":
        values = rng.choice(np.array([1, 2, 1.5, 0, None]), n, p=[0.4, 0.35, 0.1, 0.05, 0.1]).tolist()
    elif kind == "by length":
        values = np.where(own > base, 2.0, 1.0).tolist()
    elif kind == "losses only":
        values = [1.0] * n
    elif kind == "wins only":
        values = [2.0] * n
    elif kind == "one known":
        values = [2.0] + [None] * (n - 1)
    else:
        values = (1 + rng.beta(0.3, 0.6, n)).tolist()
    return made_up(values, list(zip(base.tolist(), own.tolist(), strict=True)))


KINDS = ["wins", "wins, draws, none", "by length", "losses only", "wins only", "one known", "logprobs"]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_made_up_annotations_have_alpaca_evals_length_controlled_rate(kind: str, seed: int, gamed: GamedRows) -> None:
    same_control(sampled(kind, seed + 10 * KINDS.index(kind)), gamed)


def test_where_alpaca_eval_breaks_off_or_divides_by_zero_ours_says_so(gamed: GamedRows) -> None:
    alone = made_up([2.0], [(5, 9)])
    with pytest.raises(ValueError, match="duplicate"):
        theirs(alone)
    assert "single instruction" in str(ours(alone, gamed).reason)

    equal = made_up([2.0, 1.0, 1.3], [(5, 5), (7, 7), (9, 9)])
    with pytest.raises(ValueError, match="duplicate"):
        theirs(equal)
    assert ours(equal, gamed).reason is None

    shifted = made_up([2.0, 1.0, 1.3], [(5, 8), (7, 10), (9, 12)])
    assert np.isfinite(theirs(shifted)["length_controlled_winrate"])  # of tanh of minus infinity
    assert "all length differences are the same" in str(ours(shifted, gamed).reason)

    unknown = made_up([None, None, math.nan], [(5, 8), (7, 1), (9, 12)])
    assert np.isfinite(theirs(unknown)["length_controlled_winrate"])  # of the gamed rows alone
    assert ours(unknown, gamed).reason == "no preference is known"
