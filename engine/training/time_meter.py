"""Where the time of a training goes, at the cost of two looks at the clock for each step."""

from collections.abc import Callable
from time import perf_counter
from typing import TypeVar

from finetui.engine.data import Split
from finetui.engine.protocol.time_sum import shares_of
from finetui.engine.protocol.values import TimeShares

_T = TypeVar("_T")


class TimeMeter:
    """Adds up what the thread that trains does between two points; see `TimeShares` for what is counted as what.

    `evaluating` and `saving` are the seconds of these, added to by whoever does it.
    """

    def __init__(self, data: Split) -> None:
        """Measure steps on batches of `data`."""
        self._data = data
        self.restart()

    def restart(self) -> None:
        """Begin anew: what came before, a pause say, counts in nothing."""
        self._began = perf_counter()
        self._stepping = self._waiting = self._copying = self.evaluating = self.saving = 0.0

    def step(self, work: Callable[[], _T]) -> _T:
        """Do `work`, a training step or the wait for what steps have left, and return what it does."""
        data = self._data
        waited, copied, began = data.waited, data.copied, perf_counter()
        done = work()
        self._stepping += perf_counter() - began
        self._waiting += data.waited - waited
        self._copying += data.copied - copied
        return done

    def take(self) -> TimeShares:
        """Return where the time went since the last call, or `restart`, and begin anew."""
        seconds = perf_counter() - self._began
        parts = {
            "waiting": self._waiting,
            "copying": self._copying,
            "computing": max(self._stepping - self._waiting - self._copying, 0.0),
            "evaluating": self.evaluating,
            "saving": self.saving,
        }
        self.restart()
        return shares_of(parts, seconds)
