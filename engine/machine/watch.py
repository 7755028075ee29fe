"""Watches the machine in a thread of its own, for whoever looks on and for the journal."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Self

from finetui.engine.errors import describe
from finetui.engine.machine.averages import average
from finetui.engine.machine.sampler import Sampler
from finetui.engine.protocol.events import Log, MachineSample
from finetui.engine.protocol.machine import Machine

_SHARE = 0.0005  # of a core: the time between two looks follows from what they cost
_LEAST, _MOST = 2.0, 30.0  # seconds between two looks
_FIRST = 0.2  # seconds until the second look: shares and rates need two
_JOURNAL_LEAST, _JOURNAL_MOST = 10.0, 600.0  # seconds that one sample in the journal stands for
_LEAVE_SECONDS = 2.0  # for the thread to end; one that a driver holds up is left alone, and ends with the process
_MOST_LOOKS = 512  # more than there are in the longest of these
_JOURNAL_SHARE = 1 / 300  # of the time that it has watched by then


def journal_seconds(watched: float) -> float:
    """Return how long a sample in the journal is to stand for, after `watched` seconds: less detail in longer runs.

    A week comes to 2,000 samples, 1 MB with one GPU.
    """
    return min(max(watched * _JOURNAL_SHARE, _JOURNAL_LEAST), _JOURNAL_MOST)


class MachineWatch:
    """While entered, looks at the machine every two seconds or less often, at a cost below 0.05 % of a core.

    Each look is given to `publish`, in the thread that looks; it must not block. What is worth being kept is fetched by
    the engine's own thread, with `due`, since only that writes the journal.
    """

    def __init__(self, publish: Callable[[MachineSample], None], make: Callable[[], Sampler] = Sampler) -> None:
        self._publish = publish
        self._make = make
        self._folder: Path | None = None
        self._lock = threading.Lock()
        # Since the last sample for the journal: while nothing is written, the newest.
        self._looks: deque[tuple[float, Machine]] = deque(maxlen=_MOST_LOOKS)
        self._problem = ""  # why it looks no more, until that is told
        self._ended = threading.Event()
        self._began = self._kept_at = time.monotonic()
        self._thread = threading.Thread(target=self._watch, name="finetui-machine", daemon=True)

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join(_LEAVE_SECONDS)

    def settle(self, folder: Path) -> None:
        """From now on look at the disk that the run's `folder` is on."""
        self._folder = folder

    def due(self) -> MachineSample | Log | None:
        """Return what the journal is to keep of the time since the last such sample; None where it is too early.

        Where it cannot look any more, a warning says so once.
        """
        if self._problem:
            problem, self._problem = self._problem, ""
            return Log(level="warning", message=f"machine monitoring has stopped: {problem}")
        now = time.monotonic()
        if now - self._kept_at < journal_seconds(now - self._began):
            return None
        with self._lock:
            looks = list(self._looks)
            self._looks.clear()
        self._kept_at = now
        seconds = math.fsum(seconds for seconds, _ in looks)
        return MachineSample(machine=average(looks), seconds=round(seconds, 1)) if looks else None

    def _watch(self) -> None:
        try:
            self._look()
        except Exception as error:  # noqa: BLE001  # drivers and files of any kind are read, and none may end a training
            self._problem = describe(error)

    def _look(self) -> None:
        sampler = self._make()
        sampler.read()  # the beginning of the first shares and rates
        looked_at, wait = time.monotonic(), _FIRST
        while not self._ended.wait(wait):
            before = time.thread_time()
            sampler.folder = self._folder
            machine = sampler.read()
            now = time.monotonic()
            seconds, looked_at = now - looked_at, now
            with self._lock:
                self._looks.append((seconds, machine))
            self._publish(MachineSample(machine=machine, seconds=round(seconds, 1), time=time.time()))
            wait = min(max((time.thread_time() - before) / _SHARE, _LEAST), _MOST)
