"""One training by all processes of a launch: DDP, or FSDP2 where `accelerate launch` asks for it.

In: a function that trains, and what it needs. Rank 0 calls the others to run it too (engines/helper.py); each gets a
Group (group.py). What goes wrong in one ends all, with its sentence. Knows no loss, no file and no data.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread
from typing import Any, TypeVar

from zephyr_bench.engines.board import Board, LostContact
from zephyr_bench.engines.data_parallel import current_crew
from zephyr_bench.engines.launch import Launch, in_shards
from zephyr_bench.errors import ServiceError, UserError, ZephyrBenchError, first_line
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Recipe
from zephyr_bench.training_runs.group import ALONE, Group

T = TypeVar("T")
_PATIENCE = timedelta(days=1)  # rank 0 may evaluate meanwhile; who has died is known by the launcher, not by silence
_LOOK_SECONDS = 0.5
_GRACE_SECONDS = 5.0  # to leave what waits for a process that failed


class _Silent(Progress):
    """Of the processes that don't talk."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.bars = False

    def warn(self, message: str) -> None:
        pass


SILENT = _Silent()


def together(function: Callable[..., T], **own: Any) -> T:
    """`function(group=group, **own)`, run by all processes of the launch at once; what it gives to rank 0.

    The function is sent to the others, so it is of a module, or a `partial` of one; `own` is rank 0's, they take the
    defaults. Raises what it raises in any process.
    """
    crew = current_crew()
    if crew is None:
        return function(group=ALONE, **own)
    with crew.joined() as number, _minded(crew.launch, number) as failure:
        try:
            with _group(crew.launch, number) as group:
                return group.agreed(function)(group=group, **own)
        except ZephyrBenchError:
            raise
        except Exception as error:
            if told := failure():
                raise told from None
            if _is_lost(error):
                raise _lost(error) from None
            raise


def join(launch: Launch, board: Board, number: int) -> None:
    """The others' side of `together`. What goes wrong is told to rank 0."""
    try:
        with _group(launch, number) as group:
            group.agreed(_nothing)(group=group)
    except LostContact:
        raise
    except Exception as error:  # noqa: BLE001 whatever it is, rank 0 must not wait for this process
        if _is_lost(error):
            error = _lost(error)
        if isinstance(error, ZephyrBenchError):
            by, message = ("user" if isinstance(error, UserError) else "service"), str(error)
        else:
            traceback.print_exc()
            by = "service"
            message = f"failed ({type(error).__name__}: {first_line(error)}); run the same command again to go on."
        told = json.dumps({"by": by, "message": f"process {launch.rank} of this launch: {message}"})
        if board.count(f"failures/{number}") == 1:  # the first is the cause of the others
            board.put(f"failed/{number}", told.encode())
        _leave()


def _nothing(*, group: Group) -> None:
    """Stands for what rank 0 sends."""


def unfit_launch(recipe: Recipe, environment: Mapping[str, str] = os.environ) -> Iterator[str]:
    """What the launcher was told and training can't do, a sentence each."""
    asked = {name for name, value in environment.items() if value.lower() in ("true", "1")}
    for name, what in (("DEEPSPEED", "DeepSpeed"), ("MEGATRON_LM", "Megatron-LM"), ("PARALLELISM_CONFIG", "that")):
        if f"ACCELERATE_USE_{name}" in asked:
            yield f"training runs under DDP or FSDP2, not under {what}: see trainers/launch/ for launch configs"
    if not in_shards(environment):
        return
    if environment.get("FSDP_VERSION", "1") != "2":
        yield "training is sharded by FSDP2 only: set fsdp_version: 2 in the launch config"
    if "FSDP_OFFLOAD_PARAMS" in asked:
        yield "weights can't be kept on the CPU in training: set fsdp_offload_params: false in the launch config"
    if "FSDP_ACTIVATION_CHECKPOINTING" in asked:
        yield "the recipe says what is computed twice: set gradient_checkpointing there, not in the launch config"
    for name, stage in recipe.training:
        if stage.optimizer == "paged_adamw_32bit":
            yield f"optimizer paged_adamw_32bit of {name} can't be sharded: set it to adamw, or launch with DDP"
        if stage.lora and stage.lora.quantize:
            yield f"4-bit weights of {name} can't be sharded: set lora.quantize to null, or launch with DDP"


@contextmanager
def _group(launch: Launch, number: int) -> Iterator[Group]:
    """torch.distributed, for one call. Left as it is after a failure: the process is about to end."""
    import torch
    from torch.distributed import destroy_process_group, init_process_group

    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"  # else transformers gives rank 1 and higher empty weights
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    store = Board(launch).named(f"join/{number}")
    init_process_group(backend, store=store, rank=launch.rank, world_size=launch.world, timeout=_PATIENCE)
    group = Group(launch, sharded=in_shards())
    yield group
    group.all(None)  # nobody leaves while another still sends
    group.drop_model()
    destroy_process_group()


def _leave() -> None:
    """Ends this process's part of the group, so that those who wait for it learn of it."""
    from torch.distributed import destroy_process_group, is_initialized

    if is_initialized():
        destroy_process_group()


@contextmanager
def _minded(launch: Launch, number: int) -> Iterator[Callable[[], ZephyrBenchError | None]]:
    """Gives a function that waits a moment for what another process told of its failure.

    Where this one can't be woken from waiting for the other (NCCL), it is ended with the same sentence.
    """
    over, failed = Event(), Event()
    found: list[ZephyrBenchError] = []

    def mind() -> None:
        try:
            board = Board(launch)
            while not over.wait(_LOOK_SECONDS):
                if board.has(f"failed/{number}"):
                    told = json.loads(board.read(f"failed/{number}"))
                    found.append((UserError if told["by"] == "user" else ServiceError)(told["message"]))
                    break
        except LostContact:
            pass
        finally:
            failed.set()
        if found and not over.wait(_GRACE_SECONDS):
            sys.stderr.write(f"error: {found[0]}\n")
            sys.stderr.flush()
            os._exit(found[0].exit_code)

    def failure() -> ZephyrBenchError | None:
        failed.wait(_GRACE_SECONDS)
        return found[0] if found else None

    Thread(target=mind, daemon=True).start()
    try:
        yield failure
    finally:
        over.set()


def _is_lost(error: Exception) -> bool:
    """Whether it says that another process is gone: torch has no one class for that."""
    from torch.distributed import DistError

    told = str(error).lower()
    return isinstance(error, DistError) or "gloo" in told or "connection closed by peer" in told


def _lost(error: Exception) -> ServiceError:
    return ServiceError(
        f"another process of this launch has died ({first_line(error)}); what was done is stored, run the same command "
        "again to go on."
    )
