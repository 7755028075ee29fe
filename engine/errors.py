"""Errors that a person can do something about."""

import re

from finetui.engine.text import clean

_MOST_CHARACTERS = 8192
# What torch, cuBLAS and cuDNN say where the memory of the machine or of a GPU does not suffice.
_NO_MEMORY = re.compile(r"can't allocate memory|out of memory|STATUS_ALLOC_FAILED")
_LONGEST_NAME = 255  # a part of a path is never longer; a hostile name must not hide the rest of the sentence


class FinetuiError(Exception):
    """A failure with a message for people: what, where, and what to do, in one sentence.

    The message is made harmless (see `clean`) here: names and paths go into it as they are.
    """

    def __init__(self, message: str) -> None:
        super().__init__(clean(re.sub(rf"[^\s/'\";]{{{_LONGEST_NAME + 1},}}", _shortened, message), _MOST_CHARACTERS))


def _shortened(name: re.Match[str]) -> str:
    return name[0][: _LONGEST_NAME - 1] + "…"


class BadInput(FinetuiError):
    """Something the caller passed cannot be used; the command line exits with status 2."""


class Cancelled(FinetuiError):
    """A person asked to stop while something long (a download, say) was under way."""


class RankLost(FinetuiError):
    """Another process of those that train the run together is gone."""


def reason_of(error: BaseException, limit: int = 300) -> str:
    """Return what an error of somebody else's code says in one line of at most `limit` characters.

    That is its message or, where it has one, the operating system's.
    """
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return clean(said, limit)


def describe(error: Exception) -> str:
    """Return an error that nobody expected in one sentence, with what can be done about it where that is known."""
    said = str(error)
    what = f"{type(error).__name__}: {clean(said, 500)}"
    # Torch has an error of its own for the memory of a GPU, and a RuntimeError for that of the machine.
    if type(error).__name__ in ("MemoryError", "OutOfMemoryError") or _NO_MEMORY.search(said):
        return f"out of memory ({what}); use a smaller --batch-size, smaller images or a smaller model"
    if type(error).__name__ == "AcceleratorError" or said.startswith(("CUDA error", "cuDNN error", "NCCL error")):
        first = clean(said.strip().partition("\n")[0], 300)  # the other lines are for whoever writes kernels
        return (
            f"the GPU failed ({first}), and this process cannot use it again; if a new process fails too, set "
            "CUDA_LAUNCH_BLOCKING=1 to see which operation fails, and check the GPU with nvidia-smi"
        )
    return what
