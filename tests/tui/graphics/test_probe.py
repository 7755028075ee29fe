"""Asking the terminal: what it answers, and that one that does not is left as it was found."""

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from finetui.tui.graphics.cells import CellSize
from finetui.tui.graphics.probe import Answers, answers_of

ROOT = Path(__file__).parents[3]
OK = b"\x1b_Gi=31;OK\x1b\\"


@pytest.mark.parametrize(
    ("received", "answers"),
    [
        (b"", Answers()),
        (b"\x1b[?62;22c", Answers()),
        (b"\x1b[?62;4;22c", Answers(sixel=True)),
        (b"\x1b[?64;14;24c", Answers()),
        (OK + b"\x1b[?62c", Answers(kitty=True)),
        (b"\x1b_Gi=31;ENOTSUPPORTED:x\x1b\\\x1b[?62c", Answers()),
        (b"\x1b[6;21;9t\x1b[?1;4c", Answers(sixel=True, cell=CellSize(9, 21))),
        (b"\x1b[6;0;0t\x1b[?6c", Answers()),
        (b"jk" + OK[:5], Answers()),
        (b"jk" + OK + b"q\x1b[6;20;10tj\x1b[?4c", Answers(kitty=True, sixel=True, cell=CellSize(10, 20))),
    ],
)
def test_answers_are_found_among_keys(received: bytes, answers: Answers) -> None:
    assert answers_of(received) == answers


class Asking:
    """A program that asks the terminal, in a terminal that sends `reply` once everything was asked."""

    def __init__(self, reply: bytes, seconds: float) -> None:
        self.fd, inner = pty.openpty()
        before = termios.tcgetattr(inner)
        code = (
            "import os, sys, time, select\n"
            "from finetui.tui.graphics.probe import ask_terminal, cell_size\n"
            f"start = time.monotonic(); found = ask_terminal({seconds}); took = time.monotonic() - start\n"
            "left = os.read(0, 99) if select.select([0], [], [], 0.1)[0] else b''\n"
            "os.write(1, f'<{tuple(found)} {tuple(cell_size())} {took < 15} {left}>'.encode())"
        )
        process = subprocess.Popen([sys.executable, "-c", code], stdin=inner, stdout=inner, stderr=inner, cwd=ROOT)
        self.shown = b""
        replied = False
        end = time.monotonic() + 60
        while time.monotonic() < end and not self.shown.endswith(b">"):
            if select.select([self.fd], [], [], 0.1)[0]:
                self.shown += os.read(self.fd, 4096)
            if b"\x1b[c" in self.shown and not replied:
                replied = True
                os.write(self.fd, reply)
        assert process.wait(30) == 0, self.shown
        self.restored = termios.tcgetattr(inner) == before
        os.close(inner)
        os.close(self.fd)

    @property
    def result(self) -> bytes:
        return re.findall(rb"<(.*)>", self.shown)[-1]


def test_a_terminal_that_never_answers_is_not_waited_for_long() -> None:
    asking = Asking(b"", 0.3)
    assert asking.result == b"(False, False, None) (10, 20) True b''"
    assert asking.restored


def test_a_terminal_that_answers_leaves_nothing_in_the_input_or_on_the_screen() -> None:
    asking = Asking(OK + b"\x1b[6;18;9t\x1b[?62;4c", 60)
    assert asking.result == b"(True, True, CellSize(width=9, height=18)) (9, 18) True b''"
    assert asking.restored
    assert b"OK" not in asking.shown
    assert b"^[" not in asking.shown


def test_what_arrived_of_a_broken_answer_is_not_taken_for_keys() -> None:
    asking = Asking(OK + b"\x1b[6;18", 3)
    assert asking.result == b"(True, False, None) (10, 20) True b''"


def test_keys_pressed_meanwhile_are_not_left_half_read() -> None:
    asking = Asking(b"\x1b[?62;4c" + b"x" * 1500, 60)
    assert asking.result == b"(False, True, None) (10, 20) True b''"


def test_without_a_terminal_nothing_is_written() -> None:
    code = "from finetui.tui.graphics.probe import ask_terminal; print(tuple(ask_terminal()))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert found.stdout == "(False, False, None)\n"
