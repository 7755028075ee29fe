"""A session's checkpoints: written when they are due, said to everybody, and tried again where the disk is full."""

import time
from collections.abc import Callable

from finetui.engine.checkpoints.checkpoint import About, NotFinite
from finetui.engine.protocol.events import AnyEvent, CheckpointSaved, Log
from finetui.engine.runs.journal import Journal
from finetui.engine.session.checkpointing import CheckpointManager
from finetui.engine.session.run_state import RunState

_RETRY_SECONDS = 10.0


class Saver:
    """Writes the state of a run through a `keeper`; a disk that is full does not end a training.

    `problem` says why the last attempt failed, and is empty when it did not. `restore_folder` is called first, and sees
    to it that the run's folder is there.
    """

    def __init__(
        self,
        keeper: CheckpointManager,
        state: RunState,
        about: About,
        journal: Journal,
        emit: Callable[[AnyEvent], None],
        restore_folder: Callable[[], None],
    ) -> None:
        self.keeper = keeper
        self.problem = ""
        self._state = state
        self._about = about
        self._journal = journal
        self._emit = emit
        self._restore_folder = restore_folder
        self._retry_at = 0.0

    def due(self, step: int) -> bool:
        """Whether a checkpoint should be written after `step` steps; asking costs next to nothing."""
        if self.problem:
            return time.monotonic() >= self._retry_at
        return self.keeper.due(step)

    def save(self, *names: str, answers: int = 0) -> bool:
        """Write the last checkpoint, and keep it under `names` as well; say so, or why it could not be done.

        Return whether it was done. The caller says `answers` events about it next, which still hold for whoever goes
        back to this checkpoint.
        """
        try:
            self._restore_folder()
            # What is said of this checkpoint below still holds for whoever goes back to it.
            at = self._journal.next_seq + 1 + len(names) + answers
            self.keeper.write(self._about, self._state.model, self._state.collect(at))
            files = [self.keeper.folder.last.name, *map(self.keeper.keep_as, names)]
        except (OSError, NotFinite) as error:
            self._failed(error)
            return False
        weights = self._state.digest()
        for file in files:
            self._emit(CheckpointSaved(file=file, at=at, weights=weights, kept=self.keeper.kept))
        if self.problem:
            self._emit(Log(level="info", message="checkpoints can be written again"))
        self.problem = ""
        return True

    def unsaved(self) -> str:
        """Return that the last checkpoint could not be written, and why; empty where it could."""
        return f"the last checkpoint could not be written: {self.problem}" if self.problem else ""

    def _failed(self, error: OSError | NotFinite) -> None:
        reason = str(error) if isinstance(error, NotFinite) else error.strerror or str(error)
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        if reason != self.problem:
            self.problem = reason
            message = f"the checkpoint could not be written: {reason}; training goes on, and it is tried again"
            self._emit(Log(level="error", message=message))
