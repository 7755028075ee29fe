"""A run's folder in the hands of the one engine that may write it: lock and journal."""

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.protocol.config import RunConfig
from finetui.engine.runs.folder import RunFolder, create_run, write_config
from finetui.engine.runs.journal import Journal
from finetui.engine.runs.lock import RunLock


class RunWriter:
    """Takes a run's folder for this process; `folder` is None until then, and the journal is kept in memory.

    `socket` is where this engine can be reached; `steps` the training steps that the journal of a run that is taken up
    again tells of.
    """

    def __init__(self, socket: str = "") -> None:
        self.folder: RunFolder | None = None
        self.journal = Journal()
        self.steps = 0
        self._socket = socket
        self._lock: RunLock | None = None
        self._whole = True  # whether the folder was never deleted, or made anew with all that belongs into it

    def take(self, folder: RunFolder) -> None:
        """Take up the run in `folder` again, and go on with its journal; do nothing where that was done.

        Raises `BadInput` when another engine has it, or it cannot be written.
        """
        if self.folder == folder:
            return
        self._lock = RunLock(folder, self._socket)
        try:
            last = self.journal.reopen(folder.journal)
        except OSError as error:
            reason = reason_of(error)
            raise BadInput(f"the run {folder.name} cannot continue because of its journal: {reason}") from error
        self.steps = last.step if last is not None else 0
        self.folder = folder

    def create(self, config: RunConfig, default_name: str) -> RunFolder:
        """Make and take the folder of a new run. Raises `BadInput`."""
        self.folder = create_run(config, default_name)
        self._lock = RunLock(self.folder, self._socket)
        self.journal.open(self.folder.journal)
        return self.folder

    def restore(self, config: RunConfig) -> bool:
        """Make the folder anew, journal included, where somebody deleted it; return whether that was so.

        Raises OSError, also where it is another engine's by now: then it stays as it is.
        """
        assert self.folder is not None, "the run has begun"
        if self._whole and self._lock is not None and self._lock.stands():
            return False
        self._whole = False
        self.folder.path.mkdir(parents=True, exist_ok=True)
        self._give_up_lock()
        try:
            self._lock = RunLock(self.folder, self._socket)
        except BadInput as error:
            raise OSError(str(error)) from error
        write_config(self.folder, config)
        self.journal.restore()
        self._whole = True
        return True

    def _give_up_lock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def forsake(self) -> None:
        """Close the files and write nothing, in a child that was forked: they are the parent's."""
        self.journal.forsake()
        if self._lock is not None:
            self._lock.forsake()

    def release(self) -> None:
        """Close the journal and give the folder up."""
        self.journal.close()
        self._give_up_lock()
