"""One training by all processes of a launch: DDP, or FSDP2 where `accelerate launch` asks for it.

In: a function that trains, and what it needs. Rank 0 calls the others to run it too (engines/helper.py); each gets a
Group. Knows no loss, no file and no data: who computes which items, and what the processes tell each other.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from threading import Event, Thread
from typing import Any, TypeVar

from zephyr_bench.engines.board import Board, LostContact
from zephyr_bench.engines.data_parallel import current_crew
from zephyr_bench.engines.launch import Launch, in_shards, own_device
from zephyr_bench.engines.loading import free_memory, resolve_device
from zephyr_bench.errors import ServiceError, UserError, ZephyrBenchError, first_line
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Recipe

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


class Group:
    """The processes that train one model, as one of them sees it. All make the same calls in the same order."""

    def __init__(self, launch: Launch | None = None, *, sharded: bool = False) -> None:
        """`sharded`: each keeps a part of weights, gradients and the optimiser's states (FSDP2)."""
        self._launch = launch
        self._spread: Any = None
        self.rank = launch.rank if launch else 0
        self.world = launch.world if launch else 1
        self.sharded = sharded

    def device(self, device: str) -> str:
        """What --device means to this process."""
        if self._launch is None:
            return device
        own = resolve_device(own_device(device, self._launch))
        if own.startswith("cuda"):
            import torch

            torch.cuda.set_device(self._launch.local_rank)
        return own

    def all(self, value: T) -> list[T]:
        """What each process says, by rank."""
        if self.world == 1:
            return [value]
        from torch.distributed import all_gather_object

        found: list[Any] = [None] * self.world
        all_gather_object(found, value)
        return found

    def agreed(self, value: T) -> T:
        """What rank 0 says."""
        if self.world == 1:
            return value
        from torch.distributed import broadcast_object_list

        box = [value]
        broadcast_object_list(box, src=0)
        return box[0]

    def spread(self, forward: Any) -> Any:
        """The module that runs forward passes, in such a way that gradients are the mean of all processes' passes."""
        if self.world == 1:
            return forward
        if self.rank:
            import torch

            torch.manual_seed(torch.initial_seed() + self.rank)  # dropout differs
        if self.sharded:
            self._spread = _sharded(forward, self.world)
        else:
            from torch.nn.parallel import DistributedDataParallel

            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 has another name for broadcast_buffers
                self._spread = DistributedDataParallel(forward, broadcast_buffers=False, gradient_as_bucket_view=True)
        return self._spread

    def drop_model(self) -> None:
        """What spreads a model refers to itself, and would keep it while others are loaded."""
        import torch

        self._spread = None
        free_memory(on_gpu=torch.cuda.is_available())

    def accumulating(self, *, more: bool) -> AbstractContextManager[None]:
        """Around a pass, forward and backward: whether others of the same step follow.

        Gradients are then added up before they travel; not sharded ones, which would have to be held whole.
        """
        keep = more and self.world > 1 and not self.sharded
        return self._spread.no_sync() if keep else nullcontext()

    def whole(self, tensor: Any) -> Any:
        """All of a tensor: on the CPU where it is sharded, and then on rank 0 only; as it is elsewhere."""
        if not self.sharded or not hasattr(tensor, "full_tensor"):
            return tensor
        full = tensor.full_tensor()
        return full.cpu() if self.rank == 0 else None

    def received(self, value: Any, like: Any) -> Any:
        """Rank 0's tensor, on the device of `like`, and sharded as it is where they have one shape."""
        import torch
        from torch.distributed import broadcast

        if self.world == 1:
            return value.to(like.device)
        shape, dtype = self.agreed((value.shape, value.dtype) if self.rank == 0 else None) or ((), None)
        here = value.to(like.device) if self.rank == 0 else torch.empty(shape, dtype=dtype, device=like.device)
        if self.sharded and shape == like.shape and hasattr(like, "placements"):
            from torch.distributed.tensor import distribute_tensor

            return distribute_tensor(here, like.device_mesh, like.placements)
        broadcast(here, src=0)
        return here

    @contextmanager
    def gathered(self, model: Any) -> Iterator[None]:
        """While it lasts rank 0's model is whole, on the CPU where it was sharded, so that it can be saved."""
        if not self.sharded:
            yield
            return
        from torch.nn import Parameter

        parts = list(model.parameters())
        found = {id(part): self.whole(part.detach()) for part in parts}  # the others take part
        if self.rank:
            yield
            return
        learn = {id(part): part.requires_grad for part in parts}
        whole = {key: Parameter(value, requires_grad=learn[key]) for key, value in found.items()}
        places = [
            (owner._parameters, name, part)
            for owner in model.modules()
            for name, part in owner._parameters.items()
            if part is not None
        ]
        try:
            for place, name, part in places:
                place[name] = whole[id(part)]
            yield
        finally:
            for place, name, part in places:
                place[name] = part


ALONE = Group()


def dealt(batch: Sequence[T], *, rows: int, world: int, length: Callable[[T], int]) -> Iterator[list[list[T]]]:
    """Passes of the model, one after the other, with each process's items: at most `rows`, in the last maybe none.

    Items of like length run at the same time, so that little is padded and nobody waits for long.
    """
    by_length = sorted(batch, key=length, reverse=True)
    for start in range(0, len(by_length), rows * world):
        parts: list[list[T]] = [[] for _ in range(world)]
        load = [0] * world
        for item in by_length[start : start + rows * world]:
            rank = min((rank for rank in range(world) if len(parts[rank]) < rows), key=load.__getitem__)
            parts[rank].append(item)
            load[rank] += length(item)
        yield parts


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


def _sharded(forward: Any, world: int) -> Any:
    """Each layer is gathered when it runs; what is outside of layers (embeddings, head, tied or not) with the whole.

    In float32, of which autocast makes what it needs. MixedPrecisionPolicy would have bfloat16 travel, which is half as
    much, and round away what the norms' weights have learned: they stay close to 1.
    """
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.set_autocast_cache_enabled(False)  # it would keep a copy of every layer that is freed
    mesh = init_device_mesh(next(forward.parameters()).device.type, (world,))
    names = {name for module in forward.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    for module in forward.modules():
        if type(module).__name__ in names:
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
    # resharded too: after a pass without gradients nothing else would do it, and weights must be found sharded
    return fully_shard(forward, mesh=mesh, reshard_after_forward=True)


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
