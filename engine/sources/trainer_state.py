"""A run of the Hugging Face Trainer, by the `trainer_state.json` that it writes with each checkpoint."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

from finetui.engine.sources.rows import Row
from finetui.engine.sources.source import Anew, Ended, Hparams, Item
from finetui.engine.sources.table import flat

NAME = "trainer_state.json"
_LARGEST = 256 << 20  # bytes
_SUMMARY = "train_runtime"  # the last entry, about the whole training


class TrainerRun:
    """The run whose state is in the folder `path`, in the newest of its folders `checkpoint-*`, or the file itself."""

    kind = "Hugging Face Trainer"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark: tuple[object, ...] = ()
        self._entries: list[dict[str, object]] = []
        self._told_settings = self._told_end = False

    def _newest(self) -> Path | None:
        if self._path.is_file():
            return self._path
        found = [self._path / NAME, *self._path.glob(f"checkpoint-*/{NAME}")]
        there = [(_mtime(path), path) for path in found if path.is_file()]
        return max(there)[1] if there else None

    def read(self) -> Iterator[Item]:
        """Yield the entries of the log that are new. Raises OSError."""
        path = self._newest()
        if path is None:
            return
        about = path.stat()
        mark = (path, about.st_ino, about.st_size, about.st_mtime_ns)
        if mark == self._mark or about.st_size > _LARGEST:
            return
        try:
            state = json.loads(path.read_bytes())
            entries = [dict(entry) for entry in state["log_history"]]
        except (ValueError, TypeError, KeyError, RecursionError):
            return  # it is being written
        self._mark = mark
        if entries[: len(self._entries)] != self._entries:
            self._entries, self._told_settings, self._told_end = [], False, False
            yield Anew("the log of the Trainer is another one")
        new, self._entries = entries[len(self._entries) :], entries
        yield from self._settings(state)
        for entry in new:
            yield from _row(entry)
        done = state.get("global_step", 0), state.get("max_steps", 0)
        if any(_SUMMARY in entry for entry in new) and not self._told_end and 0 < done[1] <= done[0]:
            self._told_end = True
            yield Ended()

    def _settings(self, state: dict[str, object]) -> Iterator[Item]:
        if self._told_settings:
            return
        self._told_settings = True
        names = {"num_train_epochs": "epochs", "max_steps": "max_steps", "train_batch_size": "batch size"}
        found = {new: value for old, new in names.items() if isinstance(value := state.get(old), int | float) and value}
        if found:
            yield Hparams(found)

    def changed(self) -> float:
        """Return when the newest state was written, in Unix seconds."""
        path = self._newest()
        return 0.0 if path is None else _mtime(path)

    def unread(self) -> int:
        """Return 0: a state is small, and read at once."""
        return 0


def _row(entry: dict[str, object]) -> Iterator[Row]:
    told = flat(entry)
    step, epoch = told.pop("step", 0.0), told.pop("epoch", None)
    if told and _SUMMARY not in told and math.isfinite(step):
        yield Row(int(step), 0.0, epoch, told)


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
