"""How often what changes all the time is drawn: as often as looks live, and as a fixed share of a core allows."""

import time

_SHARE = 0.012  # of a core: where training has all of them, its steps get longer by that
_LEAST, _MOST = 0.25, 1.0  # seconds between two pictures
_NEARLY = 0.9  # of the time is enough: who asks does so in steps that are as long


class RefreshRate:
    """Tells when the next picture is due.

    Beside a training on every core the same picture takes two or three times as long as on an idle machine, and it is
    the training that waits. So the processor time of the whole process since the last picture decides when the next
    one may come.
    """

    def __init__(self) -> None:
        self._at = self._spent = 0.0
        self._interval = _LEAST

    def due(self) -> bool:
        """Whether it is time for a picture."""
        return time.monotonic() - self._at >= _NEARLY * self._interval

    def stretched(self, seconds: float) -> float:
        """Return `seconds`, between two pictures of what costs most, in the measure in which all are further apart."""
        return _NEARLY * seconds * self._interval / _LEAST  # it goes with the picture that is due then

    def hurry(self) -> None:
        """Have the next picture be due at once."""
        self._interval = 0.0

    def drawn(self) -> None:
        """Note that there is one now."""
        spent = time.process_time()
        self._interval = min(max((spent - self._spent) / _SHARE, _LEAST), _MOST)
        self._at, self._spent = time.monotonic(), spent
