"""Several processes of one launch, as torchrun and `accelerate launch` start them: which of them this one is.

In: the environment that the launcher gives. Out: a Launch. Imports no torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from zephyr_bench.errors import UserError


@dataclass(frozen=True)
class Launch:
    """One process among `world`; rank 0 is the program, the others help it."""

    rank: int
    world: int
    local_rank: int  # among those on this machine: which GPU is its own
    host: str
    port: int  # where the processes find each other
    kept_by_launcher: bool  # a store listens there already; else rank 0 opens it
    attempt: str = "0"  # torchrun starts all again with --max-restarts, and keeps its store


def launched(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """None for a process that was started alone."""
    try:
        rank, world = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        host, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
        local_rank = int(environment.get("LOCAL_RANK", rank))
    except (KeyError, ValueError):
        return None
    if world < 2:
        return None
    kept = environment.get("TORCHELASTIC_USE_AGENT_STORE") == str(True)
    return Launch(rank, world, local_rank, host, port, kept, environment.get("TORCHELASTIC_RESTART_COUNT", "0"))


def in_shards(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether `accelerate launch` was told to share out a model's states among the processes (FSDP)."""
    return environment.get("ACCELERATE_USE_FSDP", "").lower() in ("true", "1")


def idle_others(launch: Launch, what: str) -> str:
    """The sentence for work that only rank 0 can do."""
    others = f"the other {launch.world - 1} of this launch have" if launch.world > 2 else "the other has"
    return f"{what} runs in one process; {others} nothing to do\n"


def own_device(device: str, launch: Launch) -> str:
    """What --device means to this process. Raises UserError for one GPU named for all of them."""
    if device.startswith("cuda:"):
        raise UserError(
            f"--device {device}: names one GPU, and {launch.world} processes run; leave --device out, so that each "
            "takes its own, and choose among the GPUs by CUDA_VISIBLE_DEVICES."
        )
    if device == "auto":
        from zephyr_bench.engines.loading import resolve_device

        device = resolve_device(device)
    return f"cuda:{launch.local_rank}" if device == "cuda" else device
