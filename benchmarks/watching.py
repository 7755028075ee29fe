"""What `finetui.watch` adds to a person's own loop: the same steps of about 5 ms with it and without, by turns."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.nn import functional as F

import finetui
from benchmarks.measuring import Options, in_turn, ratio, table

_STEP = 0.005  # seconds of processor time
_STEPS = 100  # of one turn
_PAUSE = 0.5  # seconds before what is measured: what watches the machine begins
_TURNS = 10  # of each loop, for each of the rounds

Log = Callable[..., None]


class Loop:
    """A small network and steps on batches of `batch` images, chosen to take about 5 ms."""

    def __init__(self, layers: int) -> None:
        torch.manual_seed(0)
        blocks = [nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()) for _ in range(layers)]
        stem, pool = nn.Conv2d(1, 8, 5, stride=2), nn.AdaptiveAvgPool2d(1)
        self.net = nn.Sequential(stem, *blocks, pool, nn.Flatten(), nn.Linear(8, 10))
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9)
        self._fit(32)
        for _ in range(2):  # a step takes so long by its images, and by their number so long
            self._fit(max(round(len(self.images) * _STEP / self._seconds_of_a_step()), 1))

    def _fit(self, batch: int) -> None:
        self.images, self.labels = torch.rand(batch, 1, 28, 28), torch.arange(batch) % 10

    def _seconds_of_a_step(self) -> float:
        return statistics.median(self._timed(range(5), lambda **_: None) for _ in range(5))

    def _timed(self, steps: Iterable[int], log: Log) -> float:
        """Return the seconds of processor time that a step took."""
        count, began = 0, time.thread_time()
        for _ in steps:
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.net(self.images), self.labels)
            loss.backward()
            self.optimizer.step()
            log(loss=loss)
            count += 1
        return (time.thread_time() - began) / count

    def plain(self) -> float:
        """Take a turn without finetui."""
        self._timed(range(_STEPS // 2), lambda **_: None)
        time.sleep(_PAUSE)
        return self._timed(range(_STEPS), lambda **_: None)

    def watched(self) -> float:
        """Take a turn with it; to make and to end the run is left out."""
        with (
            tempfile.TemporaryDirectory(prefix="finetui-") as folder,
            finetui.watch(self.net, self.optimizer, runs_dir=folder) as run,
        ):
            self._timed(run.steps(range(_STEPS // 2)), run.log)
            time.sleep(_PAUSE)
            return self._timed(run.steps(range(_STEPS)), run.log)


def run(options: Options) -> str:
    """Return the table of both loops' processor time for a step, as medians, and their ratio."""
    torch.set_num_threads(1)
    rows = []
    for layers in (1, 8):
        loop = Loop(layers)
        loop.plain(), loop.watched()  # what is imported and made at first
        found = in_turn({"plain": loop.plain, "watched": loop.watched}, _TURNS * options.rounds)
        plain, watched = (statistics.median(found[name]) for name in ("plain", "watched"))
        parameters = len(list(loop.net.parameters()))
        cost = f"{(watched - plain) * 1e6:+.0f} µs"
        rows.append(
            [
                f"{parameters}",
                f"{plain * 1e3:.3f}",
                f"{watched * 1e3:.3f}",
                cost,
                f"{ratio(found, 'watched', 'plain'):.4f}",
            ]
        )
    head = ["parameter tensors", "plain, ms a step", "watched, ms a step", "more", "ratio"]
    return table(head, rows) + "\n\nProcessor time of the thread that trains, which is the only one of torch's."
