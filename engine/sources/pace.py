"""How often something is added to a run's files, and for how long nothing may come before it is called stopped."""

from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

LEAST_SECONDS = 150.0  # PyTorch's writer keeps events back for up to two minutes
UNKNOWN_SECONDS = 600.0  # where the files do not tell how often something comes
_TIMES_USUAL, _TIMES_PAUSE = 3, 2
_LONGEST_PAUSE = 3600.0  # seconds: a longer one is the time between two trainings
_MANY = 1000  # rows
_RECENT = 100  # gaps that the usual one is taken of


class Pace:
    """Hears when something came, in Unix seconds, ascending but for restarts."""

    def __init__(self) -> None:
        self._latest = self._changed = 0.0
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._pauses = [0.0, 0.0]  # the two longest
        self._waiting: list[float] = []  # times of rows that came one by one

    def row(self, time: float) -> None:
        """Take in the time of the next row."""
        self._waiting.append(time)
        if len(self._waiting) >= _MANY:
            self._settle()

    def _settle(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            self.rows(waiting)

    def rows(self, times: Sequence[float] | npt.NDArray[np.float64]) -> None:
        """Take in the times of the next rows; 0 is of one that tells none."""
        self._settle()
        told = np.asarray(times, float)
        told = told[np.isfinite(told) & (told > 0)]
        if not len(told):
            return
        gaps = np.diff(told, prepend=self._latest or told[0])
        self._latest = float(told[-1])
        self._take(gaps[gaps > 0])

    def changed(self, times: Sequence[float]) -> None:
        """Take in when the files were seen to have changed."""
        for at in times:
            if at > self._changed > 0:
                self._take(np.array([at - self._changed]))
            self._changed = max(at, self._changed)

    def _take(self, gaps: npt.NDArray[np.float64]) -> None:
        self._recent.extend(gaps[-_RECENT:].tolist())
        pauses = gaps[gaps <= _LONGEST_PAUSE]
        if len(pauses) and pauses.max() > self._pauses[0]:
            self._pauses = sorted([*self._pauses, *np.sort(pauses)[-2:].tolist()])[-2:]

    @property
    def patience(self) -> float:
        """For how many seconds nothing may come: three usual gaps, and twice the longest pause but one.

        Evaluations are such pauses; the longest one may have been between two trainings.
        """
        self._settle()
        if not self._recent:
            return UNKNOWN_SECONDS
        usual = float(np.median(np.array(self._recent)))
        return max(LEAST_SECONDS, _TIMES_USUAL * usual, _TIMES_PAUSE * self._pauses[0])
