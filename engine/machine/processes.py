"""What the engine and its workers use of the machine."""

import math
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

_LOOK_SECONDS = 10.0  # between two looks for workers
_LOOK_SECONDS_ELSEWHERE = 60.0  # where all processes of the system have to be gone through for that


class Usage(NamedTuple):
    """Since the processes began: seconds of processor time, bytes read and written; and bytes of memory now."""

    cpu: float
    memory: int
    read: int | None
    written: int | None


class EngineProcesses:
    """This process and its workers, those of a fork server among them."""

    def __init__(self) -> None:
        self._own = psutil.Process()
        self._workers: dict[int, psutil.Process] = {}
        self._looked_at = -math.inf
        self._last: dict[int, Usage] = {}
        self._gone = Usage(0.0, 0, 0, 0)  # what workers that have ended had used

    @property
    def workers(self) -> int:
        """How many workers there are."""
        return len(self._workers)

    def __contains__(self, pid: object) -> bool:
        return pid == self._own.pid or pid in self._workers

    def usage(self) -> Usage:
        """Return what they have used, those that have ended included."""
        self._look_for_workers()
        own = _usage(self._own) or Usage(time.process_time(), 0, None, None)
        found = {pid: _usage(process, shared=False) for pid, process in self._workers.items()}
        for pid in [pid for pid, usage in found.items() if usage is None]:
            self._forget(pid)
        self._last = {pid: usage for pid, usage in found.items() if usage is not None}
        everything = _sum([own, *self._last.values(), self._gone])
        # A system that tells nothing of this process tells nothing of any.
        return everything if own.read is not None else everything._replace(read=None, written=None)

    def _forget(self, pid: int) -> None:
        del self._workers[pid]
        last = self._last.pop(pid, None)
        if last is not None:
            self._gone = _sum([self._gone, last])._replace(memory=0)

    def _look_for_workers(self) -> None:
        now = time.monotonic()
        lists_children = sys.platform == "linux" and Path("/proc/self/task").is_dir()
        if now - self._looked_at < (_LOOK_SECONDS if lists_children else _LOOK_SECONDS_ELSEWHERE):
            return
        self._looked_at = now
        try:
            if lists_children:
                pids = _descendants(self._own.pid)
            else:
                pids = {process.pid for process in self._own.children(recursive=True)}
        except psutil.Error:
            return
        for pid in self._workers.keys() - pids:
            self._forget(pid)
        for pid in pids - self._workers.keys():
            with suppress(psutil.Error):  # it has ended meanwhile
                self._workers[pid] = psutil.Process(pid)


def _sum(usages: Sequence[Usage]) -> Usage:
    return Usage(
        cpu=sum(usage.cpu for usage in usages),
        memory=sum(usage.memory for usage in usages),
        read=sum(usage.read or 0 for usage in usages),
        written=sum(usage.written or 0 for usage in usages),
    )


def _descendants(pid: int) -> set[int]:
    """Return the processes below `pid`, as Linux lists them: a few files instead of all processes of the system."""
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for child in _children(Path(f"/proc/{waiting.pop()}/task")):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


def _children(tasks: Path) -> Iterable[int]:
    with suppress(OSError):  # it has ended meanwhile
        for task in tasks.iterdir():
            with suppress(OSError):
                yield from map(int, (task / "children").read_text(encoding="ascii").split())


def _usage(process: psutil.Process, *, shared: bool = True) -> Usage | None:
    """Return what `process` uses; None where it has ended. Without `shared`, memory is its own only."""
    try:
        with process.oneshot():
            times, memory = process.cpu_times(), process.memory_info()
            counters = process.io_counters() if hasattr(process, "io_counters") else None
    except psutil.NoSuchProcess:
        return None
    except psutil.Error:
        return Usage(0.0, 0, None, None)  # it is another user's: a helper with more rights
    own = memory.rss - (0 if shared else min(getattr(memory, "shared", 0), memory.rss))
    disk = (None, None) if counters is None else (counters.read_bytes, counters.write_bytes)
    return Usage(times.user + times.system, own, *disk)
