"""Leaving out modules that others' packages import where they are there, and that here would only take memory."""

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from types import ModuleType


class _NotInstalled(MetaPathFinder):
    """Says of `names` that they are not installed, to the thread that made it."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._thread = threading.get_ident()

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Raise `ModuleNotFoundError` for a module that is left out."""
        if fullname in self._names and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


@contextmanager
def without_modules(*names: str) -> Iterator[None]:
    """Let what this thread imports meanwhile find the modules `names` not installed, unless they are imported already.

    For packages that do with less where such a module is missing. Other threads, and whoever imports such a module
    later, find it as ever.
    """
    finder = _NotInstalled(names)
    # New lists each time: another thread may be going through the old one.
    sys.meta_path = [finder, *sys.meta_path]
    try:
        yield
    finally:
        sys.meta_path = [other for other in sys.meta_path if other is not finder]
