"""Rows of numbers put together into few train points."""

import math
from collections.abc import Iterator, Mapping

from finetui.engine.protocol.events import ThinnedPoint, TrainPoint


class Bucket:
    """Up to `size` rows; of one each is a point of its own, of more the least, the greatest and the mean remain.

    `rows` are those with numbers of the training, `beside` those with other numbers alone.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.clear()

    def clear(self) -> None:
        """Forget the rows."""
        self.rows = self.beside = 0
        self._at: tuple[int, float, int] = (0, 0.0, 0)
        # Least, greatest, last, sum and count of each number, by its name: finetui's, and the run's own ones.
        self._figures: dict[str, list[float]] = {}
        self._others: dict[str, list[float]] = {}

    @property
    def is_full(self) -> bool:
        """Whether it has all its rows."""
        return self.rows + self.beside >= self.size

    def add(
        self, step: int, time: float, epoch: int, figures: Mapping[str, float], others: Mapping[str, float]
    ) -> None:
        """Add a row of `figures` and of the run's own numbers."""
        self.rows += 1
        self._at = step, time, epoch
        for table, told in ((self._figures, figures), (self._others, others)):
            for name, value in told.items():
                known = table.get(name)
                if known is None:
                    table[name] = [value, value, value, value, 1]
                elif math.isfinite(value):
                    known[0] = min(known[0], value)
                    known[1] = max(known[1], value)
                    known[2] = value
                    known[3] += value
                    known[4] += 1

    def knows(self, figure: str, other: str = "") -> bool:
        """Whether it has values of `figure`, or of the run's own number `other`."""
        return figure in self._figures or other in self._others

    def join(
        self,
        at: tuple[int, float, int],
        rows: int,
        figures: Mapping[str, list[float]],
        others: Mapping[str, list[float]],
    ) -> None:
        """Add `rows` rows, the last one `at` its step, time and epoch, that were summed up.

        Of each number come least, greatest, last, sum and count, of the finite ones where it is known already.
        """
        self.rows += rows
        self._at = at
        for table, told in ((self._figures, figures), (self._others, others)):
            for name, (least, greatest, last, total, count) in told.items():
                known = table.get(name)
                if known is None:
                    table[name] = [least, greatest, last, total, count]
                else:
                    known[:] = (
                        min(known[0], least), max(known[1], greatest), last, known[3] + total, known[4] + count
                    )  # fmt: skip

    def points(self, since: int) -> Iterator[TrainPoint]:
        """Yield the points that the rows make, the first of which begins after step `since`, and forget the rows."""
        if not self.rows:
            self.clear()
            return
        rows, (step, time, epoch) = self.rows, self._at
        figures, others = self._figures, self._others
        self.clear()
        steps = max(step - since, 1)

        def point(which: int) -> TrainPoint:
            def figure(name: str) -> float | None:
                return figures[name][which] if name in figures else None

            return TrainPoint(
                time=time, step=step, epoch=epoch, step_in_epoch=0, steps=steps,
                others={name: values[which] for name, values in others.items()},
                loss=figure("loss"), accuracy=figure("accuracy"),
                learning_rate=figure("lr"), grad_norm=figure("grad_norm"), samples_per_second=figure("speed"),
            )  # fmt: skip

        if rows == 1:
            yield point(2)
            return
        means = {name: values[3] / values[4] for name, values in figures.items()}
        for which in (0, 1):
            one = point(which)
            fields = {name: getattr(one, name) for name in one.__struct_fields__}
            yield ThinnedPoint(
                **fields, points=rows / 2, mean_loss=means.get("loss"), mean_accuracy=means.get("accuracy"),
                means={name: values[3] / values[4] for name, values in others.items()},
            )  # fmt: skip
