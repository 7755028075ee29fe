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

import heapq
from collections.abc import Iterator
from pathlib import Path

from finetui.engine.sources.names import PARTS
from finetui.engine.sources.source import Anew, Back, Hparams, Item, Note, Row
from finetui.engine.sources.tensorboard_event import Record
from finetui.engine.sources.tensorboard_file import EventFile

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

    def read(self) -> Iterator[Row | Back | Hparams | Anew]:
        """Yield what is new, in the order of the files. Raises OSError."""
        for path, file in self.files.items():
            yield from self._rows(path, file)

    def _rows(self, path: Path, file: EventFile) -> Iterator[Row | Back | Hparams | Anew]:
        values: dict[str, float] = {}
        step, time = 0, 0.0
        for record in file.read():
            if isinstance(record, str):
                yield Anew(f"{path.name}: {record}")
                return
            if values and (record.step != step or any(self.name(one.tag) in values for one in record.scalars)):
                yield Row(step, time, None, values)
                values = {}
            step, time = record.step, record.time
            back = self._goes_back(path, record)
            if back:
                yield Back(step)
            if record.hparams:
                yield Hparams(record.hparams)
            for tag, value in record.scalars:
                name = self.name(tag)
                values[name] = value
                self._steps[name] = step, path
        if values:
            yield Row(step, time, None, values)

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
            yield from heapq.merge(*(self._keyed(stream) for stream in self._streams.values()), key=_time_of)
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
            yield Note(f"{damaged:,} damaged records of the event files were left out")

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


def _time_of(item: Item) -> float:
    return item.time if isinstance(item, Row) else 0.0
