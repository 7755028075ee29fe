"""Numbers in few characters."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def short(count: int) -> str:
    """Return a count in at most three digits and a letter: 850, 44.4K, 11.7M, 3.64G."""
    return "".join(scaled(count))


_PREFIXES = ("", "K", "M", "G", "T", "P")


def scaled(count: int) -> tuple[str, str]:
    """Return a count in at most three digits, and the letter that goes with them: ("44.4", "K")."""
    if count < 1000:
        return str(count), ""
    value = float(count)
    for prefix in _PREFIXES:
        if value < 999.5 or prefix == _PREFIXES[-1]:
            break
        value /= 1000
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f}", prefix
