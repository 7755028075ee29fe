"""What freezing buys: images per second before and after a change of layers, measured on the run itself."""

from finetui.engine.protocol.events import EffectMeasured, TrainPoint

_STEPS = 50  # after a change, and at least this many seconds
_SECONDS = 1.0
_MEMORY_SECONDS = 10.0  # the speed before a change is taken from about this much training


class EffectMeter:
    """Follows the points of a run and says, some time after a change, what it did to the speed."""

    def __init__(self, trainable: int) -> None:
        self._trainable = trainable
        self._images = self._seconds = 0.0
        self._steps = 0
        self._before: tuple[int, float] | None = None

    def changed(self, trainable: int) -> None:
        """Note that `trainable` parameters train from now on."""
        # A second change before the first was measured: the comparison is with what was before both.
        if self._before is None and self._measured():
            self._before = self._trainable, self._images / self._seconds
        self._trainable = trainable
        self._images = self._seconds = 0.0
        self._steps = 0

    def add(self, point: TrainPoint, images: int) -> EffectMeasured | None:
        """Count `point`, a mean over `images` images; return the effect once enough steps came after a change."""
        if not point.samples_per_second:
            return None
        seconds = images / point.samples_per_second
        fade = max(0.0, 1 - seconds / _MEMORY_SECONDS)
        self._images = self._images * fade + images
        self._seconds = self._seconds * fade + seconds
        self._steps += point.steps
        if self._before is None or not self._measured():
            return None
        trainable, speed = self._before
        self._before = None
        return EffectMeasured(
            trainable_before=trainable,
            trainable_after=self._trainable,
            speed_before=speed,
            speed_after=self._images / self._seconds,
        )

    def _measured(self) -> bool:
        return self._steps >= _STEPS and self._seconds >= _SECONDS
