"""Where the time of many train points went."""

from finetui.engine.protocol.values import TimeShares

_PARTS = tuple(name for name in TimeShares.__struct_fields__ if name != "seconds")
_DIGITS = 4  # of a share, and of the seconds


class TimeSum:
    """Adds up shares by the seconds that they are of; `seconds` counts all of these."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._parts = dict.fromkeys(_PARTS, 0.0)

    def add(self, shares: TimeShares) -> None:
        """Add the time that `shares` are of."""
        self.seconds += shares.seconds
        for part in _PARTS:
            self._parts[part] += getattr(shares, part) * shares.seconds

    def shares(self) -> TimeShares:
        """Return where all of it went; all zeros where nothing was added."""
        return shares_of(self._parts, self.seconds)


def shares_of(parts: dict[str, float], seconds: float) -> TimeShares:
    """Return the seconds of each of `parts` as shares of `seconds`."""
    found = {name: round(part / max(seconds, 1e-9), _DIGITS) for name, part in parts.items()}
    return TimeShares(**found, seconds=round(seconds, _DIGITS))
