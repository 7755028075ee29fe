"""Classes as people type them."""

from collections.abc import Sequence

from finetui.engine.errors import BadInput
from finetui.engine.text import similar

_LISTED = 10


def class_number(text: str | None, classes: Sequence[str], what: str) -> int | None:
    """Return the class that `text` names, by its name or else by its number; None for None.

    Raises `BadInput` that begins with `what` and names near matches.
    """
    if text is None:
        return None
    if text in classes:
        return list(classes).index(text)
    if text.isdecimal() and int(text) < len(classes):
        return int(text)
    close = similar(text, classes)
    more = ", …" if len(classes) > _LISTED else ""
    hint = f"did you mean {' or '.join(close)}?" if close else f"known classes: {', '.join(classes[:_LISTED])}{more}"
    raise BadInput(f"{what}: no class {text!r}; {hint}")
