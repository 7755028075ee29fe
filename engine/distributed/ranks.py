"""What the ranks of a run tell each other, on the CPU: no message waits for a device, or is in NCCL's order."""

import os
import pickle
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from finetui.engine.distributed.place import Place, place_from
from finetui.engine.errors import BadInput, FinetuiError

TIMEOUT = 600.0  # seconds that a rank waits for another one
_T = TypeVar("_T")


class Ranks:
    """The processes that train one run together, seen from the one at `place`.

    All of them must call the same methods in the same order; each waits for the others. With a `world` of 1 every
    method is the identity, and costs nothing. Between `open` and `close` there are two groups: one for gradients and
    other tensors on the device, and one of Gloo's for everything here. `timeout` is in seconds.
    """

    def __init__(self, place: Place = Place(), timeout: float = TIMEOUT) -> None:  # noqa: B008  # immutable
        self.place = place
        self.rank, self.world = place.rank, place.world
        self.local_rank, self.node = place.local_rank, place.node
        self.is_first = place.is_first
        self._timeout = timedelta(seconds=timeout)
        self._side: dist.ProcessGroup | None = None
        self._opened = False  # by us: what a person's own script has opened stays open

    @classmethod
    def from_environment(cls) -> "Ranks":
        """Return those that torchrun's variables tell of, and a single one without them. Raises `BadInput`."""
        place = place_from()
        return cls(place, float(os.environ.get("FINETUI_RANKS_TIMEOUT", TIMEOUT))) if place.world > 1 else SINGLE

    def open(self, device: torch.device) -> None:
        """Meet the others; `device` is the one that this rank trains on. Raises `FinetuiError` where they do not come.

        Of what is open already nothing is opened again.
        """
        if self.world == 1 or self._side is not None:
            return
        try:
            if not dist.is_initialized():
                backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
                own = device if device.type == "cuda" else None
                dist.init_process_group(backend, timeout=self._timeout, device_id=own)
                self._opened = True
            if (dist.get_rank(), dist.get_world_size()) != (self.rank, self.world):
                raise BadInput("the process group that is open already has other ranks than RANK and WORLD_SIZE say")
            self._side = dist.new_group(backend="gloo", timeout=self._timeout)
        except (RuntimeError, ValueError) as error:
            raise FinetuiError(f"the {self.world} ranks could not meet: {error}") from error

    def close(self) -> None:
        """Leave the others."""
        if self._side is not None and self._opened:
            dist.destroy_process_group()
        self._side, self._opened = None, False

    def share(self, compute: Callable[[], _T]) -> _T:
        """Return what `compute` returns on rank 0, on all; it is called there only.

        A `FinetuiError` is raised on all. Anything else is raised as it is on rank 0, and as a `FinetuiError` on the others.
        """
        if self.world == 1:
            return compute()
        if not self.is_first:
            value, error = self._received(0)
            if error is not None:
                raise error
            return value  # type: ignore[no-any-return]
        try:
            value = compute()
        except FinetuiError as error:
            self._send((None, error))
            raise
        except Exception as error:
            self._send((None, FinetuiError(f"rank 0 failed: {error}")))
            raise
        self._send((value, None))
        return value

    def share_flag(self, flag: bool) -> bool:
        """Return the `flag` of rank 0, on all."""
        if self.world == 1:
            return flag
        tensor = torch.tensor([flag], dtype=torch.int64)
        dist.broadcast(tensor, 0, group=self._side)
        return bool(tensor)

    def any_flag(self, flag: bool) -> bool:
        """Return whether the `flag` of any rank is True, on all."""
        if self.world == 1:
            return flag
        tensor = torch.tensor([flag], dtype=torch.int64)
        dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self._side)
        return bool(tensor)

    def gather(self, value: _T) -> list[_T]:
        """Return every rank's `value`, which can be pickled, by rank, on all."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value, group=self._side)
        return found

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Return the sum of every rank's `tensor`, on all; it is computed in place, on the tensor's device."""
        if self.world > 1:
            dist.all_reduce(tensor, group=self._side if tensor.device.type == "cpu" else None)
        return tensor

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        if self.world > 1:
            dist.barrier(group=self._side)

    def _send(self, value: object) -> None:
        payload = torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8)
        dist.broadcast(torch.tensor([len(payload)]), 0, group=self._side)
        dist.broadcast(payload, 0, group=self._side)

    def _received(self, source: int) -> Any:
        size = torch.zeros(1, dtype=torch.int64)
        dist.broadcast(size, source, group=self._side)
        payload = torch.empty(int(size), dtype=torch.uint8)
        dist.broadcast(payload, source, group=self._side)
        return pickle.loads(payload.numpy().tobytes())


SINGLE = Ranks()
