"""A run's past from its journal, and then its live events: every event once, however long the run and its journal."""

import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import msgspec

from finetui.engine.link.frames import Goodbye, ServerFrame, Welcome
from finetui.engine.protocol.events import AnyEvent, Evaluated, RunStarted
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.thinning import Glanced, skipped, thinned

_WRITING_SECONDS = 0.5  # how long the engine may take over the lines that it has counted already


class History:
    """Turns the frames that an engine sends into its events: the journal's past first, each event once.

    It lasts longer than a connection: what was seen already is not told again by the next one.
    """

    def __init__(self) -> None:
        self._reader = JournalReader(Path())
        self._journal = ""
        self._ahead: Glanced | None = None  # read from it, and still to come
        self._seen = -1
        self.goodbye: Goodbye | None = None
        self.welcomed = False  # by the connection that there is now

    def begin(self) -> None:
        """A new connection: the engine is going to say where it is."""
        self.welcomed, self.goodbye = False, None

    def expand(self, frame: ServerFrame) -> Iterator[AnyEvent]:
        """Yield the events that `frame` stands for. Raises `BadInput` when the journal that it names is unreadable."""
        match frame:
            case Welcome():
                if frame.journal:
                    yield from self._past(Path(frame.journal), frame.next_seq)
                self.welcomed = True
            case Goodbye():
                self.goodbye = frame
            case _:
                if frame.seq == 0:  # another session's first event: its journal begins anew
                    self._open("")
                if isinstance(frame, RunStarted):
                    self._follow(str(RunFolder(Path(frame.path)).journal))
                if not 0 <= frame.seq <= self._seen:
                    self._seen = max(self._seen, frame.seq)
                    yield msgspec.structs.replace(frame, confusion=()) if isinstance(frame, Evaluated) else frame

    def _follow(self, journal: str) -> None:
        """What was seen so far is in the file `journal`."""
        self._journal, self._reader, self._ahead = journal, JournalReader(Path(journal)), None

    def _open(self, journal: str) -> None:
        """Nothing was seen yet of what is in the file `journal`."""
        self._follow(journal)
        self._seen = -1

    def _past(self, path: Path, next_seq: int) -> Iterator[AnyEvent]:
        if str(path) != self._journal:
            self._open(str(path))
        size = path.stat().st_size if path.is_file() else 0
        before = skipped(self._reader)
        yield from thinned(self._reader, self._unseen(next_seq), size)
        self._seen = max(self._seen, next_seq - 1)
        after = skipped(self._reader)
        if after is not None and after != before:
            yield after

    def _unseen(self, next_seq: int) -> Iterator[Glanced]:
        # The reader goes on where the connection before left it: who is slow is disconnected, and must not begin anew.
        deadline = time.monotonic() + _WRITING_SECONDS
        last = -1
        while True:
            ahead, self._ahead = [self._ahead] if self._ahead is not None else [], None
            for glanced in chain(ahead, self._reader.glances()):
                seq = glanced[0].seq
                if seq >= next_seq:
                    self._ahead = glanced
                    return
                last = seq
                if seq > self._seen:
                    yield glanced
            # What waits for room on a full disk is not to be had; what is being written is, a moment later.
            if last >= next_seq - 1 or time.monotonic() > deadline:
                return
            time.sleep(0.01)
