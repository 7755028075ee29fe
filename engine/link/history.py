"""A run's past from its journal, and then its live events: every event once, however long the run and its journal."""

import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import msgspec

from finetui.engine.link.frames import Goodbye, ServerFrame, Welcome
from finetui.engine.protocol.events import AnyEvent, Evaluated, Log, RunStarted, ThinnedPoint, TrainPoint
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import Glance, JournalReader

_BUCKETS = 1024  # a few points each: more than a terminal has columns
_POINT, _EVALUATED = TrainPoint.__struct_config__.tag, Evaluated.__struct_config__.tag
_LINE_BYTES = 300  # of a train point, at least
_WRITING_SECONDS = 0.5  # how long the engine may take over the lines that it has counted already


Glanced = tuple[Glance, bytes]


def thinned(reader: JournalReader, lines: Iterable[Glanced], journal_bytes: int) -> Iterator[AnyEvent]:
    """Yield the events that `lines` of a journal are, without most train points of a long one: no plot has that room.

    Of each bucket of points those with the least and the greatest loss and accuracy remain, each a `ThinnedPoint` that
    tells of the means, and the last one of all. `reader` makes events of lines.
    """
    size = max(journal_bytes // (_LINE_BYTES * _BUCKETS), 1)
    bucket: list[Glanced] = []
    for glanced in lines:
        if size > 1 and glanced[0].type == _POINT:
            if len(bucket) == size:
                yield from _extremes(reader, bucket)
                bucket.clear()
            bucket.append(glanced)
        else:
            yield from _extremes(reader, bucket, last=True)
            yield from _events(reader, [glanced])
            bucket.clear()
    yield from _extremes(reader, bucket, last=True)


def _events(reader: JournalReader, lines: Iterable[Glanced]) -> Iterator[AnyEvent]:
    for glance, line in lines:
        event = reader.decode(_without_matrix(line) if glance.type == _EVALUATED else line)
        if event is not None:
            yield event


def _without_matrix(line: bytes) -> bytes:
    """Return the line of an evaluation without its confusion matrix, which a dashboard takes from the predictions.

    One of a thousand classes is 8 MB in memory, and there is one for every evaluation.
    """
    start = line.find(b'"confusion":[[')  # within a text, its quotes would be escaped
    end = line.find(b"]]", start)
    return line if min(start, end) < 0 else line[:start] + b'"confusion":[' + line[end + 1 :]


def _extremes(reader: JournalReader, bucket: list[Glanced], *, last: bool = False) -> Iterator[AnyEvent]:
    if len(bucket) < 5:
        yield from _events(reader, bucket)
        return
    losses, accuracies = [glance.loss for glance, _ in bucket], [glance.accuracy for glance, _ in bucket]
    kept = {values.index(extreme(values)) for values in (losses, accuracies) for extreme in (min, max)}
    if last:  # what comes next may be told from here
        kept.add(len(bucket) - 1)
    count = len(bucket)
    mean_loss, mean_accuracy = sum(losses) / count, sum(accuracies) / count
    for index in sorted(kept):
        for event in _events(reader, [bucket[index]]):
            values = msgspec.structs.asdict(event)
            if not (last and index == count - 1):  # of a point that others follow, nobody is shown these
                values |= {"group_grad_norms": (), "group_rate_factors": (), "hundreds": ()}
            points = count / len(kept)
            yield ThinnedPoint(**values, points=points, mean_loss=mean_loss, mean_accuracy=mean_accuracy)


def skipped(reader: JournalReader) -> Log | None:
    """Return what is to be said of lines that `reader` could make nothing of; None if there were none."""
    if not (reader.skipped or reader.unknown):
        return None
    message = f"{reader.skipped} damaged and {reader.unknown} unknown lines of the journal were skipped"
    return Log(level="warning", message=message)


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
