"""The ranks of a run as the dashboard shows them, and whether they still have the same parameters."""

import socket
import time
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import psutil
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from finetui.engine.distributed.checksums import checksums, combined, differing
from finetui.engine.distributed.communication import CommunicationMeter
from finetui.engine.distributed.ranks import Ranks
from finetui.engine.machine.watch import journal_seconds
from finetui.engine.protocol.events import Alert, RanksSeen, TrainPoint
from finetui.engine.protocol.ranks import RankRow, worth_a_row
from finetui.engine.protocol.values import TimeShares
from finetui.engine.runs.reporter import Reporter

CHECK_STEPS = 100  # between two comparisons, at the train point that comes next
_HALF_LIFE = 5.0  # seconds after which the past counts half in the shares of time: a few slow steps mark nobody
_NAMED = 3  # tensors in a sentence
_SILENT_SECONDS = 3.0  # without a sign of life that are worth being shown
_SHOW_SECONDS = 1.0  # between two times


class _Told(NamedTuple):
    """What a rank tells of itself, all of it as numbers; its parameters' checksum is 0 where it is not time for one."""

    step: float
    samples_per_second: float
    waiting: float
    computing: float
    communicating: float
    memory: float
    memory_total: float
    checksum: float


class RankTable:
    """Gathers what each of `ranks` tells of itself with a train point; rank 0 reports it.

    All ranks must call `told` at the same points.
    """

    def __init__(
        self, ranks: Ranks, parameters: Mapping[str, Tensor], reporter: Reporter, device: torch.device, name: str
    ) -> None:
        """Compare the `parameters`; `name` is that of the `device` they are on."""
        self._ranks = ranks
        self._parameters = parameters
        self._reporter = reporter
        self._device, self._device_name = device, name
        self._who: list[tuple[str, str]] = []
        self._points = 0
        self._checked = -CHECK_STEPS
        self._alike = -1
        self._differs = ""
        self._began = self._journaled = self._shown = time.monotonic()
        self._latest: RanksSeen | None = None
        self._sums: tuple[float, ...] = (0.0,) * 4  # of the shares of time, and of the weights they are added up with
        self._meter = CommunicationMeter(ranks)
        self.restart = self._meter.restart
        self.in_step = self._meter.in_step

    def told(self, point: TrainPoint, parallel: DistributedDataParallel | None = None) -> None:
        """Tell the others how this rank did since the point before this `point`, and report all of them.

        `parallel` is what exchanges the gradients.
        """
        self._points += 1
        if self._ranks.world == 1:
            return
        if not self._who:
            self._who = self._ranks.gather((socket.gethostname(), self._device_name))
        told = [_Told(*numbers) for numbers in self._ranks.begin_gather(self._own(point, parallel))()]
        if told[0].checksum:
            self._compare(point.step, [one.checksum for one in told])
        if self._ranks.is_first:
            self._report(told)

    def _own(self, point: TrainPoint, parallel: DistributedDataParallel | None) -> _Told:
        shares = point.time_shares or TimeShares()
        fresh = (shares.waiting + shares.copying, *self._meter.take(shares, point.steps, parallel), 1.0)
        past = 0.5 ** (max(shares.seconds, 1e-3) / _HALF_LIFE)
        self._sums = tuple(past * old + (1 - past) * new for old, new in zip(self._sums, fresh, strict=True))
        waiting, computing, communicating = (each / self._sums[-1] for each in self._sums[:-1])
        checksum = 0
        if not 0 <= point.step - self._checked < CHECK_STEPS:  # or it has gone back
            self._checked = point.step
            checksum = combined(checksums(self._parameters))
        return _Told(
            step=point.step,
            samples_per_second=(point.samples_per_second or 0.0) / self._ranks.world,
            waiting=waiting,
            computing=computing,
            communicating=communicating,
            **_memory(self._device),
            checksum=checksum,
        )

    def _compare(self, step: int, sums: list[float]) -> None:
        """Say so where the parameters are not the same on all ranks, and which."""
        if len(set(sums)) == 1:
            self._alike, self._differs = step, ""
            return
        found = differing(list(self._parameters), self._ranks.gather(checksums(self._parameters)))
        first = next(iter(found))
        if not self._differs and self._ranks.is_first:  # once, until they are the same again
            where = ", ".join(map(str, found[first]))
            others = f" and {len(found) - 1} other tensors" if len(found) > 1 else ""
            message = (
                f"the ranks have different weights at step {step:,}: {first} of rank {where} is not that of the others"
                f"{others}; roll back to a checkpoint, which all ranks then load"
            )
            self._reporter.emit(Alert(kind="ranks", message=message))
        self._differs = ", ".join(list(found)[:_NAMED])

    def heard(self, silence: Mapping[int, float]) -> None:
        """Show who has given no sign of life for so many seconds, while the rank that trains waits for it.

        To be called in another thread than that one.
        """
        latest, now = self._latest, time.monotonic()
        if latest is None or now - self._shown < _SHOW_SECONDS or max(silence.values(), default=0.0) < _SILENT_SECONDS:
            return
        self._shown = now
        at = time.time()
        rows = tuple(
            msgspec.structs.replace(row, heard=round(at - silence.get(row.rank, 0.0), 3)) for row in latest.rows
        )
        self._reporter.show(msgspec.structs.replace(latest, rows=rows))

    def _report(self, told: list[_Told]) -> None:
        now = time.time()
        rows = [
            RankRow(
                rank=rank,
                node=node,
                device=device,
                step=int(one.step),
                heard=round(now, 3),
                samples_per_second=round(one.samples_per_second, 2),
                waiting=round(one.waiting, 4),
                computing=round(one.computing, 4),
                communicating=round(one.communicating, 4),
                memory=int(one.memory),
                memory_total=int(one.memory_total) or None,
            )
            for rank, (one, (node, device)) in enumerate(zip(told, self._who, strict=True))
        ]
        seen = RanksSeen(
            rows=worth_a_row(rows),
            world=self._ranks.world,
            alike=self._alike,
            differs=self._differs,
        )
        self._latest, self._shown = seen, time.monotonic()
        if time.monotonic() - self._journaled >= journal_seconds(time.monotonic() - self._began) or self._points == 1:
            self._journaled = time.monotonic()
            self._reporter.emit(seen)
        else:
            self._reporter.show(seen)


def _memory(device: torch.device) -> dict[str, int]:
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return {"memory": total - free, "memory_total": total}
    return {"memory": psutil.Process().memory_info().rss, "memory_total": psutil.virtual_memory().total}
