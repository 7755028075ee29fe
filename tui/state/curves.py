"""The history of one number over a run, in bounded memory."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
CAPACITY = 2048  # buckets; even, since full buckets are merged in pairs
_FIRST = 32  # buckets that there is room for at first: most curves have few points
_KEPT = ("_x", "_low", "_high", "_mean", "_weight")  # of a curve, an array each


class Buckets(NamedTuple):
    """The last x, and the least, greatest and mean y of each bucket, float64 `[n]` each."""

    x: Floats
    low: Floats
    high: Floats
    mean: Floats


class Curve:
    """A series of (x, y) points with x rising, kept as at most `CAPACITY` buckets of equally many points.

    A bucket keeps the least, the greatest and the mean y of its points, so that no spike is lost however long the run.
    When all buckets are full, neighbours are merged and each bucket takes twice as many points from then on. A point
    may stand for several, as it does in a history that was thinned on the way.
    """

    def __init__(self) -> None:
        self._x = np.empty(_FIRST)
        self._low = np.empty(_FIRST)
        self._high = np.empty(_FIRST)
        self._mean = np.empty(_FIRST)
        self._weight = np.empty(_FIRST)  # points that a bucket stands for
        self._latest = math.nan
        self._used = 0  # buckets with at least one point
        self._in_last = 0  # points in the last of them
        self._bucket_size = 1
        self._smoothed_with = math.nan
        self._smoothed = 0  # buckets that there is an average of
        self._averages = np.empty((2, 0))  # by bucket, and the sum of its weights

    def __len__(self) -> int:
        return self._used

    def add(self, x: float, y: float, mean: float | None = None, weight: float = 1.0) -> None:
        """Add a point, one of `weight` points with this `mean`; NaN and infinite values are ignored."""
        if not math.isfinite(y):
            return
        if mean is None or not math.isfinite(mean):
            mean = y
        self._latest = y
        if self._used and self._in_last < self._bucket_size:
            last = self._used - 1
            if y < self._low[last]:
                self._low[last] = y
            elif y > self._high[last]:
                self._high[last] = y
            self._x[last] = x
            self._in_last += 1
            self._weight[last] += weight
            self._mean[last] += (mean - self._mean[last]) * weight / self._weight[last]
            return
        if self._used == CAPACITY:
            self._merge()
        if self._used == len(self._x):
            self._make_room(min(max(2 * self._used, _FIRST), CAPACITY))
        new = ((self._x, x), (self._low, y), (self._high, y), (self._mean, mean), (self._weight, weight))
        for kept, value in new:
            kept[self._used] = value
        self._used += 1
        self._in_last = 1

    def _make_room(self, buckets: int) -> None:
        for name in _KEPT:
            kept = np.empty(buckets)
            kept[: self._used] = getattr(self, name)[: self._used]
            setattr(self, name, kept)

    def _merge(self) -> None:
        self._smoothed_with = math.nan
        half = CAPACITY // 2
        self._x[:half] = self._x[1::2].copy()
        self._low[:half] = np.minimum(self._low[0::2], self._low[1::2])
        self._high[:half] = np.maximum(self._high[0::2], self._high[1::2])
        weight = self._weight[0::2] + self._weight[1::2]
        self._mean[:half] = (self._mean[0::2] * self._weight[0::2] + self._mean[1::2] * self._weight[1::2]) / weight
        self._weight[:half] = weight
        self._used = half
        self._bucket_size *= 2

    def copy(self) -> "Curve":
        """Return a curve of its own with the same points."""
        other = Curve()
        for name in ("_used", "_in_last", "_bucket_size", "_latest"):
            setattr(other, name, getattr(self, name))
        for name in _KEPT:
            setattr(other, name, getattr(self, name)[: self._used].copy())
        return other

    def cut(self, x: float) -> None:
        """Forget the points behind `x`."""
        self._smoothed_with = math.nan
        self._used = int(np.searchsorted(self._x[: self._used], x, side="right"))
        self._in_last = self._bucket_size  # the next point begins a bucket
        self._latest = float(self._mean[self._used - 1]) if self._used else math.nan

    def mean(self) -> float:
        """Return the mean of all points, NaN where there is none."""
        if not self._used:
            return math.nan
        return float(np.average(self._mean[: self._used], weights=self._weight[: self._used]))

    def means(self) -> tuple[Floats, Floats]:
        """Return x and the mean of every bucket, float64 `[n]` each."""
        return self._x[: self._used].copy(), self._mean[: self._used].copy()

    @property
    def span(self) -> tuple[float, float]:
        """The first and the last x, of a curve that has points."""
        return float(self._x[0]), float(self._x[self._used - 1])

    def buckets(self) -> Buckets:
        """Return all that is known of the points."""
        return Buckets(*(kept[: self._used].copy() for kept in (self._x, self._low, self._high, self._mean)))

    def smoothed(self, weight: float) -> tuple[Floats, Floats]:
        """Return x and the exponential moving average of the points until then, float64 `[n]` each, by bucket.

        Each point counts `weight` (0 to 1) times as much as the one after it. The first ones are no less than later
        ones: divided by the sum of all weights so far, as in Kingma and Ba, "Adam" (2015), section 3.
        """
        if weight != self._smoothed_with:
            self._smoothed_with, self._smoothed = weight, 0
        if self._averages.shape[1] != len(self._x):
            averages = np.empty((2, len(self._x)))
            averages[:, : self._smoothed] = self._averages[:, : self._smoothed]
            self._averages = averages
        first, last = max(self._smoothed - 1, 0), self._used  # the last bucket may have got points since
        average, total = self._averages[:, first - 1].tolist() if first else (0.0, 0.0)
        kept, means = weight ** self._weight[first:last], self._mean[first:last]
        for index, (past, mean) in enumerate(zip(kept.tolist(), means.tolist(), strict=True), first):
            average = past * average + (1 - past) * mean
            total = past * total + (1 - past)
            self._averages[:, index] = average, total
        self._smoothed = last
        return self._x[:last].copy(), self._averages[0, :last] / self._averages[1, :last]

    def points(self) -> tuple[Floats, Floats]:
        """Return x and y to draw, float64 `[n]` each: all points, or each bucket's least and greatest and the last."""
        x, low, high = self._x[: self._used], self._low[: self._used], self._high[: self._used]
        if self._bucket_size == 1:
            return x.copy(), low.copy()
        return np.append(np.repeat(x, 2), x[-1:]), np.append(np.stack([low, high], axis=1), self._latest)
