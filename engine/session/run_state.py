"""Everything of a run that a checkpoint holds besides the weights: collected between two steps, and put back."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from finetui.engine.checkpoints.checkpoint import Checkpoint, digest
from finetui.engine.errors import BadInput
from finetui.engine.models.device import rng_states, set_rng_states
from finetui.engine.protocol.events import TrainPoint
from finetui.engine.session.evaluator import Evaluator
from finetui.engine.setup.prepare import Prepared
from finetui.engine.training.alerts import AlertWatch
from finetui.engine.training.trainer import Trainer


class RunState:
    """The state of a run in progress.

    `accuracy` is that of the last evaluation; `owes_evaluation` is True between the end of an epoch and the end of its
    evaluation, so that a run that was cut there makes up for it.
    """

    def __init__(self, prepared: Prepared, trainer: Trainer, evaluator: Evaluator, alerts: AlertWatch) -> None:
        self.accuracy: float | None = None
        self.owes_evaluation = False
        self._loss = self._steps = 0.0  # summed since the last evaluation
        self._prepared = prepared
        self._trainer = trainer
        self._evaluator = evaluator
        self._alerts = alerts

    def add(self, point: TrainPoint) -> None:
        """Count the training loss of `point`."""
        self._loss += point.loss * point.steps
        self._steps += point.steps

    def take_train_loss(self) -> float:
        """Return the mean training loss since the last call; NaN where there was no step."""
        mean = self._loss / self._steps if self._steps else math.nan
        self._loss = self._steps = 0.0
        return mean

    @property
    def model(self) -> dict[str, torch.Tensor]:
        """The weights and buffers by name."""
        return self._prepared.model.state_dict()

    def digest(self) -> str:
        """Return the identity of the weights, see `finetui.engine.checkpoints.checkpoint.digest`."""
        return digest(self.model)

    def collect(self, at: int) -> dict[str, Any]:
        """Return the state of the training, plain types and tensors; `at` is the number of the run's next event."""
        device = self._prepared.device
        return self._trainer.state_dict() | {
            "at": at,
            "accuracy": self.accuracy,
            "best_accuracy": self._evaluator.best,
            "owes_evaluation": self.owes_evaluation,
            "train_loss": [self._loss, self._steps],
            "alerts": self._alerts.state_dict(),
            "rng": rng_states(device),
            "images": len(self._prepared.data.train),
            "machine": machine(device),
        }

    def restore(self, found: Checkpoint) -> list[str]:
        """Be again where `found` was written; return what may keep the continuation from being the same bit for bit.

        Raises `BadInput` when the checkpoint is of another run.
        """
        training, device = found.training, self._prepared.device
        try:
            self._check_images(training)
            self._prepared.model.load_state_dict(found.model)
            self._trainer.load_state_dict(training)
            self.accuracy = training["accuracy"]
            self.owes_evaluation = training["owes_evaluation"]
            self._loss, self._steps = training["train_loss"]
            self._evaluator.best = training["best_accuracy"]
            self._alerts.load_state_dict(training["alerts"])
            # Last, since reading the data may draw numbers as well.
            set_rng_states(device, training["rng"])
            return _differences(training["machine"], machine(device))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            why = f"{type(error).__name__}: {error}"
            raise BadInput(f"the checkpoint {found.path.name} does not fit this run ({why})") from error

    def _check_images(self, training: Mapping[str, Any]) -> None:
        images = len(self._prepared.data.train)
        if training["images"] != images:
            raise BadInput(
                f"the run cannot go on as it began: there are {images:,} training images now, and there were "
                f"{training['images']:,}; start a finetune from it instead (finetui finetune --from)"
            )


def machine(device: torch.device) -> dict[str, str]:
    """Return what a computation depends on besides its inputs, for people: another one gives other last digits."""
    found = {"device": device.type, "torch": str(torch.__version__)}
    if device.type == "cpu":
        found |= {"threads": str(torch.get_num_threads()), "instructions": torch.backends.cpu.get_cpu_capability()}
    elif device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def _differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    changed = [
        f"{key} {before.get(key, 'none')} then, {now.get(key, 'none')} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    if not changed:
        return []
    return [f"the last digits may differ from those of a run without a break: {', '.join(changed)}"]
