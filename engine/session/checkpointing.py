"""Which checkpoints of a run are kept, and when the next one is due."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from finetui.engine.checkpoints import checkpoint
from finetui.engine.checkpoints.checkpoint import About
from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import CheckpointsConfig
from finetui.engine.protocol.values import KeptCheckpoint
from finetui.engine.runs import kept_checkpoints as kept_ones
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.kept_checkpoints import AUTOMATIC, LAST, PREVIOUS

_SHARE = 0.01  # of the time, at most, goes into checkpoints that are written by the clock


class CheckpointManager:
    """Writes the checkpoints of the run in `folder`: the last two, the best, and those that a person named.

    `kept` says which there are. Every file is whole at every moment: a new one takes the place of an old one by its
    name alone, and the one before it keeps its bytes under another name.
    """

    def __init__(self, folder: RunFolder, config: CheckpointsConfig) -> None:
        self.folder = folder
        self.kept: tuple[KeptCheckpoint, ...] = ()
        self._config = config
        self._cost = 0.0  # seconds that the last write took
        self._written_at = time.monotonic()
        self._written_step = 0
        checkpoint.remove_stale(folder.path)

    def due(self, step: int) -> bool:
        """Whether a checkpoint should be written after `step` steps; asking costs next to nothing."""
        steps, minutes = self._config.every_steps, self._config.every_minutes
        if steps and step - self._written_step >= steps:
            return True
        return minutes > 0 and time.monotonic() - self._written_at >= max(60 * minutes, self._cost / _SHARE)

    def write(self, about: About, model: Mapping[str, Tensor], training: Mapping[str, Any]) -> None:
        """Make this state the last checkpoint, and the one before it the previous one.

        `training` says where it is: `step`, `epoch`, `at`, `accuracy`. Raises OSError when it cannot be written, and
        `checkpoint.NotFinite`; all files are then as they were.
        """
        started = time.monotonic()
        last, kept = self.folder.last, self._by_name()
        before = kept.get(LAST)
        # Twice in the same place (a stop just after the end of an epoch) are not two places to go back to.
        if before is not None and before.step != training["step"] and last.is_file():
            checkpoint.link(last, self.folder.checkpoint(PREVIOUS))
            kept[PREVIOUS] = msgspec.structs.replace(before, name=PREVIOUS, file=self.folder.checkpoint(PREVIOUS).name)
        checkpoint.save(last, about, model, training)
        kept[LAST] = _kept(LAST, last.name, training)
        self.kept = _in_order(kept)
        self._written_at = time.monotonic()
        self._cost = self._written_at - started
        self._written_step = training["step"]

    def keep_as(self, name: str) -> str:
        """Keep the last checkpoint as `name` too; return the file's name. Raises OSError."""
        path = self.folder.checkpoint(name)
        checkpoint.link(self.folder.last, path)
        kept = self._by_name()
        kept[name] = msgspec.structs.replace(kept[LAST], name=name, file=path.name)
        self.kept = _in_order(kept)
        return path.name

    def pin(self, name: str) -> Path:
        """Keep the checkpoint `name` under a name that later ones do not take; return its file. Raises `BadInput`."""
        pinned = kept_ones.pin(self.folder, self.kept, name)
        self.kept = _in_order(self._by_name() | {pinned.name: pinned})
        return self.folder.path / pinned.file

    def scan(self, warn: Callable[[str], None]) -> None:
        """Find the checkpoints that an earlier engine left in the folder; `warn` is told of those that are damaged."""
        kept = {}
        for path in sorted(self.folder.path.glob("*.ckpt")):
            try:
                kept[path.stem] = _kept(path.stem, path.name, checkpoint.load(path)[2])
            except BadInput as error:
                warn(str(error))
        self.kept = _in_order(kept)

    def _by_name(self) -> dict[str, KeptCheckpoint]:
        return {kept.name: kept for kept in self.kept}


def _kept(name: str, file: str, training: Mapping[str, Any]) -> KeptCheckpoint:
    accuracy = training.get("accuracy")
    try:
        return KeptCheckpoint(
            name=name,
            file=file,
            step=int(training["step"]),
            epoch=int(training["epoch"]),
            at=int(training["at"]),
            accuracy=None if accuracy is None else float(accuracy),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"the checkpoint {file} does not say where in its run it was written") from error


def _in_order(kept: Mapping[str, KeptCheckpoint]) -> tuple[KeptCheckpoint, ...]:
    own = sorted(set(kept) - set(AUTOMATIC))
    return tuple(kept[name] for name in (*AUTOMATIC, *own) if name in kept)
