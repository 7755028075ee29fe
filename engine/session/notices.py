"""What is said of a training besides its figures: images that were skipped, batches that were left out."""

from collections.abc import Sequence

import torch

from finetui.engine.data import ImageData
from finetui.engine.distributed.ranks import SINGLE, Ranks
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.events import Log, TrainPoint
from finetui.engine.protocol.time_sum import TimeSum
from finetui.engine.protocol.values import TimeShares
from finetui.engine.runs.reporter import Reporter
from finetui.engine.session.time_advice import TimeAdvice
from finetui.engine.training.trainer import Trainer

_LEFT_OUT = "a batch with only one readable image is skipped: batch normalization needs two"
_PARTS = {
    "waiting": "waiting for images",
    "copying": "copying them to the device",
    "computing": "computing",
    "evaluating": "evaluating",
    "saving": "saving",
}


class Notices:
    """Looks at each point of a training on `data`, and says to `reporter` what a person should know, once.

    `run` is what names the run on a command line, once it has a folder.
    """

    def __init__(
        self, config: RunConfig, data: ImageData, device: torch.device, reporter: Reporter, ranks: Ranks = SINGLE
    ) -> None:
        self.run = ""
        self._ranks = ranks
        self._several_read = ranks.any_flag(not data.train.in_memory)
        self._data = data
        self._reporter = reporter
        self._advice = TimeAdvice(config, data, device)
        self._time = TimeSum()
        self._told_left_out = False
        self._skipped: set[str] = set()  # an image may be read by another rank in each epoch, which finds that anew

    def after(self, point: TrainPoint, trainer: Trainer) -> None:
        """Say what there is to say after `point` of `trainer`."""
        self.skipped(self._problems())
        if trainer.left_out and not self._told_left_out:
            self._told_left_out = True
            self._reporter.warn(_LEFT_OUT)
        if point.time_shares is not None:
            self._time.add(point.time_shares)
        if self.run:
            for alert in self._advice.after(point, trainer.epochs, self.run):
                self._reporter.emit(alert)

    def _problems(self) -> list[str]:
        """Return what could not be read since the last call, by whichever rank."""
        own = self._data.take_problems()
        return own if not self._several_read else [problem for found in self._ranks.gather(own) for problem in found]

    def ends(self, rest: TimeShares | None) -> None:
        """Say where the time of this session's points went, and the `rest` since the last of them."""
        if rest is not None:
            self._time.add(rest)
        shares = self._time.shares()
        if parts := _in_words(shares):
            message = f"where {shares.seconds:,.0f} s of training went: {', '.join(parts)}"
            self._reporter.emit(Log(level="info", message=message))

    def skipped(self, problems: Sequence[str]) -> None:
        """Say which images cannot be used, a line each, and each once."""
        for problem in problems:
            if problem not in self._skipped:
                self._skipped.add(problem)
                self._reporter.warn(f"skipped: {problem}")


def _in_words(shares: TimeShares) -> list[str]:
    found = {words: getattr(shares, part) for part, words in _PARTS.items()}
    if any(found.values()):
        found["other"] = 1 - sum(found.values())
    return [f"{share:.0%} {words}" for words, share in found.items() if round(100 * share) >= 1]
