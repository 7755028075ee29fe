"""The files of an image folder, found class by class, and what of them is left out."""

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from finetui.engine.data.folder_layout import Layout
from finetui.engine.data.split import Unreadable
from finetui.engine.errors import Cancelled
from finetui.engine.protocol.values import Part
from finetui.engine.text import clean

_IGNORED = {"__macosx", "thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class Item:
    """An image file of the class `label`."""

    path: str
    label: str


def path_within(path: str, root: str) -> str:
    """Return `path` from the folder `root` on, for people."""
    return clean(os.path.relpath(path, root), 300)


class FolderWalk:
    """Finds the files of each class; remembers what was left out, and why."""

    def __init__(self, root: Path, follow_links: bool, cancelled: Callable[[], bool]) -> None:
        self.problems: list[str] = []
        self.classes: set[str] = set()
        self._root = str(root)
        self._real_root = os.path.realpath(root)
        self._follow_links = follow_links
        self._cancelled = cancelled
        # What was taken, by its path without links: nothing is taken twice, whatever links lead there.
        self._images: set[str] = set()
        self._folders: set[str] = set()

    def items(self, layout: Layout) -> dict[Part, list[Item]]:
        """Return the files of every class folder in each part, in a fixed order."""
        found: dict[Part, list[Item]] = {part: [] for part in layout.parts}
        links: deque[tuple[Part, str, str]] = deque()  # part, class, path
        for folder in layout.folders:
            for entry in self.entries(folder):
                if not entry.is_dir():
                    self._skip_stray(entry)
        self.classes = {label for label, _ in layout.parts["train"]}
        for part, folders in layout.parts.items():
            for label, path in folders:
                if os.path.islink(path):  # noqa: PTH114
                    links.append((part, label, path))
                    continue
                folder, name = os.path.split(path)
                real = os.path.join(os.path.realpath(folder), name)  # noqa: PTH118  # a path of a million
                links.extend((part, label, inside) for inside in self._files(path, real, found[part], label))
        # Links last, so that an image goes by its own name, and by its own part, where it has one.
        while links:
            part, label, path = links.popleft()
            links.extend((part, label, further) for further in self._follow(path, found[part], label))
        return {part: sorted(items, key=lambda item: (item.label, item.path)) for part, items in found.items()}

    def _files(self, folder: str, real: str, found: list[Item], label: str) -> list[str]:
        """Add the files below `folder` to `found` and return the links there; `real` is its path without links."""
        links: list[str] = []
        waiting = [(folder, real)]
        while waiting:
            if self._cancelled():
                raise Cancelled("reading the data was cancelled")
            folder, real = waiting.pop()
            if real in self._folders:
                self._skip(folder, "a folder already included")
                continue
            self._folders.add(real)
            for entry in self.entries(folder):
                if entry.is_symlink():
                    links.append(entry.path)
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, f"{real}{os.sep}{entry.name}"))
                elif entry.is_file(follow_symlinks=False):
                    self._images.add(f"{real}{os.sep}{entry.name}")
                    found.append(Item(entry.path, label))
                else:
                    self._skip(entry.path, "not a file")
        return links

    def _follow(self, path: str, found: list[Item], label: str) -> list[str]:
        """Take what the link `path` leads to, and return the links there."""
        real = self.target(path)
        if real is None:
            return []
        here = os.path.realpath(os.path.dirname(path))  # noqa: PTH120
        if os.path.isdir(real):  # noqa: PTH112
            if f"{here}{os.sep}".startswith(f"{real.rstrip(os.sep)}{os.sep}"):
                self._skip(path, "a link to a folder that contains it")
            elif real in self._folders:
                self._skip(path, "a link to a folder already included")
            else:
                return self._files(path, real, found, label)
        elif not os.path.isfile(real):  # noqa: PTH113
            self._skip(path, "not a file")
        elif real in self._images:
            self._skip(path, "a link to an image already included")
        else:
            self._images.add(real)
            found.append(Item(path, label))
        return []

    def look(self, folder: str) -> list[os.DirEntry[str]]:
        """Return the same as `entries`, and nothing where that cannot be read: who takes files from there tells."""
        try:
            return self._entries(folder)
        except OSError:
            return []

    def entries(self, folder: str) -> list[os.DirEntry[str]]:
        """Return what is in `folder` by name, without hidden files and the like."""
        try:
            return self._entries(folder)
        except OSError as error:
            self._skip(folder, error.strerror or str(error))
            return []

    @staticmethod
    def _entries(folder: str) -> list[os.DirEntry[str]]:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        return [entry for entry in entries if not entry.name.startswith(".") and entry.name.lower() not in _IGNORED]

    def target(self, path: str) -> str | None:
        """Return where the link `path` leads; None, and a problem, where it must not be followed."""
        try:
            real = os.path.realpath(path, strict=True)
        except OSError as error:
            self._skip(path, f"a broken link ({error.strerror})")
            return None
        inside = real == self._real_root or real.startswith(self._real_root.rstrip(os.sep) + os.sep)
        if not inside and not self._follow_links:
            self._skip(path, "a link out of the folder; --follow-links follows it")
            return None
        return real

    def _skip_stray(self, entry: os.DirEntry[str]) -> None:
        if not entry.is_symlink() or self.target(entry.path) is not None:
            self._skip(entry.path, "not in a class folder")

    def _skip(self, path: str, why: str) -> None:
        self.problems.append(f"{path_within(path, self._root)}: {why}")

    def unreadable(self, path: str, problem: Unreadable) -> None:
        """Note that a file is no image."""
        self._skip(path, str(problem))
