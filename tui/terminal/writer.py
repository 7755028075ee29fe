"""Writing to a terminal that may be slow, stalled or gone, without making anybody wait for it."""

import os
import re
import select
import threading
import time
from collections import deque
from collections.abc import Callable

BACKLOG = 65536  # bytes that may wait for the terminal; about two screens of 120x40
STALL_SECONDS = 1.0  # a terminal that takes nothing for so long has stalled: what waits for it is old
_BLOCKED_SECONDS = 0.1  # how soon a writer whose terminal takes nothing sees that it is to stop
_NO_ROOM_SECONDS = 0.01
_CHUNK = 65536
# A pseudo-terminal that says it can take something takes this much; a blocking write of more could wait.
_BLOCKING_CHUNK = 256

# Modes are set once and never again, unlike the picture. Synchronised updates (2026) come and go with each frame.
_SETS_MODES = re.compile(r"(?:\x1b\[(?!\?2026[hl])[?<=>][\d;]*\$?[a-z])+")
# What was dropped may have ended an update, or a colour.
_AFTER_A_GAP = b"\x1b[?2026l\x1b[0m"


class TerminalWriter:
    """A thread that writes text to the terminal `descriptor`, in order and in whole pieces.

    Once more than `BACKLOG` bytes wait, the pieces that wait and those that follow are dropped, but for those that only
    set modes. When the terminal has taken the rest, or what waited while it had stalled, `on_caught_up` is called from
    the thread: everything is to be drawn anew. `on_gone` is called from the thread when the terminal is no more.
    """

    def __init__(
        self, descriptor: int, *, encoding: str, on_caught_up: Callable[[], None], on_gone: Callable[[], None]
    ) -> None:
        self._descriptor = descriptor
        self._encoding = encoding
        self._chunk = chunk_of(descriptor)
        self._on_caught_up = on_caught_up
        self._on_gone = on_gone
        self._changed = threading.Condition()
        self._waiting: deque[tuple[bytes, bool]] = deque()  # pieces, and whether they set modes
        self._waiting_bytes = 0
        self._behind = False
        self._stalled = False
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="terminal-output", daemon=True)
        self._thread.start()

    def put(self, text: str) -> None:
        """Have `text` written, or dropped while the terminal is too far behind; never blocks."""
        data = text.encode(self._encoding, errors="replace")
        sets_modes = _SETS_MODES.fullmatch(text) is not None
        with self._changed:
            if self._stopped:
                return
            if not sets_modes:
                if not self._behind and self._waiting_bytes > BACKLOG:
                    self._behind = True
                    self._waiting = deque(piece for piece in self._waiting if piece[1])
                    self._waiting_bytes = sum(len(piece) for piece, _ in self._waiting)
                if self._behind:
                    self._changed.notify()
                    return
            self._waiting.append((data, sets_modes))
            self._waiting_bytes += len(data)
            self._changed.notify()

    def stop(self, seconds: float = 0.5) -> None:
        """Write no more, and give up what is not written yet: a piece may have been cut short."""
        with self._changed:
            self._stopped = True
            self._waiting.clear()
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(seconds)

    def _run(self) -> None:
        try:
            while (data := self._next()) is not None:
                self._write(data)
        except OSError:  # EIO: the other side has hung up
            with self._changed:
                self._stopped = True
                self._waiting.clear()
            self._on_gone()

    def _next(self) -> bytes | None:
        """Return the next piece, waiting for it; None when there is to be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._behind or self._stalled or self._stopped)
            if self._stopped:
                return None
            if self._waiting:
                data, _ = self._waiting.popleft()
                self._waiting_bytes -= len(data)
                return data
            self._behind = self._stalled = False
        self._on_caught_up()
        return _AFTER_A_GAP

    def _write(self, data: bytes) -> None:
        left, begun = memoryview(data), time.monotonic()
        while left and not self._stopped:
            if select.select([], [self._descriptor], [], _BLOCKED_SECONDS)[1]:
                left = left[write_some(self._descriptor, left[: self._chunk]) :]
                self._stalled |= time.monotonic() - begun >= STALL_SECONDS
                begun = time.monotonic()


def chunk_of(descriptor: int) -> int:
    """Return how many bytes `descriptor` may be given at a time."""
    return _BLOCKING_CHUNK if os.get_blocking(descriptor) else _CHUNK


def write_some(descriptor: int, data: "bytes | memoryview[int]") -> int:
    """Write what `descriptor`, which said that it can take something, takes of `data`; return how many bytes."""
    try:
        return os.write(descriptor, data)
    except BlockingIOError:
        # A newline becomes two bytes and there is room for one: asked again at once, it would say the same.
        time.sleep(_NO_ROOM_SECONDS)
        return 0
