"""Two processes train as one does: under DDP, and under FSDP2 as `accelerate launch` asks for it by the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny_data import DDPO, DSFT

from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.pipeline.training import train_stages
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Recipe
from zephyr_bench.store import Store
from zephyr_bench.training_runs.group import dealt
from zephyr_bench.training_runs.parallel import unfit_launch

MakeRecipe = Callable[..., Recipe]
ONE = [sys.executable, "-m", "zephyr_bench"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
TWO = [*TORCHRUN, "-m", "zephyr_bench"]
DDP: dict[str, str] = {}
FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
BOTH = pytest.mark.parametrize("kind", [DDP, FSDP], ids=["ddp", "fsdp2"])
# six rows in batches of five and one: of the five, two processes run two and one passes, of the one a single one
UNEVEN = {"global_batch": 5, "micro_batch": 1}
LORA = {"rank": 4, "alpha": 8}
LAUNCH = Path(__file__).parents[3] / "trainers" / "launch"


def environment(home: Path, kind: dict[str, str]) -> dict[str, str]:
    own = {"XDG_CACHE_HOME": str(home / "cache"), "XDG_DATA_HOME": str(home / "data"), "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **own, "OMP_NUM_THREADS": "1", **kind}


def command(launch: list[str], recipe: Recipe, out: Path) -> list[str]:
    words = ["train", "--recipe", str(recipe.folder / "tiny.yaml"), "--output", str(out), "--device", "cpu"]
    return [*launch, *words, "--store", f"sqlite:///{out}.db"]


def run(launch: list[str], recipe: Recipe, out: Path, kind: dict[str, str] = DDP) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(launch, recipe, out),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=environment(out.with_name(f"home-{out.name}"), kind),
    )


def check_run(launch: list[str], recipe: Recipe, out: Path, kind: dict[str, str] = DDP) -> str:
    done = run(launch, recipe, out, kind)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{stage}\t{out / stage}" for stage in recipe.stages]
    return done.stderr


def alone(recipe: Recipe, out: Path) -> None:
    with Store("sqlite://") as store:
        train_stages(recipe, EngineOptions(device="cpu"), store=store, out=out, progress=Progress(quiet=True))


def steps_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "training_log.jsonl").read_text().splitlines()]


def check_same(found: Path, expected: Path, *, rel: float = 1e-5, weights: float = 1e-5) -> None:
    """The same steps and weights, to rounding."""
    ours, theirs = steps_of(found), steps_of(expected)
    assert [step["step"] for step in ours] == [step["step"] for step in theirs]
    for one, other in zip(ours, theirs, strict=True):
        for name in ("loss", "grad_norm", "learning_rate", "tokens"):
            assert one[name] == pytest.approx(other[name], rel=rel, abs=1e-6), f"{name} of step {one['step']}"
        for name in ("watched", "look"):
            shown, known = one.get(name, {}), other.get(name, {})
            assert shown == pytest.approx(known, rel=rel, abs=1e-4), f"{name} of step {one['step']}"
    (file,) = (path.name for path in expected.glob("*.safetensors"))
    made, wanted = load_file(found / file), load_file(expected / file)
    assert made.keys() == wanted.keys()
    for name, part in wanted.items():
        assert float((made[name] - part).abs().max()) <= weights, name


def test_two_processes_train_as_one(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(dsft={**DSFT, **UNEVEN})
    alone(recipe, tmp_path / "one")
    told = check_run(TWO, recipe, tmp_path / "two", FSDP)
    check_same(tmp_path / "two" / "dsft", tmp_path / "one" / "dsft")
    assert told.count("6 dialogues from") == 1, "one process talks"
    assert json.loads((tmp_path / "two" / "dsft" / "lineage.json").read_text())["hardware"]["device"] == "2 x cpu"


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"gradient_checkpointing": "selective"},
        {"gradient_checkpointing": True},
        {"optimizer": "rmsprop", "micro_batch": 2, "learning_rate": 1e-4},
        {"lora": LORA},
        {"lora": LORA, "gradient_checkpointing": "selective"},
    ],
    ids=["plain", "selective", "recomputed", "rmsprop", "lora", "lora-selective"],
)
def test_every_stage_is_trained_as_by_one(
    make_recipe: MakeRecipe, tmp_path: Path, kind: dict[str, str], more: dict[str, Any]
) -> None:
    held_out = {"held_out_every": 1}
    recipe = make_recipe(
        dsft={**DSFT, **UNEVEN, **more, "held_out": {"file": "dialogues.jsonl"}, **held_out},
        ddpo={**DDPO, **UNEVEN, **more, "held_out": {"file": "pairs.jsonl"}, **held_out},
    )
    alone(recipe, tmp_path / "one")
    check_run(TWO, recipe, tmp_path / "two", kind)
    for stage in recipe.stages:
        check_same(tmp_path / "two" / stage, tmp_path / "one" / stage)


@pytest.mark.slow
@BOTH
def test_in_bfloat16_it_is_as_by_one_to_its_rounding(
    make_recipe: MakeRecipe, tmp_path: Path, kind: dict[str, str]
) -> None:
    recipe = make_recipe(dsft={**DSFT, **UNEVEN, "dtype": "bfloat16"})
    alone(recipe, tmp_path / "one")
    check_run(TWO, recipe, tmp_path / "two", kind)
    check_same(tmp_path / "two" / "dsft", tmp_path / "one" / "dsft", rel=2e-3, weights=1e-4)


def children(launcher: subprocess.Popen[str]) -> dict[int, psutil.Process]:
    return {int(child.environ().get("RANK", 0)): child for child in psutil.Process(launcher.pid).children()}


def broken(recipe: Recipe, out: Path, kind: dict[str, str], *, steps: int) -> None:
    """Killed once that many steps are kept."""
    home = out.with_name(f"home-{out.name}")
    launcher = subprocess.Popen(
        command(TWO, recipe, out),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(home, kind),
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list(out.glob(f".*-restart/{steps:08d}")):
        assert launcher.poll() is None, launcher.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.001)
    processes = [psutil.Process(launcher.pid), *children(launcher).values()]
    for process in processes:
        process.kill()
    launcher.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, LORA], ids=["all", "lora"])
@pytest.mark.parametrize(
    ("first", "then", "launch"),
    [(DDP, DDP, TWO), (FSDP, FSDP, TWO), (FSDP, DDP, ONE), (DDP, FSDP, TWO)],
    ids=["ddp-ddp", "fsdp2-fsdp2", "fsdp2-one", "ddp-fsdp2"],
)
def test_a_killed_training_goes_on(
    make_recipe: MakeRecipe,
    tmp_path: Path,
    lora: dict[str, Any] | None,
    first: dict[str, str],
    then: dict[str, str],
    launch: list[str],
) -> None:
    recipe = make_recipe(ddpo={**DDPO, **UNEVEN, "lora": lora, "save_minutes": 0, "epochs": 8})
    alone(recipe, tmp_path / "one")
    broken(recipe, tmp_path / "two", first, steps=3)
    assert not (tmp_path / "two" / "ddpo").exists()
    told = check_run(launch, recipe, tmp_path / "two", then)
    assert "going on after step" in told
    check_same(tmp_path / "two" / "ddpo", tmp_path / "one" / "ddpo", rel=1e-3)


# a launch in which one process fails at the second step
FAILING = """
import os, sys, time
from zephyr_bench import cli
from zephyr_bench.errors import UserError
from zephyr_bench.trainers import dsft

