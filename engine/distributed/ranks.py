"""What the ranks of a run tell each other, on the CPU: no message waits for a device, or is in NCCL's order."""

import atexit
import os
import pickle
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from finetui.engine.distributed.heartbeat import Heartbeat
from finetui.engine.distributed.rank_info import RankInfo, rank_info_from
from finetui.engine.distributed.rendezvous import rendezvous_store
from finetui.engine.errors import BadInput, FinetuiError

_POLL = 0.02  # seconds between two looks at whether rank 0 is done
TIMEOUT = 600.0  # seconds that a rank waits for another one
_T = TypeVar("_T")
_P = ParamSpec("_P")


def _waits(method: Callable[Concatenate["Ranks", _P], _T]) -> Callable[Concatenate["Ranks", _P], _T]:
    """Count the time that `method` takes as waited for the other ranks."""

    @wraps(method)
    def timed(self: "Ranks", /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        if self.world == 1:
            return method(self, *args, **kwargs)
        began = time.perf_counter()
        try:
            return method(self, *args, **kwargs)
        finally:
            self.waited += time.perf_counter() - began

    return timed


class Ranks:
    """The processes that train one run together, seen from the one that `info` tells of.

    All of them must call the same methods in the same order; each waits for the others. With a `world` of 1 every
    method is the identity, and costs nothing. Between `open` and `close` there are two groups: one for gradients and
    other tensors on the device, and one of Gloo's for everything here. `timeout` is in seconds.
    """

    def __init__(self, info: RankInfo = RankInfo(), timeout: float = TIMEOUT) -> None:  # noqa: B008  # immutable
        self.info = info
        self.rank, self.world = info.rank, info.world
        self.local_rank, self.node = info.local_rank, info.node
        self.is_first = info.is_first
        self._timeout = timedelta(seconds=timeout)
        self._side: dist.ProcessGroup | None = None
        self._met = 0  # counts how often all ranks waited for all
        self.waited = 0.0  # seconds in messages, those of gradients apart
        self.heartbeat: Heartbeat | None = None  # of who is still there, where somebody has entered one
        self.on_folder: Callable[[Path], None] = lambda _folder: None  # called on all, once the run has its folder
        self._opened = False  # by us: what a person's own script has opened stays open

    @classmethod
    def from_environment(cls) -> "Ranks":
        """Return those that torchrun's variables tell of, and a single one without them. Raises `BadInput`."""
        info = rank_info_from()
        if info.world == 1:
            return SINGLE
        given = os.environ.get("FINETUI_RANKS_TIMEOUT", "")
        try:
            return cls(info, float(given) if given else TIMEOUT)
        except (ValueError, OverflowError):
            raise BadInput(f"FINETUI_RANKS_TIMEOUT must be a number of seconds, not {given!r}") from None

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
                store = rendezvous_store(self.info, self._timeout.total_seconds())
                dist.init_process_group(
                    backend, store=store, rank=self.rank, world_size=self.world, timeout=self._timeout, device_id=own
                )
                self._opened = True
                atexit.register(self.close)
            if (dist.get_rank(), dist.get_world_size()) != (self.rank, self.world):
                raise BadInput("the existing process group does not match RANK and WORLD_SIZE")
            side = dist.new_group(backend="gloo", timeout=self._timeout)
            assert isinstance(side, dist.ProcessGroup), "all ranks belong to it"
            self._side = side
        except (RuntimeError, ValueError) as error:
            raise FinetuiError(f"the {self.world} ranks could not connect: {error}") from error

    def close(self) -> None:
        """Leave the others."""
        if self._opened and dist.is_initialized():
            dist.destroy_process_group()
        self._side, self._opened = None, False

    def lost(self, error: Exception) -> str | None:
        """Return which rank is gone and why, where that is what `error` came from; None where it is not."""
        return self.heartbeat.reason(error) if self.heartbeat is not None else None

    def share(self, compute: Callable[[], _T]) -> _T:
        """Return what `compute` returns on rank 0, on all; it is called there only.

        A `FinetuiError` is raised on all; anything else as it is on rank 0, and as a `FinetuiError` on the others.
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

    @_waits
    def share_flag(self, flag: bool) -> bool:
        """Return the `flag` of rank 0, on all."""
        if self.world == 1:
            return flag
        tensor = torch.tensor([flag], dtype=torch.int64)
        dist.broadcast(tensor, 0, group=self._side)
        return bool(tensor)

    @_waits
    def any_flag(self, flag: bool) -> bool:
        """Return whether the `flag` of any rank is True, on all."""
        if self.world == 1:
            return flag
        tensor = torch.tensor([flag], dtype=torch.int64)
        dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self._side)
        return bool(tensor)

    @_waits
    def gather(self, value: _T) -> list[_T]:
        """Return every rank's `value`, which can be pickled, by rank, on all."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value, group=self._side)
        return found

    @_waits
    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Return the sum of every rank's `tensor`, on all; it is computed in place, on the tensor's device."""
        if self.world > 1:
            dist.all_reduce(tensor, group=self._side if tensor.device.type == "cpu" else None)
        return tensor

    @_waits
    def largest(self, tensor: Tensor) -> Tensor:
        """Return the largest of every rank's numbers in `tensor`, on the CPU, on all; it is computed in place."""
        if self.world > 1:
            dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self._side)
        return tensor

    def begin_gather(self, numbers: Sequence[float]) -> Callable[[], list[list[float]]]:
        """Start to tell the others some `numbers`, as many on each rank; what is returned waits for those of all."""
        if self.world == 1:
            return lambda: [list(numbers)]
        own = torch.tensor(numbers, dtype=torch.float64)
        found = [torch.empty_like(own) for _ in range(self.world)]
        work = dist.all_gather(found, own, group=self._side, async_op=True)

        def wait() -> list[list[float]]:
            assert work is not None, "it was begun, and not done at once"
            began = time.perf_counter()
            work.wait()
            self.waited += time.perf_counter() - began
            return [numbers.tolist() for numbers in found]

        return wait

    @_waits
    def send_note(self, flags: int, note: bytes) -> tuple[int, bytes]:
        """Return the small number `flags` and the `note` of rank 0, on all: what a step boundary costs."""
        head = torch.tensor([flags, len(note)], dtype=torch.int64)
        dist.broadcast(head, 0, group=self._side)
        flags, size = head.tolist()
        if not size:
            return flags, b""
        payload = torch.frombuffer(bytearray(note), dtype=torch.uint8) if note else torch.empty(size, dtype=torch.uint8)
        dist.broadcast(payload, 0, group=self._side)
        return flags, payload.numpy().tobytes()

    @_waits
    def gather_first(self, value: _T) -> list[_T] | None:
        """Return every rank's `value`, which can be pickled, by rank, on rank 0, and None on the others."""
        if self.world == 1:
            return [value]
        found: list[Any] | None = [None] * self.world if self.is_first else None
        dist.gather_object(value, found, dst=0, group=self._side)
        return found

    def spread(self, tensor: Tensor) -> None:
        """Give `tensor`, on any device, the numbers that it has on rank 0."""
        if self.world > 1:
            dist.broadcast(tensor, 0)

    def alone(self, work: Callable[[], None]) -> None:
        """Do `work` on rank 0; the others wait for however long it takes, which no time-out ends."""
        try:
            if self.is_first:
                work()
        finally:
            self.wait_for_all()

    def wait_for_all(self) -> None:
        """Wait until all ranks are here, for however long it takes: no time-out ends it."""
        if self.world == 1:
            return
        # Not a collective: these time out, and a data set may take an hour to come.
        store, key = dist.distributed_c10d._get_default_store(), f"finetui/here/{self._met}"
        self._met += 1
        here = store.add(key, 1)
        while here < self.world:
            time.sleep(_POLL)
            here = store.add(key, 0)

    def cause(self, reason: str) -> str:
        """Return why the run failed, where this rank failed for `reason`: the first failure caused the others."""
        if self.world == 1 or not dist.is_initialized():
            return reason
        store = dist.distributed_c10d._get_default_store()
        try:
            # Of one session: another one in the same processes has waited for all more often.
            if store.add(f"finetui/failures/{self._met}", 1) == 1:
                store.set(f"finetui/failure/{self._met}", f"rank {self.rank} failed: {reason}")
                return reason
            first = store.get(f"finetui/failure/{self._met}").decode()
            return reason if first.endswith(f" failed: {reason}") else first  # what failed on all alike is of no rank
        except (RuntimeError, ValueError):  # whoever held the store is gone
            return reason

    @_waits
    def barrier(self) -> None:
        """Wait until all ranks are here."""
        if self.world > 1:
            dist.barrier(group=self._side)

    def _send(self, value: object) -> None:
        payload = torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8)
        dist.broadcast(torch.tensor([len(payload)]), 0, group=self._side)
        dist.broadcast(payload, 0, group=self._side)

    @_waits
    def _received(self, source: int) -> Any:
        size = torch.zeros(1, dtype=torch.int64)
        dist.broadcast(size, source, group=self._side)
        payload = torch.empty(int(size), dtype=torch.uint8)
        dist.broadcast(payload, source, group=self._side)
        return pickle.loads(payload.numpy().tobytes())


SINGLE = Ranks()
