"""The numbers that training steps leave behind, read from the device only when a point is due."""

import math
import time
from typing import Any

import torch
from torch import Tensor

from finetui.engine.distributed.ranks import SINGLE, Ranks
from finetui.engine.protocol.events import MeanLoss
from finetui.engine.training.divergence import LossGuard

POINT_INTERVAL = 0.1  # seconds: at most ten points a second leave the engine, however fast the steps are
_RANKS = 8  # that can tell each other their numbers so often at about a hundredth of the time (docs/scaling.md)
_MOST_STEPS_A_POINT = 1000  # bounds the loss tensors that wait on the device
_MOST_LOGITS = 2**20  # numbers that wait there
_HUNDRED = 100


class Meter:
    """Collects each step's loss on the device, and reads them all at once when a point is due.

    Each of `ranks` collects its share; all of them add up what they have, and so read the same.
    """

    def __init__(self, guard: LossGuard, ranks: Ranks = SINGLE) -> None:
        """Have every loss that is read looked at by `guard`."""
        self._guard = guard
        self._ranks = ranks
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._samples = 0
        self.discard()
        self._since_hundred: list[float] = []

    @property
    def steps(self) -> int:
        """Steps since the last `take`."""
        return len(self._losses)

    def restart_clock(self) -> None:
        """Leave the time since the last step (a pause, an evaluation) out of the samples per second."""
        self._started = time.monotonic()

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Keep a step's loss (a detached scalar) and its predictions (logits `[B, classes]`, detached)."""
        self._losses.append(loss)
        # Counted for many steps at once: for a small network three operations a step would be felt.
        if not len(logits):  # of several ranks not all have images of a small batch
            return
        self._logits.append(logits)
        self._labels.append(labels)
        self._waiting += logits.numel()
        if self._waiting > _MOST_LOGITS:
            self._count()

    def _count(self) -> None:
        labels = torch.cat(self._labels)
        self._correct.append((torch.cat(self._logits).argmax(1) == labels).sum())
        self._samples += len(labels)
        self._logits, self._labels, self._waiting = [], [], 0

    def due(self) -> bool:
        """Whether it is time for `take`; asking costs next to nothing."""
        interval = POINT_INTERVAL * max(1.0, self._ranks.world / _RANKS)
        return time.monotonic() - self._started >= interval or len(self._losses) >= _MOST_STEPS_A_POINT

    def take(self, epoch: int, position: int, step: int) -> dict[str, Any]:
        """Return the means since the last call, as fields of a `TrainPoint`, and begin anew.

        This waits for the device. Raises `Diverged` when a step's loss was no loss any more.
        """
        if self._logits:
            self._count()
        losses: list[float] = torch.stack(self._losses).tolist()
        correct = int(torch.stack(self._correct).sum()) if self._correct else 0
        if self._ranks.world > 1:
            shares = self._ranks.begin_gather((correct, self._samples, *losses))()
            counts, losses = (list(map(math.fsum, zip(*part, strict=True))) for part in _divided(shares, 2))
            correct, self._samples = map(int, counts)
        for number, loss in enumerate(losses, start=step - len(losses) + 1):
            self._guard.check(loss, number)
        elapsed = max(time.monotonic() - self._started, 1e-9)
        means = {
            "steps": len(losses),
            "loss": math.fsum(losses) / len(losses),
            "accuracy": correct / self._samples,
            "samples_per_second": self._samples / elapsed,
            "hundreds": self._hundreds(losses, epoch, position),
        }
        self.discard()
        return means

    def discard(self) -> None:
        """Forget the steps since the last `take`: they are undone."""
        self._losses: list[Tensor] = []
        self._logits, self._labels, self._waiting = [], [], 0  # `_waiting` numbers in the logits
        self._correct: list[Tensor] = []
        self._samples = 0
        self.restart_clock()

    def state_dict(self) -> dict[str, Any]:
        """Return what a later point still needs of the steps up to the last `take`."""
        return {"since_hundred": list(self._since_hundred)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.discard()
        self._since_hundred = list(state["since_hundred"])

    def _hundreds(self, losses: list[float], epoch: int, position: int) -> tuple[MeanLoss, ...]:
        found = []
        for step_in_epoch, loss in enumerate(losses, start=position - len(losses) + 1):
            if step_in_epoch == 1:
                self._since_hundred = []
            self._since_hundred.append(loss)
            if step_in_epoch % _HUNDRED == 0:
                mean = math.fsum(self._since_hundred) / len(self._since_hundred)
                found.append(
                    MeanLoss(epoch=epoch, step_in_epoch=step_in_epoch, steps=len(self._since_hundred), loss=mean)
                )
                self._since_hundred = []
        return tuple(found)


def _divided(rows: list[list[float]], at: int) -> tuple[list[list[float]], list[list[float]]]:
    return [row[:at] for row in rows], [row[at:] for row in rows]
