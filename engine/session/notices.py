"""What is said of a training besides its figures: images that were skipped, batches that were left out."""

from collections.abc import Sequence

from finetui.engine.data import ImageData
from finetui.engine.protocol.events import TrainPoint
from finetui.engine.runs.reporter import Reporter

_LEFT_OUT = (
    "a batch of which one image is left, since the others cannot be read, is passed over: batch normalisation needs two"
)


class Notices:
    """Looks at each point of a training on `data`, and says to `reporter` what a person should know, once."""

    def __init__(self, data: ImageData, reporter: Reporter) -> None:
        self._data = data
        self._reporter = reporter
        self._told_left_out = False

    def after(self, _point: TrainPoint, left_out: int) -> None:
        """Say what there is to say after `point`; `left_out` counts the batches that were passed over so far."""
        self.skipped(self._data.take_problems())
        if left_out and not self._told_left_out:
            self._told_left_out = True
            self._reporter.warn(_LEFT_OUT)

    def skipped(self, problems: Sequence[str]) -> None:
        """Say which images cannot be used, a line each."""
        for problem in problems:
            self._reporter.warn(f"skipped: {problem}")
