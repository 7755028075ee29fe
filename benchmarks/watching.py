"""What `finetui.watch` adds to a person's own loop: steps of about 5 ms with it and without, by turns."""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

import finetui
from benchmarks.measuring import Options, table

_STEP = 0.005  # seconds of processor time
_PAIRS = 200  # steps of each loop, by turns, whose means are compared
_PAUSE = 0.5  # seconds before what is measured: what watches the machine begins
_BLOCKS = 20  # of pairs, for each of the rounds

Log = Callable[..., None]


class Loop:
    """A small network and its steps, on images that are given."""

    def __init__(self, layers: int) -> None:
        torch.manual_seed(0)
        blocks = [nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()) for _ in range(layers)]
        stem, pool = nn.Conv2d(1, 8, 5, stride=2), nn.AdaptiveAvgPool2d(1)
        self.net = nn.Sequential(stem, *blocks, pool, nn.Flatten(), nn.Linear(8, 10))
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9)

    def step(self, images: Tensor, labels: Tensor, log: Log) -> None:
        """Take one step."""
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.net(images), labels)
        loss.backward()
        self.optimizer.step()
        log(loss=loss)


def _batch(loop: Loop) -> tuple[Tensor, Tensor]:
    """Return as many images as a step of about 5 ms takes."""
    size = 32
    for _ in range(3):  # a step takes so long by its images, and by their number so long
        images, labels = torch.rand(size, 1, 28, 28), torch.arange(size) % 10
        times = []
        for _ in range(25):
            began = time.thread_time()
            loop.step(images, labels, _unlogged)
            times.append(time.thread_time() - began)
        size = max(round(size * _STEP / statistics.median(times)), 1)
    return images, labels


def _unlogged(**_metrics: object) -> None:
    """Log nothing."""


@contextmanager
def _unwatched() -> Iterator[None]:
    """Take away the hooks that a watched loop has on the optimizers of all others as well."""
    hooks = (_global_optimizer_pre_hooks, _global_optimizer_post_hooks)
    kept = [dict(own) for own in hooks]
    for own in hooks:
        own.clear()
    try:
        yield
    finally:
        for own, before in zip(hooks, kept, strict=True):
            own.update(before)


def _measured(layers: int, blocks: int) -> tuple[list[float], list[float]]:
    """Return the seconds of processor time a step took, without finetui and with it, as means of each block."""
    plain, watched = Loop(layers), Loop(layers)
    images, labels = _batch(plain)
    without, with_it = [], []
    with (
        tempfile.TemporaryDirectory(prefix="finetui-") as folder,
        finetui.watch(watched.net, watched.optimizer, runs_dir=folder) as run,
    ):
        for block in range(blocks + 1):  # the first one warms up
            time.sleep(0 if block else _PAUSE)
            alone = aside = 0.0
            began = time.thread_time()
            for batch in run.steps(itertools.repeat((images, labels), _PAIRS)):
                watched.step(*batch, run.log)
                left = time.thread_time()
                with _unwatched():
                    stepped = time.thread_time()
                    plain.step(*batch, _unlogged)
                    alone += time.thread_time() - stepped
                aside += time.thread_time() - left
            if block:
                without.append(alone / _PAIRS)
                with_it.append((time.thread_time() - began - aside) / _PAIRS)
    return without, with_it


def run(options: Options) -> str:
    """Return the table of both loops' processor time for a step, as medians, and what one has more than the other."""
    torch.set_num_threads(1)
    rows = []
    for layers in (1, 8):
        without, with_it = _measured(layers, _BLOCKS * options.rounds)
        more = [b - a for a, b in zip(without, with_it, strict=True)]
        low, middle, high = statistics.quantiles(more, n=4)
        rows.append(
            [
                f"{len(list(Loop(layers).net.parameters()))}",
                f"{statistics.median(without) * 1e3:.3f}",
                f"{statistics.median(with_it) * 1e3:.3f}",
                f"{middle * 1e6:+.0f} µs ({low * 1e6:+.0f} to {high * 1e6:+.0f})",
                f"{statistics.median(b / a for a, b in zip(without, with_it, strict=True)):.4f}",
            ]
        )
    head = ["parameter tensors", "plain, ms a step", "watched, ms a step", "more (quartiles)", "ratio"]
    return table(head, rows) + (
        f"\n\nProcessor time of the thread that trains, which is the only one of torch's: two loops take each step by "
        f"turns, and the means of {_PAIRS} steps are compared. Points come by the clock: a loop by itself has half as "
        f"many a step."
    )
