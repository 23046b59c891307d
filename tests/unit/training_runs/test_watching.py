"""What is seen of a training changes nothing of it, and is found again in the log, the store and TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_data import DDPO, DIALOGUES, DSFT

from zephyr_bench.engines.locate import locate
from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import DataSource, Recipe
from zephyr_bench.store import Store, Training
from zephyr_bench.trainers.ddpo import train_ddpo
from zephyr_bench.trainers.dsft import train_dsft
from zephyr_bench.training_data.reading import read_dialogues, read_pairs
from zephyr_bench.training_runs.restart import RestartPoints
from zephyr_bench.training_runs.watching import Observers

MakeRecipe = Callable[..., Recipe]
SMALL = {"global_batch": 2, "micro_batch": 1, "save_minutes": 0}
LOOKED_AT = {"held_out_every": 2}


def trained(recipe: Recipe, out: Path, *, observers: Observers | None = None, progress: Progress | None = None) -> Path:
    """The recipe's only stage, its own rows held out as well, where it asks for looks."""
    shared: dict[str, Any] = {"recipe": recipe, "out": out, "progress": progress or Progress(quiet=True)}
    shared |= {"device": "cpu", "observers": observers or Observers()}
    start = locate(recipe.model)
    if recipe.dsft:
        dialogues = read_dialogues(*recipe.dsft.data, recipe=recipe).items
        held_out = dialogues[:3] if recipe.dsft.held_out_every else ()
        train_dsft(recipe.dsft, start, dialogues, held_out=held_out, **shared)
    if recipe.ddpo:
        pairs = read_pairs(*recipe.ddpo.data, recipe=recipe).items
        train_ddpo(recipe.ddpo, start, pairs, held_out=pairs[:3], **shared)
    return out


def recipe_of(make_recipe: MakeRecipe, stage: str, **more: Any) -> Recipe:
    return make_recipe(**{stage: {**(DSFT if stage == "dsft" else DDPO), **SMALL, **more}})


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "training_log.jsonl").read_text().splitlines()]


def seen(store: Store, out: Path) -> Training:
    found = store.training(json.loads((out / "lineage.json").read_text())["stage_fingerprint"])
    assert found is not None
    return found


_PLAIN_SAVE = RestartPoints.save


def broken_at_4(self: RestartPoints, model: Any, optimizer: Any, steps: Sequence[Any]) -> None:
    """Step 4 was seen, and no restart point knows of it."""
    if len(steps) == 4:
        raise KeyboardInterrupt
    _PLAIN_SAVE(self, model, optimizer, steps)


class Evaluated:
    """Evaluations that note what they were asked, and draw random numbers while they are at it."""

    def __init__(self) -> None:
        self.models: list[tuple[str, bool]] = []

    def missing(self, stage: str, step: int) -> bool:
        return not any(name.endswith(f"@{step}") for name, _ in self.models)

    def run(self, model: ModelSource) -> None:
        torch.manual_seed(1)
        self.models.append((model.name, (Path(model.location) / "model.safetensors").is_file()))


@pytest.mark.parametrize("stage", ["dsft", "ddpo"])
def test_looks_and_evaluations_change_no_bit_of_the_result(make_recipe: MakeRecipe, tmp_path: Path, stage: str) -> None:
    plain = trained(recipe_of(make_recipe, stage), tmp_path / "plain")
    evaluations = Evaluated()
    watched = recipe_of(make_recipe, stage, **LOOKED_AT, evaluate_every=4)
    with Store("sqlite://") as store:
        out = trained(watched, tmp_path / "out", observers=Observers(store, ("tensorboard",), evaluations))
    expected, found = (load_file(place / "model.safetensors") for place in (plain, out))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert evaluations.models == [(f"tiny-{stage}@4", True)]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["out", "plain", "tensorboard"]


