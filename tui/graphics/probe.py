"""Asking the terminal what graphics it has, before Textual reads from it."""

import os
import re
import select
import sys
import time
from typing import NamedTuple

from finetui.tui.graphics.cells import CellSize

_SECONDS = 0.3  # a terminal on this machine answers within a few milliseconds
_PATIENT_SECONDS = 2.0  # one that is far away, and known to answer
_DEFAULT_CELL = CellSize(10, 20)
# A one pixel image to be looked at and not kept; the size of a cell; and what every terminal since the VT100 answers.
# Terminals answer in order, so that after the last answer none is to come.
_QUESTIONS = b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b[16t\x1b[c"
_KITTY = re.compile(rb"\x1b_Gi=31;OK\x1b\\")
_CELL = re.compile(rb"\x1b\[6;(\d{1,4});(\d{1,4})t")
_ATTRIBUTES = re.compile(rb"\x1b\[\?([\d;]*)c")
_SIXEL = b"4"  # among the attributes


class Answers(NamedTuple):
    """What a terminal says of itself."""

    kitty: bool = False
    sixel: bool = False
    cell: CellSize | None = None


_asked: Answers | None = None


def ask_terminal(seconds: float = _SECONDS) -> Answers:
    """Ask the terminal once, for at most so long; without a terminal, or without an answer, it has no graphics."""
    global _asked
    if _asked is None:
        streams = (sys.__stdin__, sys.__stdout__)
        if sys.platform == "win32" or any(stream is None or not stream.isatty() for stream in streams):
            _asked = Answers()
        else:
            _asked = answers_of(_exchange(0, 1, seconds))
    return _asked


def learn_cell_size() -> None:
    """Ask the terminal how large a cell is, if the system does not know."""
    if _system_cell() is None:
        ask_terminal(_PATIENT_SECONDS)


def cell_size() -> CellSize:
    """Return how large a cell is in pixels at this moment (fonts can be zoomed): by the system, or as answered."""
    return _system_cell() or (_asked.cell if _asked else None) or _DEFAULT_CELL


def _system_cell() -> CellSize | None:
    if sys.platform == "win32":
        return None
    import fcntl
    import struct
    import termios

    try:
        found = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
    except OSError:  # no terminal; standard output leads elsewhere while there is a dashboard
        return None
    rows, columns, wide, high = struct.unpack("HHHH", found)
    return CellSize(wide // columns, high // rows) if rows and columns and wide >= columns and high >= rows else None


def answers_of(received: bytes) -> Answers:
    """Return what the bytes that a terminal sent mean; keys that were pressed meanwhile may be among them."""
    cell, attributes = _CELL.search(received), _ATTRIBUTES.search(received)
    return Answers(
        kitty=_KITTY.search(received) is not None,
        sixel=attributes is not None and _SIXEL in attributes[1].split(b";"),
        cell=CellSize(int(cell[2]), int(cell[1])) if cell and int(cell[1]) and int(cell[2]) else None,
    )


def _exchange(source: int, target: int, seconds: float) -> bytes:
    """Write the questions and return what comes until the last is answered; nothing is echoed or left in the input."""
    import termios
    import tty

    before = termios.tcgetattr(source)
    tty.setcbreak(source, termios.TCSANOW)
    try:
        received = b""
        os.write(target, _QUESTIONS)
        end = time.monotonic() + seconds
        while not _ATTRIBUTES.search(received) and (left := end - time.monotonic()) > 0:
            if select.select([source], [], [], left)[0]:
                data = os.read(source, 1024)
                if not data:
                    break
                received += data
        return received
    finally:
        # What arrived of an answer that was cut off must not be taken for keys.
        termios.tcsetattr(source, termios.TCSAFLUSH, before)
