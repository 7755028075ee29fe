"""The training loop's one step, and the numbers that it leaves behind."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.config import TrainingConfig
from engine.data import ResidentSplit, epoch_order
from engine.errors import BadInput, FinetuiError
from engine.events import MeanLoss, TrainPoint
from engine.models import ModuleGroup
from engine.training.freezing import Freezer
from engine.training.learning_rate import LearningRates
from engine.training.optimizer import build_sgd, load_state_by_name, state_by_name

POINT_INTERVAL = 0.1  # seconds: at most ten points a second leave the engine, however fast the steps are
_MOST_STEPS_A_POINT = 1000  # bounds the loss tensors that wait on the device
_HUNDRED = 100

OnStep = Callable[[int, Tensor], None]


class NonFiniteLoss(FinetuiError):
    """The training loss became NaN or infinite."""


class Trainer:
    """Takes training steps and knows exactly where it is.

    `step` counts the steps completed in the run, `epoch` the epochs, `position` the steps completed in the epoch
    in progress. The data order of an epoch depends on the seed and the epoch's number alone, so these three say
    which batch comes next.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: Sequence[ModuleGroup],
        data: ResidentSplit,
        training: TrainingConfig,
        on_step: OnStep | None = None,
    ) -> None:
        """Build the optimizer for `model`, which is on the device of `data` already.

        `on_step(step, loss)` is called after every step with the steps completed and the batch's loss, a
        detached scalar on the device. Raises `BadInput` when a batch is larger than the data.
        """
        if training.batch_size > len(data):
            raise BadInput(
                f"training.batch_size (--batch-size): {training.batch_size} is more than the "
                f"{len(data)} training images"
            )
        self.model = model
        self.groups = groups
        self.optimizer = build_sgd(groups, training)
        self.freezer = Freezer(model, groups, self.optimizer)
        self.rates = LearningRates(training.lr, training.thaw_warmup_steps)
        self.steps_per_epoch = math.ceil(len(data) / training.batch_size)
        self.epochs = training.epochs
        self.step = self.epoch = self.position = 0
        self._data = data
        self._training = training
        self._on_step = on_step
        self._parameters = {name: p for group in groups for name, p in group.parameters.items()}
        self._order = self._epoch_order()
        self._meter = _Meter()

    @property
    def done(self) -> bool:
        """Whether all epochs are complete."""
        return self.epoch >= self.epochs

    def train_step(self) -> None:
        """Take one step: gather the batch, forward, backward, update."""
        start = self.position * self._training.batch_size
        inputs, labels = self._data.batch(self._order[start : start + self._training.batch_size])
        self.rates.apply(self.optimizer, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.model(inputs)
        loss = F.cross_entropy(logits, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.step += 1
        self.position += 1
        self._meter.add(loss.detach(), logits.detach(), labels)
        if self._on_step is not None:
            self._on_step(self.step, loss.detach())

    def end_epoch(self) -> None:
        """Go to the start of the next epoch."""
        self.epoch += 1
        self.position = 0
        self._order = self._epoch_order()

    def point_due(self) -> bool:
        """Whether it is time for `take_point`; asking costs next to nothing."""
        return self._meter.due()

    def take_point(self) -> TrainPoint | None:
        """Return the means since the last point, or None if there was no step.

        This waits for the device. Raises `NonFiniteLoss` when a step's loss was NaN or infinite.
        """
        if not self._meter.steps:
            return None
        grads = [p.grad for p in self._parameters.values() if p.grad is not None]
        grad_norm = float(torch.nn.utils.get_total_norm(grads)) if grads else 0.0
        means = self._meter.take(self.epoch + 1, self.position, self.step)
        return TrainPoint(
            step=self.step,
            epoch=self.epoch + 1,
            step_in_epoch=self.position,
            learning_rate=self.rates.at(self.step - 1),
            grad_norm=grad_norm,
            **means,
        )

    def restart_clock(self) -> None:
        """Leave the time since the last step (a pause, an evaluation) out of the samples per second."""
        self._meter.restart_clock()

    def set_frozen(self, names: Sequence[str], frozen: bool) -> bool:
        """Freeze or unfreeze layer groups from the next step on; return whether anything changed.

        A group that is unfrozen in the course of training warms up. Raises `BadInput` when it cannot be done.
        """
        changed = self.freezer.set(names, frozen)
        if not frozen and self.step:
            for name in changed:
                self.rates.thaw(name, self.step)
        return bool(changed)

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the weights that an exact continuation needs; plain types and tensors only."""
        return {
            "step": self.step,
            "epoch": self.epoch,
            "position": self.position,
            "frozen": sorted(self.freezer.frozen),
            "rates": self.rates.state_dict(),
            "optimizer": state_by_name(self.optimizer, self._parameters),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned. Raises `BadInput` when it does not fit this model."""
        self.step, self.epoch, self.position = state["step"], state["epoch"], state["position"]
        self.freezer.set(state["frozen"], frozen=True)
        self.rates.load_state_dict(state["rates"])
        load_state_by_name(self.optimizer, self._parameters, state["optimizer"])
        self._order = self._epoch_order()

    def _epoch_order(self) -> Tensor:
        return epoch_order(len(self._data), self._training.seed, self.epoch, self._data.images.device)


class _Meter:
    """Collects each step's loss on the device, and reads them all at once when a point is due."""

    def __init__(self) -> None:
        self._losses: list[Tensor] = []
        self._correct: list[Tensor] = []
        self._samples = 0
        self._since_hundred: list[float] = []
        self._seconds = 0.0
        self.restart_clock()

    @property
    def steps(self) -> int:
        return len(self._losses)

    def restart_clock(self) -> None:
        self._started = time.monotonic()

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self._losses.append(loss)
        self._correct.append((logits.argmax(1) == labels).sum())
        self._samples += len(labels)

    def due(self) -> bool:
        return time.monotonic() - self._started >= POINT_INTERVAL or len(self._losses) >= _MOST_STEPS_A_POINT

    def take(self, epoch: int, position: int, step: int) -> dict[str, Any]:
        losses: list[float] = torch.stack(self._losses).tolist()
        correct = int(torch.stack(self._correct).sum())
        for back, loss in enumerate(reversed(losses)):
            if not math.isfinite(loss):
                raise NonFiniteLoss(
                    f"the training loss became {loss} at step {step - back}; "
                    "start again with a lower learning rate, or look at the data"
                )
        elapsed = max(time.monotonic() - self._started, 1e-9)
        means = {
            "steps": len(losses),
            "loss": math.fsum(losses) / len(losses),
            "accuracy": correct / self._samples,
            "samples_per_second": self._samples / elapsed,
            "hundreds": self._hundreds(losses, epoch, position),
        }
        self._losses, self._correct, self._samples = [], [], 0
        self.restart_clock()
        return means

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
