"""A run in TensorBoard's event files, as PyTorch, Lightning, Keras and the Hugging Face Trainer write them.

Why a reader of its own, and not the loader of the package `tensorboard`: that takes all of a protobuf apart, images
included, cannot be told to leave a tag out, ends for good at the first damaged record, and would be one more package
for all who install finetui. On a file of 200 MB with 3.9 million scalars (one core, torch 2, tensorboard 2.21):

                     import   reading   memory
    this module      0.09 s    17 s      54 MB      the sum of each record of scalars is checked by both
    tensorboard      0.18 s    48 s      74 MB

Several files belong to a run: those in its folder, one after the other in the order of their names, which begin with
the time; and those in folders below it, which `add_scalars`, `add_hparams` and Keras (`train`, `validation`) make. A
writer that begins again at an earlier step takes back what the files before said of that step and later ones.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from finetui.engine.sources.in_order import in_order_of_time
from finetui.engine.sources.names import PARTS
from finetui.engine.sources.row_former import RowFormer
from finetui.engine.sources.rows import Row, Rows
from finetui.engine.sources.source import Anew, Back, Hparams, Item, Note
from finetui.engine.sources.tensorboard_event import Record
from finetui.engine.sources.tensorboard_file import EventFile
from finetui.engine.sources.tensorboard_scalars import Scalars

NAMED = "events.out.tfevents."


def event_files(folder: Path) -> list[Path]:
    """Return the event files in `folder`, in their order. Raises OSError."""
    found = [path for path in folder.iterdir() if NAMED in path.name and path.is_file()]
    return sorted(found, key=lambda path: path.name)


class _Stream:
    """The event files of one folder; `where` is what it is called below the run's folder, empty: that itself."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.files: dict[Path, EventFile] = {}
        self._steps: dict[str, tuple[int, Path]] = {}  # the last step of each name, and the file that told it
        self._began_again: set[Path] = set()

    def read(self) -> Iterator[Row | Rows | Back | Hparams | Anew]:
        """Yield what is new, in the order of the files. Raises OSError."""
        for path, file in self.files.items():
            yield from self._rows(path, file)

    def _rows(self, path: Path, file: EventFile) -> Iterator[Row | Rows | Back | Hparams | Anew]:
        row = RowFormer()
        try:
            for told in file.read():
                if isinstance(told, str):
                    yield Anew(f"{path.name}: {told}")
                    return
                if isinstance(told, Scalars) and self._goes_on(path, told):
                    yield from self._scalars(path, row, told)
                    continue
                for record in told.one_by_one() if isinstance(told, Scalars) else (told,):
                    yield from self._record(path, row, record)
        except OSError:
            yield from row.ended()
            raise
        yield from row.ended()

    def _record(self, path: Path, row: RowFormer, record: Record) -> Iterator[Row | Back | Hparams]:
        numbers = [(self.name(tag), value) for tag, value in record.scalars]
        if row.is_ended_by(record.step, numbers):
            yield from row.ended()
        if self._goes_back(path, record):
            yield Back(record.step)
        if record.hparams:
            yield Hparams(record.hparams)
        row.add(record.step, record.time, numbers)
        self._steps.update((name, (record.step, path)) for name, _ in numbers)

    def _goes_on(self, path: Path, scalars: Scalars) -> bool:
        """Whether none of `scalars`, of the file `path`, can be where the run begins again."""
        if path in self._began_again:
            return True
        last = [self._steps.get(self.name(tag)) for tag in scalars.names()]
        return all(told is None or told[1] == path for told in last)

    def _scalars(self, path: Path, row: RowFormer, scalars: Scalars) -> Iterator[Row | Rows]:
        numbers: dict[str, int] = {}
        of_tag = np.array([numbers.setdefault(self.name(tag), len(numbers)) for tag in scalars.tags], np.int64)
        name = of_tag[scalars.tag]
        yield from row.add_all(list(numbers), name, scalars.step, scalars.time, scalars.values)
        last = np.full(len(numbers), -1)
        last[name] = np.arange(len(name))
        for key, at in zip(numbers, last.tolist(), strict=True):
            if at >= 0:
                self._steps[key] = int(scalars.step[at]), path

    def _goes_back(self, path: Path, record: Record) -> bool:
        """Whether the run begins again at the step of `record`: it says so, or a later file says what one said."""
        if record.restarts:
            self._began_again.add(path)
            return any(step >= record.step for step, _ in self._steps.values())
        if path in self._began_again:
            return False
        for tag, _ in record.scalars:
            last = self._steps.get(self.name(tag))
            if last is not None and last[1] != path:
                self._began_again.add(path)
                return last[0] >= record.step
        return False

    def name(self, tag: str) -> str:
        """Return what the number `tag` is called in the run."""
        if not self.where:
            return tag
        if self.where in PARTS:
            return f"{self.where}/{tag}"
        beginning = tag.replace("/", "_") + "_"  # so `add_scalars` calls the folders
        return f"{tag}/{self.where.removeprefix(beginning)}" if self.where.startswith(beginning) else tag


class TensorBoardRun:
    """The run whose event files are in the folder `path`, or in the one file that it is."""

    kind = "TensorBoard"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._streams: dict[str, _Stream] = {}
        self._told: set[str] = set()

    def read(self) -> Iterator[Item]:
        """Yield what is new; of folders side by side in the order of time. Raises OSError."""
        self._look()
        try:
            yield from in_order_of_time([self._keyed(stream) for stream in self._streams.values()])
        except _Rewritten as error:
            self._streams.clear()
            yield Anew(error.why)
            return
        yield from self._notes()

    def _keyed(self, stream: _Stream) -> Iterator[Item]:
        for item in stream.read():
            if isinstance(item, Anew):
                raise _Rewritten(item.why)
            yield item

    def _look(self) -> None:
        """Find the files that there are by now."""
        if self._path.is_file():
            self._streams.setdefault("", _Stream("")).files.setdefault(self._path, EventFile(self._path))
            return
        folders = {"": self._path}
        folders |= {one.name: one for one in sorted(self._path.iterdir()) if one.is_dir() and not one.is_symlink()}
        for where, folder in folders.items():
            for path in event_files(folder):
                stream = self._streams.setdefault(where, _Stream(where))
                stream.files.setdefault(path, EventFile(path))

    def _files(self) -> list[EventFile]:
        return [file for stream in self._streams.values() for file in stream.files.values()]

    def _notes(self) -> Iterator[Note]:
        """Yield what is to be said of the files, once for each kind."""
        skipped: dict[str, int] = {}
        for file in self._files():
            for kind, count in file.skipped.items():
                skipped[kind] = skipped.get(kind, 0) + count
        for kind, count in skipped.items():
            if kind not in self._told:
                self._told.add(kind)
                what = kind if count > 1 else kind.removesuffix("s")
                yield Note(f"{count:,} {what} in the event files {'are' if count > 1 else 'is'} not shown")
        damaged = sum(file.damaged for file in self._files())
        if damaged and f"damaged {damaged}" not in self._told:
            self._told.add(f"damaged {damaged}")
            records, were = ("records", "were") if damaged > 1 else ("record", "was")
            yield Note(f"{damaged:,} damaged {records} of the event files {were} left out")

    def changed(self) -> float:
        """Return when a file last changed, in Unix seconds."""
        return max((file.tail.changed() for file in self._files()), default=0.0)

    def unread(self) -> int:
        """Return about how many bytes are still to be read."""
        self._look()
        return sum(file.tail.unread() for file in self._files())


class _Rewritten(Exception):
    """A file was written anew."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
