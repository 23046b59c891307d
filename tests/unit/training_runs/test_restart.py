"""A killed training goes on to the very bits of an unbroken one, wherever it was killed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_data import DDPO, DSFT, PAIRS, write_jsonl

from zephyr_bench.engines.locate import locate
from zephyr_bench.errors import UserError
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Recipe
from zephyr_bench.trainers.dsft import train_dsft
from zephyr_bench.training_data.reading import read_dialogues
from zephyr_bench.training_runs.restart import RestartPoints

MakeRecipe = Callable[..., Recipe]
SETTINGS = {"global_batch": 2, "micro_batch": 1, "save_minutes": 0}
# trains a recipe's stages, and is killed: before step N is stored, in the middle of it, or after it
KILLED = """
    import os, signal, sys
    from pathlib import Path
    import torch
    torch.set_num_threads(1)
    from zephyr_bench.engines.locate import locate
    from zephyr_bench.engines.protocol import EngineOptions
    from zephyr_bench.pipeline.training import train_stages
    from zephyr_bench.progress import Progress
    from zephyr_bench.recipe import load_recipe
    from zephyr_bench.store import Store
    from zephyr_bench.training_runs import restart

    recipe, out, step, moment = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    plain, flush = restart.RestartPoints.save, restart.flush_folder

    def save(self, model, optimizer, steps):
        if len(steps) == step and moment == "before":
            die()
        restart.flush_folder = lambda folder: die() if len(steps) == step and moment == "inside" else flush(folder)
        plain(self, model, optimizer, steps)
        if len(steps) == step and moment == "after":
            die()

    restart.RestartPoints.save = save
    with Store("sqlite://") as store:
        options, quiet = EngineOptions(device="cpu"), Progress(quiet=True)
        train_stages(load_recipe(recipe), options, store=store, out=out, progress=quiet)
