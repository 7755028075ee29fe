"""The checkpoints of a session: when one is due, which are kept, and what is tried again where the disk is full."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from finetui.engine.checkpoints import checkpoint
from finetui.engine.checkpoints.checkpoint import NotFinite
from finetui.engine.data.recorded_data import save_images
from finetui.engine.distributed.averaging import averaged_buffers
from finetui.engine.errors import BadInput, reason_of
from finetui.engine.protocol.events import AnyEvent, CheckpointSaved, Log
from finetui.engine.protocol.values import KeptCheckpoint
from finetui.engine.runs import kept_checkpoints
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.kept_checkpoints import AUTOMATIC, LAST, PREVIOUS
from finetui.engine.runs.reporter import Reporter
from finetui.engine.runs.run_writer import RunWriter
from finetui.engine.session.loop import TrainingLoop

_SHARE = 0.01  # of the time, at most, goes into checkpoints that are written by the clock
_RETRY_SECONDS = 10.0


class CheckpointManager:
    """Writes the checkpoints of the run that `writer` has: the last two, the best, and those that a person named.

    `kept` says which there are. Every file is whole at every moment: a new one takes the place of an old one by its
    name alone, and the one before it keeps its bytes under another name. A disk that is full does not end a training:
    `problem` says why the last attempt failed, and is empty when it did not.
    """

    def __init__(self, writer: RunWriter, loop: TrainingLoop, reporter: Reporter) -> None:
        self.kept: tuple[KeptCheckpoint, ...] = ()
        self.problem = ""
        self._writer = writer
        self._loop = loop
        self._reporter = reporter
        self._retry_at = 0.0
        self._cost = 0.0  # seconds that the last write took
        self._written_at = time.monotonic()
        self._written_step = 0

    @property
    def folder(self) -> RunFolder:
        """Where the checkpoints are; a run that has begun has a folder."""
        assert self._writer.folder is not None, "the run has begun"
        return self._writer.folder

    def due(self, step: int) -> bool:
        """Whether a checkpoint should be written after `step` steps; asking costs next to nothing.

        Where several ranks train, all of them hear what the first has found.
        """
        return self.due_here(step) if self._loop.turn is None else self._loop.turn.save_due

    def due_here(self, step: int) -> bool:
        """Whether that is so by the clock, and the disk, of this process."""
        if self.problem:
            return time.monotonic() >= self._retry_at
        steps, minutes = self._loop.config.checkpoints.every_steps, self._loop.config.checkpoints.every_minutes
        if steps and step - self._written_step >= steps:
            return True
        return minutes > 0 and time.monotonic() - self._written_at >= max(60 * minutes, self._cost / _SHARE)

    def save(self, *names: str, reply: AnyEvent | None = None) -> bool:
        """Write the last checkpoint, and keep it under `names` as well; report it, or why it could not be done.

        Return whether it was done. `reply` is then emitted as well, and holds for whoever goes back to this checkpoint.
        Rank 0 writes what all ranks have; the others wait until it is done.
        """
        loop = self._loop
        training = loop.state_dict()
        with averaged_buffers(loop.ranks, loop.prepared.model):
            model = loop.prepared.model.state_dict()
            return loop.ranks.share(partial(self._save, names, reply, model, training))

    def _save(
        self, names: Sequence[str], reply: AnyEvent | None, model: Mapping[str, Tensor], training: Mapping[str, Any]
    ) -> bool:
        started = time.perf_counter()
        followed_by: list[AnyEvent] = []
        if self.problem:
            followed_by.append(Log(level="info", message="checkpoints can be written again"))
        if reply is not None:
            followed_by.append(reply)
        try:
            if self._writer.restore(self._loop.config):
                self._reporter.warn(
                    "the run's folder was deleted during training, and was recreated; older checkpoints are lost"
                )
            keys = self._loop.prepared.data.keys
            if keys and not self.folder.images.exists():
                save_images(self.folder.images, keys)
            # All that is emitted about this checkpoint below still holds for whoever goes back to it.
            at = self._writer.journal.next_seq + 1 + len(names) + len(followed_by)
            self._write(model, {**training, "at": at})
            files = [self.folder.last.name, *map(self._keep_as, names)]
        except (OSError, NotFinite) as error:
            self._failed(error)
            return False
        self.problem = ""
        weights = checkpoint.digest(model)
        events = [CheckpointSaved(file=file, at=at, weights=weights, kept=self.kept) for file in files] + followed_by
        assert self._writer.journal.next_seq + len(events) == at, "the checkpoint tells where in the journal it stands"
        self._reporter.emit(*events)
        self._loop.points.time.saving += time.perf_counter() - started
        return True

    def unsaved(self) -> str:
        """Return that the last checkpoint could not be written, and why; empty where it could."""
        return f"the last checkpoint could not be written: {self.problem}" if self.problem else ""

    def pin(self, name: str) -> Path:
        """Keep the checkpoint `name` under a name that later ones do not take; return its file. Raises `BadInput`."""
        pinned = kept_checkpoints.pin(self.folder, self.kept, name)
        self.kept = _in_order(self._by_name() | {pinned.name: pinned})
        return self.folder.path / pinned.file

    def _write(self, model: Mapping[str, Tensor], training: Mapping[str, Any]) -> None:
        """Make this state the last checkpoint, and the one before it the previous one.

        Raises OSError when it cannot be written, and `NotFinite`; all files are then as they were.
        """
        started = time.monotonic()
        last, kept = self.folder.last, self._by_name()
        before = kept.get(LAST)
        # Twice in the same place (a stop just after the end of an epoch) are not two places to go back to.
        if before is not None and before.step != training["step"] and last.is_file():
            checkpoint.link(last, self.folder.checkpoint(PREVIOUS))
            kept[PREVIOUS] = msgspec.structs.replace(before, name=PREVIOUS, file=self.folder.checkpoint(PREVIOUS).name)
        checkpoint.save(last, self._loop.prepared.about(self.folder.name), model, training)
        kept[LAST] = _kept(LAST, last.name, training)
        self.kept = _in_order(kept)
        self._written_at = time.monotonic()
        self._cost = self._written_at - started
        self._written_step = training["step"]

    def _keep_as(self, name: str) -> str:
        """Keep the last checkpoint as `name` too; return the file's name. Raises OSError."""
        path = self.folder.checkpoint(name)
        checkpoint.link(self.folder.last, path)
        kept = self._by_name()
        kept[name] = msgspec.structs.replace(kept[LAST], name=name, file=path.name)
        self.kept = _in_order(kept)
        return path.name

    def _failed(self, error: OSError | NotFinite) -> None:
        reason = reason_of(error)
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        if reason != self.problem:
            self.problem = reason
            message = f"the checkpoint could not be written: {reason}; training continues, and saving is tried again"
            self._reporter.emit(Log(level="error", message=message))

    def scan(self) -> None:
        """Find the checkpoints that an earlier engine left, and warn of those that are damaged."""
        checkpoint.remove_stale(self.folder.path)
        kept = {}
        for path in sorted(self.folder.path.glob("*.ckpt")):
            try:
                kept[path.stem] = _kept(path.stem, path.name, checkpoint.load(path)[2])
            except BadInput as error:
                self._reporter.warn(str(error))
        self.kept = _in_order(kept)

    def _by_name(self) -> dict[str, KeptCheckpoint]:
        return {kept.name: kept for kept in self.kept}


def _kept(name: str, file: str, training: Mapping[str, Any]) -> KeptCheckpoint:
    accuracy = training.get("accuracy")
    monitor = training.get("monitor", {})
    try:
        return KeptCheckpoint(
            name=name,
            file=file,
            step=int(training["step"]),
            epoch=int(training["epoch"]),
            at=int(training["at"]),
            accuracy=None if accuracy is None else float(accuracy),
            best_by=str(monitor.get("by", "accuracy")),
            figure=monitor.get("figure"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"the checkpoint {file} does not say where in its run it was written") from error


def _in_order(kept: Mapping[str, KeptCheckpoint]) -> tuple[KeptCheckpoint, ...]:
    own = sorted(set(kept) - set(AUTOMATIC))
    return tuple(kept[name] for name in (*AUTOMATIC, *own) if name in kept)
