"""The image files that `finetui predict` is given: by name, and in folders, one after the other."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from finetui.engine.errors import reason_of

_IGNORED = {"__macosx", "thumbs.db", "desktop.ini"}


def files_of(named: Sequence[Path], unlistable: Callable[[Path, str], None]) -> Iterator[Path]:
    """Yield the files in `named`, and those in the folders among them: folder by folder, by name, to any depth.

    Hidden files are left out, links to files are followed, links to folders are not. Of a folder that cannot be listed
    `unlistable` is told, with the reason.
    """
    for path in named:
        if path.is_dir():
            yield from _within(path, unlistable)
        else:
            yield path


def _within(folder: Path, unlistable: Callable[[Path, str], None]) -> Iterator[Path]:
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as found:
                entries = sorted((entry.name, entry.is_dir(follow_symlinks=False), entry.is_dir()) for entry in found)
        except OSError as error:
            unlistable(here, reason_of(error))
            continue
        shown = [entry for entry in entries if not entry[0].startswith(".") and entry[0].lower() not in _IGNORED]
        yield from (here / name for name, _, leads_to_folder in shown if not leads_to_folder)
        waiting.extend(here / name for name, is_folder, _ in reversed(shown) if is_folder)
