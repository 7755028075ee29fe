"""Whoever looks at a run's test images has that noted in its journal: by its engine, where it has one."""

import sys
from pathlib import Path

from finetui.engine.errors import BadInput, FinetuiError
from finetui.engine.link.attach_link import AttachLink
from finetui.engine.link.socket_link import own_name
from finetui.engine.protocol.commands import NoteTest
from finetui.engine.protocol.config import DataConfig
from finetui.engine.protocol.config_file import load
from finetui.engine.protocol.events import CommandRefused
from finetui.engine.protocol.paths import same_data
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal_entry import write_entry
from finetui.engine.runs.lock import is_live
from finetui.tui.cli.steer import ask


def note_test(use: str, checkpoint: Path, data: str | None, *, accuracy: float, n: int) -> None:
    """Note that `checkpoint` was scored on the test images of its run, for `use`; of other `data` nothing is noted.

    Where it cannot be noted, standard error says why.
    """
    folder = RunFolder(checkpoint.absolute().parent)
    if not folder.journal.is_file():
        return
    try:
        if data is not None and not same_data(load(folder.config).data, DataConfig(name=data)):
            return
        _note(folder, NoteTest(use=use, checkpoint=checkpoint.stem, accuracy=accuracy, n=n, by=own_name()))
    except FinetuiError as error:
        print(f"the journal of {folder.name} could not record that test was looked at: {error}", file=sys.stderr)


def _note(folder: RunFolder, note: NoteTest) -> None:
    if not is_live(folder):
        write_entry(folder, note)
        return
    answer = ask(AttachLink(folder, name=f"finetui {note.use} by {own_name()}"), note)
    if isinstance(answer, CommandRefused):
        raise BadInput(f"its engine refused: {answer.reason}")
