"""What every method goes through that a library calls, so that none of them is the worse for it."""

import functools
from collections.abc import Callable
from typing import ParamSpec

from finetui.engine.errors import describe
from finetui.engine.watching.shared_run import SharedRun, warn

_P = ParamSpec("_P")


def harmless(method: Callable[_P, None]) -> Callable[_P, None]:
    """Let nothing that goes wrong in a method reach the training: a warning says so, and `_run` is watched no more.

    Every method that a library or torch calls is decorated with it. Where several ranks train, what comes before a
    message to the others has to be harmless by itself, or they would wait for it.
    """

    @functools.wraps(method)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  # nothing here is worth a training
            run: SharedRun | None = args[0]._run  # type: ignore[attr-defined]
            if run is not None:
                run._give_up(error)
            else:
                warn(f"finetui watches nothing: {describe(error)}")

    return guarded
