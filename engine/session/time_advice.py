"""What a person could do about time that does not go into computing: said once, with the command for it."""

import math
import os
import shlex
from typing import Literal

import torch

from finetui.engine.data import ImageData
from finetui.engine.data.image_data import free_memory
from finetui.engine.protocol.config import RunConfig, is_factory
from finetui.engine.protocol.events import Alert, TrainPoint
from finetui.engine.protocol.time_sum import TimeSum

_Part = Literal["waiting", "copying", "evaluating", "saving"]

# Shares of the time from which on something is worth a word; once said, it is said again only after half of that.
_OUT_OF_LINE: dict[_Part, float] = {"waiting": 0.3, "copying": 0.2, "evaluating": 0.4, "saving": 0.1}
_SECONDS = 20.0  # that shares are taken of, at least
_SAVING_GOAL = 0.02
_FREE_SHARE = 0.5  # of the free memory that a set made resident may take
_HELD_OUT = 0.1  # of the training images: what is usual
_IS = {
    "waiting": "is spent waiting for images",
    "copying": "is spent copying images to the device",
    "evaluating": "is spent evaluating after each epoch",
    "saving": "is spent saving checkpoints",
}


class TimeAdvice:
    """Follows the points of a run, and says what would help where one part of the time is out of line.

    Waiting and copying are judged by some seconds of training; evaluating and saving, which come with the end of an
    epoch, by whole epochs. What is remembered is no state of the run: one that goes on is measured anew.
    """

    def __init__(self, config: RunConfig, data: ImageData, device: torch.device) -> None:
        self._config = config
        self._data = data
        self._device = device
        self._recent = self._epochs = TimeSum()
        self._epoch = 0  # of the last point
        self._whole = False  # whether `_epochs` began with an epoch
        self._said: set[_Part] = set()

    def after(self, point: TrainPoint, epochs: int, run: str) -> list[Alert]:
        """Return what is to be said after `point` of `epochs` epochs; `run` names it on a command line."""
        shares = point.time_shares
        if shares is None or self._config.data.name == "own:data":  # no command line can name that
            return []
        first, begins, self._epoch = not self._epoch, point.epoch != self._epoch, point.epoch
        if first:  # with it the workers started
            self._recent, self._epochs = TimeSum(), TimeSum()
            return []
        self._recent.add(shares)
        self._epochs.add(shares)
        found: list[Alert] = []
        if self._recent.seconds >= _SECONDS:
            window, self._recent = self._recent, TimeSum()
            found += self._judged(window, ("waiting", "copying"), point, epochs, run)
        if begins and (self._epochs.seconds >= _SECONDS or not self._whole):
            window, self._epochs = self._epochs, TimeSum()
            if self._whole:
                found += self._judged(window, ("evaluating", "saving"), point, epochs, run)
            self._whole = True
        return found

    def _judged(self, time: TimeSum, parts: tuple[_Part, ...], point: TrainPoint, epochs: int, run: str) -> list[Alert]:
        found, shares = [], time.shares()
        for part in parts:
            share, limit = getattr(shares, part), _OUT_OF_LINE[part]
            if share < limit / 2:
                self._said.discard(part)
            # In the last epoch a change is not worth the break.
            if share < limit or part in self._said or point.epoch >= epochs:
                continue
            remedy = self._remedy(part, share, run)
            if remedy:
                self._said.add(part)
                message = f"{share:.0%} of the time {_IS[part]}; {remedy}"
                found.append(Alert(step=point.step, kind="speed", message=message))
        return found

    def _remedy(self, part: _Part, share: float, run: str) -> str:
        """Return what would help, as a sentence; empty where nothing is known that does."""
        data = self._data
        match part:
            case "waiting":
                ways = [*self._more_workers(share), *self._resident()]
            case "copying":
                ways = self._resident() if self._device.type != "cpu" else []
            case "saving":
                steps = self._config.checkpoints.every_steps
                ways = [f"--save-steps {_rounded_up(steps * share / _SAVING_GOAL)}"] if steps else []
            case "evaluating":
                if not data.part(data.watched).in_memory:
                    ways = [*self._more_workers(share), *self._resident()]
                    return self._command(run, ways)
                count = round(_HELD_OUT * len(data.train))
                if data.watched == "test" and data.test is not None and count < len(data.test) / 2:
                    return f"a new run with --val {_HELD_OUT:g} holds out {count:,} images to evaluate on instead"
                return ""
        return self._command(run, ways)

    def _command(self, run: str, ways: list[str]) -> str:
        if not ways:
            return ""
        own = (("--model", self._config.model.name), ("--data", self._config.data.name))
        named = "".join(f" {option} {shlex.quote(name)}" for option, name in own if is_factory(name))
        return f"stop, then finetui resume {run}{named} {', or '.join(ways)}"

    def _more_workers(self, share: float) -> list[str]:
        """Return the option for as many workers as would do, if the machine has processors for more than there are."""
        parts = self._data.parts.values()
        streamed = not any(part.in_memory for part in parts)  # else training alone is read anew, by no worker
        workers = self._config.data.workers if streamed else 0
        wanted = min(_processors(), math.ceil(max(workers, 1) / max(1 - share, 0.01)))
        return [f"{'' if streamed else '--loader stream '}--workers {wanted}"] if wanted > workers else []

    def _resident(self) -> list[str]:
        """Return the option that keeps the images in memory, if they fit and stay the same."""
        data = self._data
        size, free = data.stored_bytes, free_memory(self._device)
        if data.train.in_memory or data.train.draws or size > _FREE_SHARE * free:
            return []
        return [f"--loader resident (fits: {_gigabytes(size)} of {_gigabytes(free)} GB)"]


def _processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _rounded_up(number: float) -> int:
    """Return `number` with two digits, and zeros."""
    unit = 10 ** max(math.floor(math.log10(number)) - 1, 0)
    return int(math.ceil(number / unit) * unit)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2g}" if size < 10e9 else f"{size / 1e9:.0f}"
