"""A file that grows, is torn, cut, replaced or rewritten while it is read.

It is opened anew for each look: a network file system then says what the server has, and a file that was put in the
place of the old one is found. What was read is recognised by the file's beginning and by the bytes before the place
where reading goes on: where these have changed, somebody has written the file anew.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_MARK = 64  # bytes at the beginning and at the end of what was read that must still be there
BLOCK = 1 << 17  # bytes; as Python objects the numbers of a block are thirty times as large


class Tail:
    """Reads on in the file at `path` from where the last look ended: `offset`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self._file = (0, 0)  # which one it was: device and inode
        self._head = self._before = b""

    def changed(self) -> float:
        """Return when the file last changed, in Unix seconds; 0 where it is not there."""
        try:
            return self.path.stat().st_mtime
        except OSError:
            return 0.0

    def unread(self) -> int:
        """Return how many bytes there are behind `offset`."""
        try:
            return max(self.path.stat().st_size - self.offset, 0)
        except OSError:
            return 0

    @contextmanager
    def opened(self) -> Iterator[tuple[BinaryIO, str]]:
        """Give the file, at `offset`, and why it has to be read from its start, as a phrase; empty: it has not.

        Raises OSError.
        """
        with open(self.path, "rb", opener=_opened) as file:  # Path.open takes no opener
            why = self._rewritten(file)
            if why:
                self.forget()
            about = os.fstat(file.fileno())
            self._file = about.st_dev, about.st_ino
            file.seek(self.offset)
            yield file, why

    def _rewritten(self, file: BinaryIO) -> str:
        about = os.fstat(file.fileno())
        if not self.offset:
            return ""
        if about.st_size < self.offset:
            return "it is shorter than before"
        same = (about.st_dev, about.st_ino) == self._file
        head, before = file.read(len(self._head)), b""
        file.seek(self.offset - len(self._before))
        before = file.read(len(self._before))
        if (head, before) != (self._head, self._before):
            return "it was rewritten" if same else "another file took its place"
        return ""

    def forget(self) -> None:
        """Begin at the start of the file again."""
        self.offset, self._head, self._before = 0, b"", b""

    def advance(self, consumed: bytes | memoryview) -> None:
        """Note that `consumed`, what stands at `offset`, was read."""
        if len(self._head) < _MARK:
            self._head += bytes(consumed[: _MARK - len(self._head)])
        self._before = (self._before + bytes(consumed[-_MARK:]))[-_MARK:]
        self.offset += len(consumed)

    def jump(self, file: BinaryIO, by: int) -> None:
        """Go on `by` bytes further, without what stands there."""
        self.offset += by
        file.seek(max(self.offset - _MARK, 0))
        self._before = file.read(self.offset - file.tell())


def _opened(path: str, flags: int) -> int:
    """Open a file, and nothing else that may be called so by now: a pipe would be waited for."""
    found = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise OSError(errno.EINVAL, "it is not a file", path)
    return found


class Lines:
    """The whole lines of a text file that grows; one that is not ended yet is left for later.

    The last line of a file that has settled is taken without its end. Where it goes on after all, the file is read
    anew. What is longer than `LONGEST` bytes is no line of numbers, and left out.
    """

    LONGEST = 16 << 20

    def __init__(self, path: Path) -> None:
        self.tail = Tail(path)
        self._open_end = False  # the last line was taken without its end

    def blocks(self, *, settled: bool) -> Iterator[tuple[bytes, str]]:
        """Yield whole lines in blocks of about `BLOCK` bytes, and with the first why all is told anew, if it is.

        Raises OSError.
        """
        with self.tail.opened() as (file, why):
            if self._open_end and not why:
                after = file.read(1)
                if after not in (b"", b"\n", b"\r"):
                    why = "its last line grew"
                    self.tail.forget()
                file.seek(self.tail.offset)
            self._open_end = self._open_end and not why
            held = b""
            if why:
                yield b"", why
            while more := file.read(BLOCK):
                held += more
                end = held.rfind(b"\n") + 1
                if end:
                    block, held = held[:end], held[end:]
                    self.tail.advance(block)
                    self._open_end = False
                    yield block, ""
                elif len(held) > self.LONGEST:
                    self.tail.advance(held)
                    held = b""
            if held and settled:
                self.tail.advance(held)
                self._open_end = True
                yield held, ""
