"""Whether the process that started this one is still there: nothing trains on when its launcher is gone."""

import os
import threading
from collections.abc import Callable
from typing import Self

from finetui.engine.protocol.requests import LAUNCHER_VARIABLE

_INTERVAL = 0.5
_GRACE_SECONDS = 4.0  # to save and leave; 5 s after its launcher, a rank is gone


class ParentWatch:
    """While entered, calls `on_orphaned` in a thread once the parent has ended, and ends the process soon after.

    Its exit status is then 143, as after a SIGTERM.
    """

    def __init__(self, on_orphaned: Callable[[], None]) -> None:
        self._on_orphaned = on_orphaned
        # It may have ended before this process came so far.
        self._parent = int(os.environ.get(LAUNCHER_VARIABLE) or os.getppid())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="finetui-parent", daemon=True)

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more."""
        self._ended.set()

    def _run(self) -> None:
        while os.getppid() == self._parent:
            if self._ended.wait(_INTERVAL):
                return
        self._on_orphaned()
        if not self._ended.wait(_GRACE_SECONDS):
            os._exit(143)