"""


def run(recipe: Recipe, out: Path, home: Path, *, step: int = 0, moment: str = "never") -> int:
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(KILLED),
        str(recipe.folder / "tiny.yaml"),
        str(out),
        str(step),
        moment,
    ]
    environment = {"PATH": "", "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, env=environment, capture_output=True, timeout=110).returncode


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(("step", "moment"), [(1, "before"), (1, "after"), (3, "inside"), (4, "before"), (6, "after")])
@pytest.mark.parametrize("stage", ["dsft", "ddpo"])
def test_a_killed_training_ends_in_the_bits_of_an_unbroken_one(
    make_recipe: MakeRecipe, tmp_path: Path, stage: str, step: int, moment: str
) -> None:
    sections = {"dsft": {**DSFT, **SETTINGS}} if stage == "dsft" else {"ddpo": {**DDPO, **SETTINGS}}
    recipe = make_recipe(**sections)
    assert run(recipe, tmp_path / "whole", tmp_path / "home1") == 0
    assert run(recipe, tmp_path / "broken", tmp_path / "home2", step=step, moment=moment) == -9
    assert not (tmp_path / "broken" / stage).exists()
    assert run(recipe, tmp_path / "broken", tmp_path / "home2") == 0
    expected, found = weights(tmp_path / "whole" / stage), weights(tmp_path / "broken" / stage)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    steps = [(tmp_path / place / stage / "training_log.jsonl").read_text() for place in ("whole", "broken")]
    assert steps[0] == steps[1]
    assert [path.name for path in (tmp_path / "broken").iterdir()] == [stage]


def dsft(recipe: Recipe, out: Path, **options: Any) -> None:
    assert recipe.dsft is not None
    fixed: dict[str, Any] = {"recipe": recipe, "out": out, "progress": Progress(quiet=True), "device": "cpu"}
    rows = read_dialogues(*recipe.dsft.data, recipe=recipe).items
    train_dsft(recipe.dsft, locate(recipe.model), rows, **fixed, **options)


def broken_after(steps: int, recipe: Recipe, out: Path) -> None:
    plain = RestartPoints.save

    def save(self: RestartPoints, model: Any, optimizer: Any, done: Any) -> None:
        plain(self, model, optimizer, done)
        if len(done) == steps:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RestartPoints, "save", save)
        with pytest.raises(KeyboardInterrupt):
            dsft(recipe, out)


def points(out: Path) -> list[str]:
    return sorted(path.name for path in out.with_name(f".{out.name}-restart").iterdir())


def test_the_last_two_points_are_kept_and_none_after_the_end(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(dsft={**DSFT, **SETTINGS})
    broken_after(4, recipe, tmp_path / "out")
    assert points(tmp_path / "out") == ["00000003", "00000004"]
    dsft(recipe, tmp_path / "out")
    assert not (tmp_path / ".out-restart").exists()


@pytest.mark.parametrize("change", ["learning_rate", "no resume", "spoiled"])
def test_other_settings_never_go_on_from_a_point(make_recipe: MakeRecipe, tmp_path: Path, change: str) -> None:
    broken_after(2, make_recipe(dsft={**DSFT, **SETTINGS}), tmp_path / "out")
    sections = {**DSFT, **SETTINGS, **({"learning_rate": 2e-3} if change == "learning_rate" else {})}
    if change == "spoiled":
        for place in (tmp_path / ".out-restart").iterdir():
            (place / "state.safetensors").write_bytes(b"cut")
    recipe = make_recipe(dsft=sections)
    dsft(recipe, tmp_path / "out", **({"resume": False} if change == "no resume" else {}))
    dsft(recipe, tmp_path / "afresh")
    expected, found = weights(tmp_path / "afresh"), weights(tmp_path / "out")
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_full_disk_leaves_the_point_before(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zephyr_bench.training_runs import restart

    calls = []

    def full(folder: Path) -> None:
        calls.append(folder)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(restart, "flush_folder", full)
    with pytest.raises(UserError, match=r"No space left on device; make room and run again with --resume"):
        dsft(make_recipe(dsft={**DSFT, **SETTINGS}), tmp_path / "out")
    assert points(tmp_path / "out") == ["00000001", "00000002"]


def test_a_loss_that_is_no_number_names_step_and_rows(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zephyr_bench.trainers import dsft as stage

    recipe = make_recipe(dsft={**DSFT, "global_batch": 6, "micro_batch": 1})
    plain = stage._loss

    def spoiled(predictor: Any, rows: Any, **options: Any) -> Any:
        loss, watched = plain(predictor, rows, **options)
        return (loss * float("nan") if rows[0][0].place == "dialogue 4" else loss), watched

    monkeypatch.setattr(stage, "_loss", spoiled)
    with pytest.raises(UserError, match=r"loss is nan at step 1, in rows dialogue 4;"):
        dsft(recipe, tmp_path / "out")


def test_a_diverging_loss_stops(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(dsft={**DSFT, "learning_rate": 50.0, "epochs": 30, "warmup_ratio": 0.0, "max_grad_norm": 1e6})
    with pytest.raises(UserError, match=r"at the first: it diverges|gradient norm is|loss is (nan|inf)"):
        dsft(recipe, tmp_path / "out")


def test_pairs_are_named_by_their_id(make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zephyr_bench.trainers import ddpo as stage
    from zephyr_bench.training_data.reading import read_pairs

    write_jsonl(tmp_path / "named.jsonl", [{**row, "prompt_id": f"p{n}"} for n, row in enumerate(PAIRS)])
    recipe = make_recipe(ddpo={**DDPO, "data": [{"file": "named.jsonl"}], "global_batch": 6})
    assert recipe.ddpo is not None
    pairs = read_pairs(*recipe.ddpo.data, recipe=recipe).items
    plain = stage.preference_loss

    def spoiled(*args: Any, **options: Any) -> Any:
        loss, watched = plain(*args, **options)
        return loss * float("inf"), watched

    monkeypatch.setattr(stage, "preference_loss", spoiled)
    with pytest.raises(UserError, match=r"in rows p\d(, p\d){5};"):
        stage.train_ddpo(
            recipe.ddpo, locate(recipe.model), pairs, recipe=recipe, out=tmp_path / "out", progress=Progress(quiet=True)
        )


def test_steps_tell_margins_and_accuracies(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    from tiny_training import ddpo, log_of

    ddpo(make_recipe(ddpo={**DDPO, "epochs": 5}), tmp_path / "out")
    log = log_of(tmp_path / "out")
    assert abs(log[0]["watched"]["margin"]) < 1e-4
    assert log[-1]["watched"]["margin"] > 0
    assert log[-1]["watched"]["accuracy"] == 1.0
