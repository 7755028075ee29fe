"""A run of the Hugging Face Trainer, by the `trainer_state.json` that it writes with each checkpoint."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from finetui.engine.sources.rows import Row
from finetui.engine.sources.source import Anew, Changes, Ended, Hparams, Item
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
        self._told_settings = False

    def _states(self) -> list[Path]:
        found = [self._path] if self._path.is_file() else [self._path / NAME, *self._path.glob(f"checkpoint-*/{NAME}")]
        return [path for path in found if path.is_file()]

    def _newest(self) -> Path | None:
        there = [(_mtime(path), path) for path in self._states()]
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
            self._entries, self._told_settings = [], False
            yield Anew("the Trainer's log was replaced")
        new, self._entries = entries[len(self._entries) :], entries
        yield from self._settings(state)
        for entry in new:
            yield from _row(entry)
        yield Changes(sorted(_mtime(one) for one in self._states()))
        if _has_ended(state, entries):
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


def _has_ended(state: Mapping[str, object], entries: list[dict[str, object]]) -> bool:
    """Whether the training is over: all steps are done, it was stopped early, or the last entry of it sums it up."""
    step, most = (value if isinstance(value := state.get(name), int) else 0 for name in ("global_step", "max_steps"))
    if 0 < most <= step:
        return True
    callbacks = state.get("stateful_callbacks")
    control = callbacks.get("TrainerControl") if isinstance(callbacks, dict) else None
    told = control.get("args") if isinstance(control, dict) else None
    if isinstance(told, dict) and told.get("should_training_stop") is True:
        return True
    trained = [entry for entry in entries if _SUMMARY in entry or "loss" in entry]
    return bool(trained) and _SUMMARY in trained[-1]


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
