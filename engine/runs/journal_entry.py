"""An entry in the journal of a run that no engine has: its test images were looked at."""

from finetui.engine.errors import BadInput
from finetui.engine.protocol.commands import NoteTest
from finetui.engine.protocol.events import CommandAccepted
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.reporter import Reporter
from finetui.engine.runs.run_writer import RunWriter


def write_entry(folder: RunFolder, note: NoteTest) -> None:
    """Add `note` to the journal in `folder`, as the reply to it would be. Raises `BadInput` where that cannot be done.

    It comes after the run's last event, and takes no step: a run that goes on, or is replayed, does so as without it.
    """
    writer = RunWriter()
    try:
        writer.take(folder)
        Reporter(writer.journal, (), lambda: writer.steps).emit(CommandAccepted(command=note))
        if writer.journal.problem:
            raise BadInput(f"the journal of {folder.name} cannot be written: {writer.journal.problem}")
    finally:
        writer.release()
