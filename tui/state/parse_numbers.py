"""Numbers that a person typed."""

import math

from finetui.engine.errors import BadInput


def number(text: str, what: str) -> float:
    """Return the finite number that `text` says. Raises `BadInput`, which names `what` it was to be."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadInput(f"{what}: {text!r} is not a number" if text else f"{what}: type a number")
    return value


def whole(text: str, what: str) -> int:
    """Return the whole number that `text` says. Raises `BadInput`, which names `what` it was to be."""
    value = number(text, what)
    if value != int(value):
        raise BadInput(f"{what}: {text!r} is not a whole number")
    return int(value)
