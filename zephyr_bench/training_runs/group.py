"""The processes that train one model: what they tell each other, and who computes which items.

Gradients travel by DDP, or by FSDP2, where each process keeps a part of weights, gradients and the optimiser's states.
Knows no loss, no file and no data; parallel.py brings processes together.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

from zephyr_bench.engines.launch import Launch, own_device
from zephyr_bench.engines.loading import free_memory, resolve_device

T = TypeVar("T")


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
