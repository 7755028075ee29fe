"""Errors that a person can do something about."""

from finetui.engine.text import clean


class FinetuiError(Exception):
    """A failure with a message for people: what, where, and what to do, in one sentence."""


class BadInput(FinetuiError):
    """Something the caller passed cannot be used; the command line exits with status 2."""


class Cancelled(FinetuiError):
    """A person asked to stop while something long (a download, say) was under way."""


def describe(error: Exception) -> str:
    """Return an error that nobody expected in one sentence, with what can be done about it where that is known."""
    what = f"{type(error).__name__}: {clean(str(error), 500)}"
    # Torch has an error of its own for the memory of a GPU, and a RuntimeError for that of the machine.
    if type(error).__name__ in ("MemoryError", "OutOfMemoryError") or "can't allocate memory" in str(error):
        return f"out of memory ({what}); use a smaller --batch-size, smaller images or a smaller model"
    return what
