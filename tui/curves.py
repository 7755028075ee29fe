"""The history of one number over a run, in bounded memory."""

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
CAPACITY = 2048  # buckets; even, since full buckets are merged in pairs


class Curve:
    """A series of (x, y) points with x rising, kept as at most `CAPACITY` buckets of equally many points.

    A bucket keeps the least, the greatest and the mean y of its points, so that no spike is lost however long the run.
    When all buckets are full, neighbours are merged and each bucket takes twice as many points from then on.
    """

    def __init__(self) -> None:
        self._x = np.empty(CAPACITY)
        self._low = np.empty(CAPACITY)
        self._high = np.empty(CAPACITY)
        self._mean = np.empty(CAPACITY)
        self._used = 0  # buckets with at least one point
        self._in_last = 0  # points in the last of them
        self._bucket_size = 1

    def __len__(self) -> int:
        return self._used

    def add(self, x: float, y: float) -> None:
        """Add a point; NaN and infinite values are ignored."""
        if not math.isfinite(y):
            return
        if self._used and self._in_last < self._bucket_size:
            last = self._used - 1
            if y < self._low[last]:
                self._low[last] = y
            elif y > self._high[last]:
                self._high[last] = y
            self._x[last] = x
            self._in_last += 1
            self._mean[last] += (y - self._mean[last]) / self._in_last
            return
        if self._used == CAPACITY:
            self._merge()
        for kept, value in ((self._x, x), (self._low, y), (self._high, y), (self._mean, y)):
            kept[self._used] = value
        self._used += 1
        self._in_last = 1

    def _merge(self) -> None:
        half = CAPACITY // 2
        self._x[:half] = self._x[1::2].copy()
        self._low[:half] = np.minimum(self._low[0::2], self._low[1::2])
        self._high[:half] = np.maximum(self._high[0::2], self._high[1::2])
        self._mean[:half] = (self._mean[0::2] + self._mean[1::2]) / 2  # all buckets are full
        self._used = half
        self._bucket_size *= 2

    def copy(self) -> "Curve":
        """Return a curve of its own with the same points."""
        other = Curve()
        other._used, other._in_last, other._bucket_size = self._used, self._in_last, self._bucket_size
        for name in ("_x", "_low", "_high", "_mean"):
            getattr(other, name)[: self._used] = getattr(self, name)[: self._used]
        return other

    def cut(self, x: float) -> None:
        """Forget the points behind `x`."""
        self._used = int(np.searchsorted(self._x[: self._used], x, side="right"))
        self._in_last = self._bucket_size  # the next point begins a bucket

    def mean(self) -> float:
        """Return the mean of all points, NaN where there is none."""
        if not self._used:
            return math.nan
        counts = np.full(self._used, self._bucket_size, dtype=np.float64)
        counts[-1] = self._in_last
        return float(np.average(self._mean[: self._used], weights=counts))

    def points(self) -> tuple[Floats, Floats]:
        """Return x and y to draw, float64 `[n]` each: for every bucket its point, or its least and greatest."""
        x, low, high = self._x[: self._used], self._low[: self._used], self._high[: self._used]
        if self._bucket_size == 1:
            return x.copy(), low.copy()
        return np.repeat(x, 2), np.stack([low, high], axis=1).ravel()