def test_an_evaluated_checkpoint_stays_where_the_recipe_says_so(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = recipe_of(make_recipe, "dsft", evaluate_every=4, keep_evaluated=True)
    trained(recipe, tmp_path / "out", observers=Observers(evaluations=Evaluated()))
    kept = locate(str(tmp_path / "out@4"))
    assert (kept.name, kept.lineage["steps"], kept.lineage["stage"]) == ("tiny-dsft@4", 4, "dsft")


def test_every_value_of_the_log_is_in_the_store(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    with Store("sqlite://") as store:
        out = trained(recipe_of(make_recipe, "ddpo", **LOOKED_AT), tmp_path / "out", observers=Observers(store))
        training = seen(store, out)
    log = log_of(out)
    assert (training.name, training.steps, len(log)) == ("tiny-ddpo", 6, 6)
    for name in ("loss", "learning_rate", "grad_norm", "tokens"):
        assert training.values[name] == [(step["step"], step[name]) for step in log]
    for name in ("margin", "accuracy", "log_ratio"):
        assert training.values[name] == [(step["step"], step["watched"][name]) for step in log]
    assert all(value and value > 0 for _, value in training.values["seconds"])
    for name in ("held_out/loss", "held_out/margin", "held_out/accuracy", "kl"):
        looks = [(step["step"], step["look"][name]) for step in log if step["look"]]
        assert training.values[name] == looks
        assert [step for step, _ in looks] == [2, 4, 6]


def test_a_training_that_is_taken_up_again_is_stored_once_and_logged_alike(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(make_recipe, "ddpo", **LOOKED_AT)
    with Store("sqlite://") as store:
        whole = trained(recipe, tmp_path / "whole", observers=Observers(store))
        expected = seen(store, whole)
        with monkeypatch.context() as patch:
            patch.setattr(RestartPoints, "save", broken_at_4)
            with pytest.raises(KeyboardInterrupt):
                trained(recipe, tmp_path / "out", observers=Observers(store))
        assert [step for step, _ in seen_so_far(store, expected)] == [1, 2, 3, 4]
        out = trained(recipe, tmp_path / "out", observers=Observers(store))
        found = seen(store, out)
    assert log_of(out) == log_of(whole)
    assert found.values["kl"] == expected.values["kl"]
    assert [step for step, _ in found.values["seconds"]] == [1, 2, 3, 4, 5, 6]


def seen_so_far(store: Store, like: Training) -> Sequence[tuple[int, float | None]]:
    found = store.training(like.fingerprint)
    assert found is not None
    return found.values["loss"]


def test_held_out_loss_is_the_mean_over_their_tokens(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    from zephyr_bench.trainers.forward import Predictor
    from zephyr_bench.training_data.tokens import Tree, encode_dialogue
    from zephyr_bench.training_runs.checkpoint import load_for_training

    recipe = recipe_of(make_recipe, "dsft", **LOOKED_AT)
    out = trained(recipe, tmp_path / "out")
    assert recipe.dsft is not None
    model, tokenizer = load_for_training(locate(str(out)), recipe.dsft, recipe=recipe, device="cpu")
    rows = [encode_dialogue(tokenizer, row["messages"], max_length=2048, loss_on="assistant") for row in DIALOGUES[:3]]
    with torch.no_grad():
        log_probs = Predictor(model, pad=0)([Tree(row) for row in rows]).log_probs
    assert log_of(out)[-1]["look"]["held_out/loss"] == pytest.approx(-float(log_probs.mean()), rel=1e-5)


def test_nothing_is_looked_at_unless_the_recipe_asks(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    out = trained(recipe_of(make_recipe, "ddpo"), tmp_path / "out")
    assert all(step["look"] == {} for step in log_of(out))


def test_held_out_rows_are_looked_at_once_at_the_end_by_default(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = recipe_of(make_recipe, "ddpo", held_out={"file": "pairs.jsonl", "limit": 3})
    assert recipe.ddpo is not None
    assert isinstance(recipe.ddpo.held_out, DataSource)
    log = log_of(trained(recipe, tmp_path / "out"))
    assert [bool(step["look"]) for step in log] == [False] * 5 + [True]


def test_tensorboard_reads_what_was_reported_to_it(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    recipe = recipe_of(make_recipe, "ddpo", **LOOKED_AT)
    observers = Observers(report_to=("tensorboard",))
    with monkeypatch.context() as patch:
        patch.setattr(RestartPoints, "save", broken_at_4)
        with pytest.raises(KeyboardInterrupt):
            trained(recipe, tmp_path / "out", observers=observers)
    log = log_of(trained(recipe, tmp_path / "out", observers=observers))
    (folder,) = (tmp_path / "tensorboard").iterdir()
    assert len(list(folder.iterdir())) == 2, "one file of events for each process"
    events = reading.EventAccumulator(str(folder))
    events.Reload()
    losses = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert losses == [(step["step"], pytest.approx(step["loss"], rel=1e-6)) for step in log]
    kl = [(event.step, event.value) for event in events.Scalars("train/kl")]
    assert kl == [(n, pytest.approx(log[n - 1]["look"]["kl"], rel=1e-5)) for n in (2, 4, 6)]


def test_a_package_that_report_to_needs_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from zephyr_bench.training_runs import reporting

    monkeypatch.setattr(reporting, "find_spec", lambda name: None)
    told = list(reporting.missing_reports(("tensorboard", "wandb")))
    assert told == [
        "tensorboard, for the recipe's report_to: run `pip install 'zephyr-bench[tensorboard]'`",
        "wandb, for the recipe's report_to: run `pip install 'zephyr-bench[wandb]'`",
    ]


def test_wandb_offline_writes_a_run(make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    from zephyr_bench.training_runs.reporting import missing_reports

    monkeypatch.setenv("WANDB_MODE", "offline")
    assert list(missing_reports(("wandb",))) == []
    trained(recipe_of(make_recipe, "dsft"), tmp_path / "out", observers=Observers(report_to=("wandb",)))
    (run,) = (tmp_path / "wandb").glob("offline-run-*-dsft-*")
    assert [path for path in run.glob("*.wandb") if path.stat().st_size > 1000]


def test_without_a_terminal_lines_are_plain_and_few(
    make_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(recipe_of(make_recipe, "ddpo", epochs=4), tmp_path / "out", progress=Progress())
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ddpo")]
    assert len(lines) == 3, lines  # what it trains on, the first step, the end
    assert lines[1].startswith("ddpo 1/12 8% ETA 0:0")
    assert "loss 0.693" in lines[1]
    assert lines[2].startswith("ddpo: 12 steps in 0:0")
    assert "\x1b" not in "".join(lines)


def test_quiet_says_nothing(make_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(recipe_of(make_recipe, "ddpo", **LOOKED_AT), tmp_path / "out")
    assert capsys.readouterr().err == ""
