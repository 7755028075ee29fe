"""A long journal in few events: what a plot of it needs, and no more."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from finetui.engine.protocol.events import AnyEvent, Evaluated, Log, MachineSample, RanksSeen, ThinnedPoint, TrainPoint
from finetui.engine.runs.journal import Glance, JournalReader

_BUCKETS = 1024  # a few points each: more than a terminal has columns
_LINE_BYTES = 300  # of a train point, at least
_POINT, _EVALUATED = (kind.__struct_config__.tag for kind in (TrainPoint, Evaluated))
_SAMPLES = tuple(kind.__struct_config__.tag for kind in (MachineSample, RanksSeen))

Glanced = tuple[Glance, bytes]


def thinned(reader: JournalReader, lines: Iterable[Glanced], journal_bytes: int) -> Iterator[AnyEvent]:
    """Yield the events that `lines` of a journal are, without most train points of a long one: no plot has that room.

    Of each bucket of points those with the least and the greatest loss and accuracy remain, each a `ThinnedPoint` that
    tells of the means, and the last one of all. `reader` makes events of lines.
    """
    size = max(journal_bytes // (_LINE_BYTES * _BUCKETS), 1)
    bucket: list[Glanced] = []
    for glanced in lines:
        if glanced[0].type in _SAMPLES:  # told by its time: where it stands among points does not matter
            yield from _events(reader, [glanced])
        elif size > 1 and glanced[0].type == _POINT:
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
        event = reader.decode(without_matrix(line) if glance.type == _EVALUATED else line)
        if event is not None:
            yield event


def without_matrix(line: bytes) -> bytes:
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
    told = [[glance.loss for glance, _ in bucket], [glance.accuracy for glance, _ in bucket]]
    kept = {values.index(extreme(known)) for values in told if (known := _known(values)) for extreme in (min, max)}
    if last:  # what comes next may be told from here
        kept.add(len(bucket) - 1)
    count = len(bucket)
    kept = kept or {count - 1}  # where neither is told of any
    mean_loss, mean_accuracy = (sum(known) / len(known) if (known := _known(values)) else None for values in told)
    for index in sorted(kept):
        for event in _events(reader, [bucket[index]]):
            values = msgspec.structs.asdict(event)
            if not (last and index == count - 1):  # of a point that others follow, nobody is shown these
                values |= {"group_grad_norms": (), "group_rate_factors": (), "hundreds": ()}
            points = count / len(kept)
            yield ThinnedPoint(**values, points=points, mean_loss=mean_loss, mean_accuracy=mean_accuracy)


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def skipped(reader: JournalReader) -> Log | None:
    """Return what is to be said of lines that `reader` could make nothing of; None if there were none."""
    if not (reader.skipped or reader.unknown):
        return None
    message = f"{reader.skipped} damaged and {reader.unknown} unknown lines of the journal were skipped"
    return Log(level="warning", message=message)
