"""The sink that passes a run's events on to the processes that write its logs; training never waits for them."""

import hashlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

from finetui.engine.errors import reason_of
from finetui.engine.loggers.base import About
from finetui.engine.loggers.recorder import WRITTEN
from finetui.engine.loggers.writer import Beginning
from finetui.engine.protocol.events import COALESCIBLE, AnyEvent, Log, RunPrepared, RunStarted
from finetui.engine.runs.folder import RunFolder, how_it_began
from finetui.engine.runs.journal import encode_line
from finetui.engine.text import clean

_MOST_WAITING = 10_000  # events that a slow log has not taken yet
_KEPT_FREE = 1_000  # places for what is no point
_END_SECONDS = 30.0  # that a log may take to end, when the run has
_STOP_SECONDS = 1.5  # when it was stopped or has failed: whoever ends an engine does not wait
_ENDED = None  # in a queue: nothing comes any more


class RunLogs:
    """A sink that has the run written into the tools `names`, from its start on; `close` ends that.

    `resume` is the folder of a run that goes on. What goes wrong is fetched with `take_message`, in the thread that may
    write the journal.
    """

    def __init__(self, names: Sequence[str], resume: RunFolder | None = None) -> None:
        self._names = names
        self._resume = resume
        self._messages: deque[str] = deque()
        self._logs: list[_Log] = []
        self._prepared: RunPrepared | None = None
        self._early: list[AnyEvent] = []  # a branch is rewound, and the provenance told, before there is a folder

    def __call__(self, event: AnyEvent) -> None:
        """Pass `event` on; it never blocks."""
        if not self._names:
            return
        if self._resume is not None:
            self._go_on(self._resume)
        if isinstance(event, RunPrepared):
            self._prepared = event
        elif isinstance(event, RunStarted) and self._prepared is not None and not self._logs:
            self._begin(self._prepared, RunFolder(Path(event.path)))
        if isinstance(event, WRITTEN):
            for log in self._logs:
                log.put(event)
            if not self._logs:
                self._early.append(event)

    def take_message(self) -> Log | None:
        """Return the next thing that a person should read of the logs, if there is one."""
        try:
            return Log(level="warning", message=self._messages.popleft())
        except IndexError:
            return None

    def close(self, *, patient: bool = True) -> None:
        """Have all that was passed on written; a log that takes longer than half a minute is ended as it is.

        Not `patient`: it is left to itself after a moment, and ends on its own.
        """
        for log in self._logs:
            log.end()
        deadline = time.monotonic() + (_END_SECONDS if patient else _STOP_SECONDS)
        for log in self._logs:
            log.wait(max(deadline - time.monotonic(), 0.0), leave=not patient)
        self._logs.clear()

    def _go_on(self, folder: RunFolder) -> None:
        self._resume = None
        prepared = how_it_began(folder)
        if prepared is not None:
            self._begin(prepared, folder)
        else:
            self._messages.append("the journal does not say how the run began, so logging has stopped")
            self._names = ()

    def _begin(self, prepared: RunPrepared, folder: RunFolder) -> None:
        about = About(
            name=folder.name,
            folder=str(folder.path.absolute()),
            # A journal that is copied or renamed is still that of this run.
            id=hashlib.sha256(f"{prepared.time!r} {prepared.data.name}".encode()).hexdigest()[:16],
            config=prepared.config,
            classes=tuple(map(clean, prepared.data.classes)),
            groups=tuple(group.name for group in prepared.layers),
            watched=prepared.data.watched,
        )
        beginning = msgspec.json.encode(Beginning(about=about, layers=prepared.layers)) + b"\n"
        self._logs = [_Log(name, folder, beginning, self._messages) for name in self._names]
        for event in self._early:
            for log in self._logs:
                log.put(event)
        self._early.clear()


class _Log:
    """One log: the process that writes it, and a thread that feeds it from a bounded queue."""

    def __init__(self, name: str, folder: RunFolder, beginning: bytes, messages: deque[str]) -> None:
        self._name = name
        self._printed = folder.path / f"{name}.log"
        self._beginning = beginning
        self._messages = messages
        self._queue: queue.Queue[AnyEvent | None] = queue.Queue(_MOST_WAITING)
        self._missing = 0
        self._given = self._killed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._feed, name=f"finetui-log-{name}", daemon=True)
        self._thread.start()

    def put(self, event: AnyEvent) -> None:
        """Have `event` written; where there is no room it is left out, points first."""
        point = isinstance(event, COALESCIBLE)
        if point and self._queue.qsize() > _MOST_WAITING - _KEPT_FREE:
            self._missing += 1
            return
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self._missing += 1

    def end(self) -> None:
        """Let the log end once all is written."""
        while True:
            try:
                self._queue.put_nowait(_ENDED)
                return
            except queue.Full:
                with suppress(queue.Empty):
                    self._queue.get_nowait()
                self._missing += 1

    def wait(self, seconds: float, *, leave: bool = False) -> None:
        """Wait for that; end it where it takes longer, or `leave` it, where it has been given everything."""
        self._thread.join(seconds)
        if self._thread.is_alive() and leave and self._given:
            return
        if self._thread.is_alive():
            self._killed = True
            if self._process is not None:
                self._process.kill()
            self._messages.append(f"the {self._name} log did not finish in time, and is incomplete")
        elif self._missing:
            self._messages.append(f"the {self._name} log was too slow: {self._missing:,} events are missing from it")

    def _feed(self) -> None:
        ended = False
        try:
            self._process = self._start()
            assert self._process.stdin is not None and self._process.stdout is not None, "pipes were asked for"
            reader = threading.Thread(target=self._listen, args=[self._process.stdout], daemon=True)
            reader.start()
            with self._process.stdin as pipe:
                pipe.write(self._beginning)
                while (event := self._queue.get()) is not _ENDED:
                    pipe.write(encode_line(event))
                    if self._queue.empty():
                        pipe.flush()
                ended = True
            self._given = True
            reader.join()
            self._process.wait()
            self._tidy()
        except (OSError, ValueError) as error:  # it cannot be started, or has ended by itself
            status = None if self._process is None else self._process.wait()
            if status != 1 and not self._killed:  # else that was said
                self._messages.append(f"the {self._name} log has ended: {reason_of(error)}")
            if not ended:
                self._drain()

    def _start(self) -> "subprocess.Popen[bytes]":
        with self._printed.open("ab") as printed:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "finetui.engine.loggers.writer", self._name, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed,
                start_new_session=True,  # what interrupts the engine is no matter of its logs
            )

    def _listen(self, answers: IO[bytes]) -> None:
        with answers:
            for line in answers:
                self._messages.append(clean(line.decode(errors="replace").strip(), 500))

    def _drain(self) -> None:
        """Take what comes, for nobody, so that nothing is kept and counted as missing."""
        while self._queue.get() is not _ENDED:
            pass

    def _tidy(self) -> None:
        """Remove the file for what is printed, where nothing was."""
        if self._printed.exists() and not self._printed.stat().st_size:
            self._printed.unlink()
