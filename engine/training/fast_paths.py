"""The fast paths: the same mathematics in the order, layout and number of threads that this machine does best.

Nothing here changes a loss by more than its last digits. What was chosen is kept with the run, so that it goes on, and
is replayed, by the same path, and so to the same bits.
"""

import copy
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from finetui.engine.data import Split, epoch_order
from finetui.engine.errors import BadInput, describe as describe_error, reason_of
from finetui.engine.models import ModuleGroup
from finetui.engine.models.device import preserved_rng
from finetui.engine.protocol.config import TrainingConfig
from finetui.engine.protocol.values import FastPath
from finetui.engine.training.optimizer import ParameterGroups, build_optimizer
from finetui.engine.training.precision import forward

_SECONDS = 0.15  # that comparing two paths of a small network takes; of a large one, two steps by each
_ROUNDS = 3
_WARM_UP = 3  # steps: what is allocated and chosen at the first ones is there afterwards
_BATCHES = 4
_CLEARLY = 0.95  # of another path's time: what is nearer than that, noise would decide, and not twice alike

Progress = Callable[[int, int], None]
Parts = tuple[nn.Module, Sequence[ModuleGroup]]


def plain(device: torch.device) -> FastPath:
    """Return the path of the plain loop on `device`."""
    return FastPath(threads=torch.get_num_threads() if device.type == "cpu" else 0)


def arrange(model: nn.Module, path: FastPath) -> None:
    """Let `model` lie in memory as `path` has it; its parameters stay the same objects."""
    if path.channels_last:
        model.to(memory_format=torch.channels_last)


