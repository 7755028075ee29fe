"""What a person says of a run: tags and a note, in a small file of its folder, `notes.toml`."""

import re
import tomllib
from collections.abc import Iterable

import msgspec
import tomli_w

from finetui.engine import files
from finetui.engine.errors import BadInput, reason_of
from finetui.engine.runs.folder import RunFolder
from finetui.engine.text import clean

_LONGEST_TAG, _LONGEST_NOTE, _MOST_TAGS = 40, 1000, 50


class RunNotes(msgspec.Struct, frozen=True, kw_only=True):
    """The `tags` of a run, each one word, and a `note` of one line; a run that nobody said anything of has neither."""

    tags: tuple[str, ...] = ()
    note: str = ""


def read_notes(folder: RunFolder) -> RunNotes:
    """Return the notes in `folder`. Raises `BadInput` where the file cannot be read, or is no such file."""
    try:
        table = tomllib.loads(folder.notes.read_text(encoding="utf-8"))
        found = msgspec.convert(table, RunNotes)
    except FileNotFoundError:
        return RunNotes()
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, msgspec.ValidationError) as error:
        raise BadInput(f"the notes {folder.notes} cannot be read: {reason_of(error)}; repair or delete it") from error
    return RunNotes(tags=tuple(clean(tag, _LONGEST_TAG) for tag in found.tags), note=clean(found.note, _LONGEST_NOTE))


def tagged(folder: RunFolder, add: Iterable[str] = (), remove: Iterable[str] = ()) -> RunNotes:
    """Give the run in `folder` the tags `add`, take `remove` from it, and return its notes.

    Raises `BadInput` for what can be no tag, for one to be removed that it has not, and where it cannot be written.
    """
    before, gone = read_notes(folder), list(remove)
    for tag in gone:
        if tag not in before.tags:
            has = f"it has {', '.join(before.tags)}" if before.tags else "it has none"
            raise BadInput(f"the run {folder.name} has no tag {tag!r}; {has}")
    added = [check_tag(tag) for tag in add]
    tags = tuple(dict.fromkeys(tag for tag in (*before.tags, *added) if tag not in gone))
    if len(tags) > _MOST_TAGS:
        raise BadInput(f"the run {folder.name} would have {len(tags)} tags; the limit is {_MOST_TAGS}")
    return _write(folder, before, RunNotes(tags=tags, note=before.note))


def noted(folder: RunFolder, note: str) -> RunNotes:
    """Let `note` (empty: none) be what is said of the run in `folder`, and return its notes. Raises `BadInput`."""
    before = read_notes(folder)
    line = " ".join(note.split())
    if len(line) > _LONGEST_NOTE:
        raise BadInput(f"the note has {len(line):,} characters; the limit is {_LONGEST_NOTE:,}")
    return _write(folder, before, RunNotes(tags=before.tags, note=clean(line, _LONGEST_NOTE)))


def check_tag(tag: str) -> str:
    """Return `tag`; raise `BadInput` unless it is one harmless word that a filter can name."""
    if not re.fullmatch(r"[\w.+][\w.+-]*", tag) or len(tag) > _LONGEST_TAG or clean(tag) != tag:
        need = f"one word of letters, digits and . _ + -, of at most {_LONGEST_TAG} characters"
        raise BadInput(f"the tag {tag!r} must be {need}")
    return tag


def _write(folder: RunFolder, before: RunNotes, now: RunNotes) -> RunNotes:
    if now == before:
        return now
    try:
        with files.replacing(folder.notes) as file:
            file.write(tomli_w.dumps({"tags": list(now.tags), "note": now.note}).encode())
    except OSError as error:
        raise BadInput(f"the notes {folder.notes} cannot be written: {reason_of(error)}") from error
    return now
