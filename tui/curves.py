"""The history of one number over a run, in bounded memory."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
CAPACITY = 2048  # buckets; even, since full buckets are merged in pairs


class Curve:
    """A series of (x, y) points with x rising, kept as at most `CAPACITY` buckets of equally many points.

    A bucket keeps the least and the greatest y of its points, so that no spike is lost however long the run.
    When all buckets are full, neighbours are merged and each bucket takes twice as many points from then on.
    """

    def __init__(self) -> None:
        self._x = np.empty(CAPACITY)
        self._low = np.empty(CAPACITY)
        self._high = np.empty(CAPACITY)
        self._used = 0  # buckets with at least one point
        self._in_last = 0  # points in the last of them
        self._bucket_size = 1

    def __len__(self) -> int:
        return self._used

    def add(self, x: float, y: float) -> None:
        """Add a point; NaN and infinite values are ignored."""
        if not np.isfinite(y):
            return
        if self._used and self._in_last < self._bucket_size:
            last = self._used - 1
            self._low[last] = min(self._low[last], y)
            self._high[last] = max(self._high[last], y)
            self._x[last] = x
            self._in_last += 1
            return
        if self._used == CAPACITY:
            self._merge()
        self._x[self._used], self._low[self._used], self._high[self._used] = x, y, y
        self._used += 1
        self._in_last = 1

    def _merge(self) -> None:
        half = CAPACITY // 2
        self._x[:half] = self._x[1::2].copy()
        self._low[:half] = np.minimum(self._low[0::2], self._low[1::2])
        self._high[:half] = np.maximum(self._high[0::2], self._high[1::2])
        self._used = half
        self._bucket_size *= 2

    def copy(self) -> "Curve":
        """Return a curve of its own with the same points."""
        other = Curve()
        other._used, other._in_last, other._bucket_size = self._used, self._in_last, self._bucket_size
        for mine, its in ((self._x, other._x), (self._low, other._low), (self._high, other._high)):
            its[: self._used] = mine[: self._used]
        return other

    def cut(self, x: float) -> None:
        """Forget the points behind `x`."""
        self._used = int(np.searchsorted(self._x[: self._used], x, side="right"))
        self._in_last = self._bucket_size  # the next point begins a bucket

    def points(self) -> tuple[Floats, Floats]:
        """Return x and y to draw, float64 `[n]` each: for every bucket its point, or its least and greatest."""
        x, low, high = self._x[: self._used], self._low[: self._used], self._high[: self._used]
        if self._bucket_size == 1:
            return x.copy(), low.copy()
        return np.repeat(x, 2), np.stack([low, high], axis=1).ravel()