@contextmanager
def threads_of(path: FastPath) -> Iterator[None]:
    """Let as many threads compute as `path` says, in the calling thread and for the time being."""
    before = torch.get_num_threads()
    if path.threads:
        torch.set_num_threads(path.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose(
    model: nn.Module,
    groups: Sequence[ModuleGroup],
    data: Split,
    training: TrainingConfig,
    *,
    progress: Progress = lambda _done, _total: None,
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[FastPath, str]:
    """Return the path that `training.fast` means for `model`, and a sentence on how it was found; empty for `off`.

    `model` is on the device that `data` gives its batches on. `auto` takes a few steps on copies; the random generators
    are put back, and neither the model nor the data is touched. `progress(done, total)` counts paths that were
    measured; `stopped` True ends that early. Where the copies cannot be made, or fail, it is the plain loop.
    """
    device = next(model.parameters()).device
    slow = plain(device)
    if training.fast == "off":
        return slow, ""
    wanted = [FastPath(threads=slow.threads, channels_last=_has_images(model), fused=_can_fuse(groups, training))]
    if training.fast == "on":
        return wanted[0], f"fast: on: {describe(wanted[0])}"
    if wanted[0].channels_last:
        wanted.insert(0, FastPath(threads=slow.threads, fused=wanted[0].fused))
    try:
        with preserved_rng(device):
            return _measured(_Bench(model, groups, data, training), slow, wanted, progress, stopped)
    except Exception as error:  # noqa: BLE001  # a person's own code: training itself will tell, if it is broken
        return slow, f"fast: auto could not measure, so it is the plain loop: {describe_error(error)}"


def describe(path: FastPath) -> str:
    """Return `path` in a few words."""
    words = [
        "channels-last" if path.channels_last else "",
        "fused optimizer" if path.fused else "",
        f"{path.threads} thread{'s' if path.threads > 1 else ''}" if path.threads else "",
    ]
    return ", ".join(filter(None, words)) or "the plain loop"


def _has_images(model: nn.Module) -> bool:
    # Torch has no such format for tensors of five dimensions, and raises.
    tensors = [*model.parameters(), *model.buffers()]
    convolves = any(isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for module in model.modules())
    return convolves and all(tensor.ndim != 5 for tensor in tensors)


def _can_fuse(groups: Sequence[ModuleGroup], training: TrainingConfig) -> bool:
    try:
        build_optimizer(groups, training, fused=True)
    except RuntimeError:  # torch knows for which devices and dtypes it has one
        return False
    return True


def _measured(
    bench: "_Bench", slow: FastPath, wanted: Sequence[FastPath], progress: Progress, stopped: Callable[[], bool]
) -> tuple[FastPath, str]:
    """Return the last of `wanted`, unless another or `slow` is clearly faster, with as few threads as are as fast."""
    # From all threads down to one by halves, for as long as that does not take longer.
    fewer = [slow.threads >> shift for shift in range(1, slow.threads.bit_length())]
    total = len(wanted) + len(fewer)
    seconds: dict[FastPath, float] = {}
    for done, path in enumerate(wanted):
        progress(done, total)
        if stopped():
            return slow, ""
        seconds[path], seconds[slow] = bench.seconds([path, slow])
    best = wanted[-1]
    for path, taken in seconds.items():
        best = path if taken < _CLEARLY * seconds[best] else best
    for done, threads in enumerate(fewer, start=len(wanted)):
        progress(done, total)
        if stopped():
            return slow, ""
        path = FastPath(threads=threads, channels_last=best.channels_last, fused=best.fused)
        seconds[path], seconds[best] = bench.seconds([path, best])
        if seconds[path] * _CLEARLY > seconds[best]:
            break
        best = path
    progress(total, total)
    if not seconds[best]:
        return slow, ""
    ratio = seconds[slow] / seconds[best]
    milliseconds = f"{1000 * seconds[best]:.3g} ms a step"
    return best, f"fast: auto chose {describe(best)}: {milliseconds}, {ratio:.2f} x as fast as the plain loop"


class _Bench:
    """Takes steps by several paths in turn, on copies of the model and on the same few batches."""

    def __init__(self, model: nn.Module, groups: Sequence[ModuleGroup], data: Split, training: TrainingConfig) -> None:
        self._parts: Parts = (model, groups)
        self._training = training
        self._device = next(model.parameters()).device
        order = epoch_order(len(data), training.seed, 0)[: _BATCHES * training.batch_size]
        self._batches = [batch for batch in data.batches(order, training.batch_size) if len(batch[1])]

    def seconds(self, paths: Sequence[FastPath]) -> list[float]:
        """Return the seconds of a step by each of `paths`; 0 where there is no image to take a step with."""
        if not self._batches:
            return [0.0] * len(paths)
        steppers = [self._stepper(path) for path in paths]
        first = sum(self._time(path, step, 1) for path, step in zip(paths, steppers, strict=True))
        rounds = _ROUNDS if first < _SECONDS else 1
        if rounds > 1:
            first = sum(self._time(path, step, _WARM_UP) for path, step in zip(paths, steppers, strict=True)) / _WARM_UP
        steps = max(1, int(_SECONDS / rounds / max(first, 1e-6)))
        times: list[list[float]] = [[] for _ in paths]
        for _ in range(rounds):
            for taken, path, step in zip(times, paths, steppers, strict=True):
                taken.append(self._time(path, step, steps) / steps)
        return [statistics.median(taken) for taken in times]

    def _time(self, path: FastPath, step: Callable[[], None], steps: int) -> float:
        with threads_of(path):
            started = time.perf_counter()
            for _ in range(steps):
                step()
            if self._device.type != "cpu":
                torch.accelerator.synchronize(self._device)
            return time.perf_counter() - started

    def _stepper(self, path: FastPath) -> Callable[[], None]:
        model, groups = copy.deepcopy(self._parts)
        arrange(model, path)
        model.train()
        optimizer = build_optimizer(groups, self._training, fused=path.fused)
        ParameterGroups(optimizer).set_rate(0.0)  # the same work, and no copy goes astray
        batches = cycle(self._batches)

        def step() -> None:
            inputs, labels = next(batches)
            optimizer.zero_grad(set_to_none=True)
            logits = forward(model, laid_out(inputs, path), self._training.precision)
            F.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        return step


def laid_out(images: Tensor, path: FastPath) -> Tensor:
    """Return `images`, `[B, C, H, W]`, in the memory format of `path`."""
    return images.contiguous(memory_format=torch.channels_last) if path.channels_last else images


def recorded(state: object, device: torch.device) -> FastPath:
    """Return the path that a checkpoint's training state tells of as `state`; the plain one where it tells of none.

    Threads that this machine has no processors for are left out. Raises `BadInput` when it is no path.
    """
    if state is None:
        return plain(device)
    try:
        path = msgspec.convert(state, FastPath)
    except msgspec.ValidationError as error:
        raise BadInput(f"the checkpoint does not tell by which path the run computed ({reason_of(error)})") from error
    here = path.threads <= (os.cpu_count() or 1)
    return path if here else msgspec.structs.replace(path, threads=torch.get_num_threads())