rank, how, plain, passes = int(sys.argv.pop(1)), sys.argv.pop(1), dsft._loss, []

def loss(*args, **options):
    passes.append(1)
    if int(os.environ["RANK"]) == rank and len(passes) == 4:
        if how == "user":
            raise UserError("the disk is full.")
        if how == "stuck":
            time.sleep(600)
        raise ValueError("no such thing")
    return plain(*args, **options)

dsft._loss = loss
cli.main()
"""


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize(
    ("rank", "how", "sentence", "code"),
    [
        (0, "user", "error: the disk is full.", 2),
        (1, "user", "error: process 1 of this launch: the disk is full.", 2),
        (1, "other", "error: process 1 of this launch: failed (ValueError: no such thing); run the same", 4),
    ],
)
def test_whichever_process_fails_all_end_with_one_sentence(
    make_recipe: MakeRecipe, tmp_path: Path, kind: dict[str, str], rank: int, how: str, sentence: str, code: int
) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    started = time.monotonic()
    done = run(
        [*TORCHRUN, str(tmp_path / "failing.py"), str(rank), how],
        make_recipe(dsft={**DSFT, **UNEVEN}),
        tmp_path / "out",
        kind,
    )
    assert time.monotonic() - started < 60
    assert done.stdout == ""
    assert [line for line in done.stderr.splitlines() if line.startswith("error:")] == [
        line for line in done.stderr.splitlines() if line.startswith(sentence)
    ]
    assert done.stderr.count(sentence) == 1, done.stderr
    assert f"exitcode  : {code}" in done.stderr  # rank 0's, in torchrun's words


@pytest.mark.slow
def test_a_process_that_is_killed_ends_all(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    words = command(
        [*TORCHRUN, str(tmp_path / "failing.py"), "1", "stuck"],
        make_recipe(dsft={**DSFT, **UNEVEN, "save_minutes": 0}),
        tmp_path / "out",
    )
    launcher = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(tmp_path / "home", FSDP), text=True
    )
    while not list((tmp_path / "out").glob(".*-restart/00000001")):
        assert launcher.poll() is None, launcher.communicate()[1]
        time.sleep(0.01)
    processes = children(launcher)
    time.sleep(0.5)  # rank 0 waits for rank 1
    processes[1].kill()
    out, err = launcher.communicate(timeout=60)
    assert out == ""
    assert len([line for line in err.splitlines() if line.startswith("error:")]) == 1, err
    assert "another process of this launch has died" in err
    assert "exitcode  : 4" in err
    assert not any(process.is_running() for process in processes.values())


# a launch in which rank 1 is gone before it is called to train; `how`: before its first sign of life, or after
GONE = """
import os, sys, threading, time
from zephyr_bench import cli
from zephyr_bench.engines import data_parallel, helper

