from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from zephyr_bench.reports import curve
from zephyr_bench.reports.curve import Point, as_csv, drawn, write_curve
from zephyr_bench.reports.trainings import training_told
from zephyr_bench.store import Training

POINTS = [
    Point("mt-bench", "score", 0, 5.25, 0.2, 80, "smol-dsft", "r0"),
    Point("mt-bench", "score", 20, None, None, 80, "smol-ddpo@20", "r1"),
    Point("mt-bench", "score", 40, 6.5, 0.15, 80, "smol-ddpo", "r2"),
    Point("alpaca-eval-2", "lc-win-rate", 40, 12.5, None, 805, "smol-ddpo", "r3"),
]


def size(picture: bytes) -> tuple[int, int]:
    assert picture.startswith(b"\x89PNG\r\n")
    return int.from_bytes(picture[16:20], "big"), int.from_bytes(picture[20:24], "big")


def test_the_csv_has_every_point_and_leaves_missing_values_empty() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(POINTS))))
    assert [row["step"] for row in rows] == ["0", "20", "40", "40"]
    assert [row["value"] for row in rows] == ["5.25", "", "6.5", "12.5"]
    assert rows[0] == {
        "benchmark": "mt-bench", "metric": "score", "step": "0", "value": "5.25",
        "stderr": "0.2", "n": "80", "model": "smol-dsft", "run": "r0",
    }  # fmt: skip


def test_the_picture_has_a_panel_for_each_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    panels = []
    plain = curve._panel
    monkeypatch.setattr(curve, "_panel", lambda panel, points, name: panels.append((name, [p.step for p in points])))
    drawn(POINTS, title="smol: ddpo")
    assert panels == [("mt-bench", [0, 40]), ("alpaca-eval-2", [40])]
    monkeypatch.setattr(curve, "_panel", plain)
    one, two = (size(drawn(points, title="smol: ddpo")) for points in (POINTS[:3], POINTS))
    assert (two[0], two[1]) == (2 * one[0], one[1])


def test_the_bars_are_of_95_per_cent() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    panel = Figure().subplots()
    curve._panel(panel, [POINTS[0], POINTS[2]], "mt-bench")
    (bars,) = panel.containers[0].lines[2]
    (first, second) = bars.get_segments()
    assert first[:, 1] == pytest.approx([5.25 - 1.96 * 0.2, 5.25 + 1.96 * 0.2])
    assert second[:, 1] == pytest.approx([6.5 - 1.96 * 0.15, 6.5 + 1.96 * 0.15])


def test_both_files_are_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write_curve(POINTS, tmp_path / "ddpo-curve", title="smol: ddpo")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ddpo-curve.csv", "ddpo-curve.png"]


def test_a_missing_matplotlib_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve, "find_spec", lambda name: None)
    (told,) = curve.missing_plots()
    assert told == "matplotlib, for the curve of evaluate_every: run `pip install 'zephyr-bench[plots]'`"


def test_a_training_is_told_in_a_line() -> None:
    values = {
        "loss": [(1, 0.6931), (2, 0.5), (3, 0.4)],
        "accuracy": [(1, 0.5), (2, 0.75), (3, 1.0)],
        "tokens": [(1, 100.0), (2, 100.0), (3, 100.0)],
        "seconds": [(1, 1.0), (2, 1.0), (3, 1.0)],
        "held_out/loss": [(2, 0.65), (3, 0.62)],
        "kl": [(2, 0.001), (3, 0.0123)],
    }
    told = training_told(Training("sha256:s", "smol-ddpo", 5, "2026", values))
    assert told == (
        "smol-ddpo: 3 of 5 steps, loss 0.6931 to 0.5310, accuracy 75%, 100 tokens/s; "
        "held out after step 3: loss 0.6200; KL to the reference 0.0123"
    )


def test_a_checkpoint_of_its_midst_is_told_up_to_its_own_step() -> None:
    values = {"loss": [(1, 0.7), (2, 0.5), (3, 0.1)], "kl": [(3, 0.2)]}
    told = training_told(Training("sha256:s", "smol-ddpo", 3, "2026", values), until=2)
    assert told == "smol-ddpo: 2 of 3 steps, loss 0.7000 to 0.6000"


def test_a_training_without_steps_is_told_all_the_same() -> None:
    assert training_told(Training("sha256:s", "smol-ddpo", 5, "2026", {})) == "smol-ddpo: 0 of 5 steps"
