"""The process that writes one log of a run: `python -m finetui.engine.loggers.writer NAME ENGINE`, the process id.

Its standard input is a `Beginning`, then the run's events, all of them lines of JSON; when that ends, so does the log.
What a person should read goes to standard output, a line each. Whatever the tool's library prints goes to a file of the
run's folder, which is also locked: after a killed engine the next one's log waits for the end of this one.
"""

import fcntl
import os
import signal
import sys
import threading
import time
from collections import deque
from importlib import import_module
from typing import BinaryIO

import msgspec

from finetui.engine.errors import reason_of
from finetui.engine.loggers.base import About, RunLog
from finetui.engine.loggers.recorder import Recorder
from finetui.engine.protocol.events import AnyEvent
from finetui.engine.protocol.values import LayerGroup
from finetui.engine.text import clean

_LOGS = {
    "csv": ("csv_log", "CsvLog"),
    "tensorboard": ("tensorboard_log", "TensorBoardLog"),
    "trackio": ("trackio_log", "TrackioLog"),
    "wandb": ("wandb_log", "WandbLog"),
}
_RETRY_SECONDS = 5.0
_MOST_WAITING = 20_000  # events, while a disk is full
_END_SECONDS = 60.0  # that a log may take when its engine is gone
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


class Beginning(msgspec.Struct, frozen=True, kw_only=True):
    """The first line: the run, and its layer table."""

    about: About
    layers: tuple[LayerGroup, ...]


class _Writer:
    """Gives the events of `source` to the log `name`; what may mend itself, a full disk, is tried again."""

    def __init__(self, name: str, source: BinaryIO, answers: BinaryIO) -> None:
        self._name = name
        self._source = source
        self._answers = answers
        self._waiting: deque[AnyEvent] = deque(maxlen=_MOST_WAITING)
        self._problem = ""
        self._retry_at = 0.0

    def run(self) -> int:
        """Write until the input ends; return the exit status."""
        first = self._source.readline()
        if not first:
            return 0  # nothing has begun
        beginning = msgspec.json.decode(first, type=Beginning)
        recorder = Recorder(lambda: self._make(beginning.about), beginning.about, beginning.layers)
        try:
            for line in self._source:
                if line.endswith(b"\n"):  # or the engine was killed in the middle of it
                    self._waiting.append(_decoder.decode(line))
                    self._write(recorder)
            self._retry_at = 0.0
            self._write(recorder)
            recorder.close()
        except Exception as error:  # noqa: BLE001  # a library of any kind, and none may end a training
            self._say(f"the {self._name} log has ended: {type(error).__name__}: {reason_of(error)}")
            return 1
        return 0

    def _make(self, about: About) -> RunLog:
        module, name = _LOGS[self._name]
        log: RunLog = getattr(import_module(f"finetui.engine.loggers.{module}"), name)(about)
        return log

    def _write(self, recorder: Recorder) -> None:
        """Write what waits. A problem that may mend itself is said, and all waits for a few seconds."""
        if self._problem and time.monotonic() < self._retry_at:
            return
        try:
            while self._waiting:
                self._say(recorder.take(self._waiting[0]))
                self._waiting.popleft()
        except OSError as error:
            if not self._problem:
                self._say(f"the {self._name} log cannot be written: {reason_of(error)}; trying again")
            self._problem, self._retry_at = reason_of(error), time.monotonic() + _RETRY_SECONDS
            try:
                recorder.give_up()
            except OSError:
                return  # for the same reason
        else:
            if self._problem:
                self._problem = ""
                self._say(f"the {self._name} log can be written again")

    def _say(self, text: str) -> None:
        if text:
            try:
                self._answers.write(clean(text, 500).encode() + b"\n")
                self._answers.flush()
            except OSError:
                return  # the engine is gone


def _outlive(engine: int) -> None:
    """End the process a while after its `engine`, whatever it is at: a library may wait for a network for ever."""
    while os.getppid() == engine:
        time.sleep(1.0)
    time.sleep(_END_SECONDS)
    os._exit(1)


def main() -> int:
    """Write the log that the command line names."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when the engine does
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries print, and the engine listens
    threading.Thread(target=_outlive, args=[int(sys.argv[2])], daemon=True).start()
    fcntl.flock(2, fcntl.LOCK_EX)
    return _Writer(sys.argv[1], sys.stdin.buffer, answers).run()


if __name__ == "__main__":
    sys.exit(main())