data_parallel._SILENT, data_parallel._NOT_BEGUN = 3, 3
how = sys.argv.pop(1)
if os.environ["RANK"] == "1":
    if how == "before":
        os._exit(0)
    helper._Helper.work = lambda self: os._exit(0)
cli.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "told"),
    [("before", "process 1 of this launch has not begun"), ("after", "process 1 of this launch has died or hangs")],
)
def test_a_process_that_ends_before_it_joins_is_not_waited_for(
    make_recipe: MakeRecipe, tmp_path: Path, how: str, told: str
) -> None:
    """With exit code 0, which a launcher takes for well."""
    (tmp_path / "gone.py").write_text(GONE)
    done = run([*TORCHRUN, str(tmp_path / "gone.py"), how], make_recipe(dsft=DSFT), tmp_path / "out")
    assert [line for line in done.stderr.splitlines() if line.startswith("error:")] == [
        line for line in done.stderr.splitlines() if line.startswith(f"error: {told}")
    ]
    assert done.stderr.count(told) == 1, done.stderr
    assert "exitcode  : 4" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_accelerate_launches_both(make_recipe: MakeRecipe, tmp_path: Path, name: str) -> None:
    recipe = make_recipe(dsft={**DSFT, **UNEVEN})
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(LAUNCH / f"{name}.yaml")]
    alone(recipe, tmp_path / "one")
    check_run([*launch, "--num_processes", "2", "-m", "zephyr_bench"], recipe, tmp_path / "two")
    check_same(tmp_path / "two" / "dsft", tmp_path / "one" / "dsft")


@pytest.mark.slow
@BOTH
def test_what_two_train_they_evaluate_in_the_midst_and_after(
    make_recipe: MakeRecipe, model_dir: Path, tmp_path: Path, kind: dict[str, str]
) -> None:
    recipe = make_recipe(
        model=str(model_dir),
        dsft={**DSFT, **UNEVEN, "evaluate_every": 2},
        evaluate=[{"benchmark": "open-llm-mini", "limit": 4}],
        evaluate_models=["dsft"],
    )
    rows = []
    for name, launch in {"one": ONE, "two": TWO}.items():
        words = command(launch, recipe, tmp_path / name)
        words[words.index("train")] = "train-and-eval"
        done = subprocess.run(
            [*words, "--format", "json"],
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
            env=environment(tmp_path / f"home-{name}", kind if name == "two" else DDP),
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / name / "dsft-curve.csv").exists()
        found = json.loads(done.stdout)
        rows.append({(row["model"], row["metric"]): row["value"] for row in found})
    assert rows[0]
    assert rows[1] == pytest.approx(rows[0], abs=1e-3)


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=40), rows=st.integers(1, 5), world=st.integers(1, 5))
def test_each_item_is_run_once_and_all_run_equally_often(lengths: list[int], rows: int, world: int) -> None:
    batch = list(enumerate(lengths))
    passes = list(dealt(batch, rows=rows, world=world, length=lambda item: item[1]))
    assert sorted(item for parts in passes for part in parts for item in part) == batch
    assert all(len(parts) == world and max(map(len, parts)) <= rows for parts in passes)
    assert all(part for parts in passes[:-1] for part in parts), "only in the last may one have nothing"
    assert len(passes) == -(-len(batch) // (rows * world))


def test_long_items_are_spread_over_processes() -> None:
    (parts,) = dealt([9, 1, 5, 5, 2, 2], rows=3, world=2, length=lambda length: length)
    assert [sum(part) for part in parts] == [12, 12]


def test_alone_an_item_runs_beside_those_of_like_length() -> None:
    passes = list(dealt([3, 1, 4, 1, 5], rows=2, world=1, length=lambda length: length))
    assert passes == [[[5, 4]], [[3, 1]], [[1]]]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, []),
        (FSDP, []),
        ({**FSDP, "FSDP_VERSION": "1"}, ["fsdp_version: 2"]),
        ({**FSDP, "FSDP_OFFLOAD_PARAMS": "true"}, ["fsdp_offload_params: false"]),
        ({**FSDP, "FSDP_ACTIVATION_CHECKPOINTING": "true"}, ["set gradient_checkpointing there"]),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, ["not under DeepSpeed"]),
    ],
)
def test_what_a_launch_config_asks_in_vain_is_told(
    make_recipe: MakeRecipe, asked: dict[str, str], told: list[str]
) -> None:
    found = list(unfit_launch(make_recipe(dsft=DSFT), asked))
    assert len(found) == len(told)
    assert all(part in sentence for part, sentence in zip(told, found, strict=True))


def test_what_can_not_be_sharded_is_told(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(dsft={**DSFT, "optimizer": "paged_adamw_32bit", "lora": {**LORA, "quantize": "nf4"}})
    assert len(list(unfit_launch(recipe, FSDP))) == 2
    assert not list(unfit_launch(recipe, DDP))
