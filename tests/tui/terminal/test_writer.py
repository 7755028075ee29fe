"""Writing to a terminal that is slow, stalled or gone."""

import os
import re
import select
import threading
import time
import tty
from collections.abc import Callable, Iterator

import pytest

from finetui.tui.terminal.writer import BACKLOG, STALL_SECONDS, TerminalWriter

PIECE = re.compile(r"<(\d+):x{1000}>")


def piece(number: int) -> str:
    return f"<{number}:{'x' * 1000}>"


class Pair:
    """Both ends of a pseudo-terminal, and what a writer says of it."""

    def __init__(self, *, blocking: bool) -> None:
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self.slave, blocking)
        self.caught_up, self.gone = threading.Event(), threading.Event()
        self.writer = TerminalWriter(
            self.slave, encoding="utf-8", on_caught_up=self.caught_up.set, on_gone=self.gone.set
        )

    def wait_until_full(self) -> None:
        while select.select([], [self.slave], [], 0)[1]:
            time.sleep(0.01)

    def read_until(self, condition: Callable[[str], bool]) -> str:
        text, end = "", time.monotonic() + 20
        while not condition(text):
            assert time.monotonic() < end, f"it never came; {len(text)} characters did"
            if select.select([self.master], [], [], 0.1)[0]:
                text += os.read(self.master, 65536).decode()
        return text


@pytest.fixture(params=[False, True], ids=["own descriptor", "shared descriptor"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    found = Pair(blocking=request.param)
    yield found
    found.writer.stop()
    for descriptor in (found.master, found.slave):
        if descriptor >= 0:
            os.close(descriptor)


def test_all_of_it_arrives_in_order(pair: Pair) -> None:
    for number in range(50):
        pair.writer.put(piece(number))
    text = pair.read_until(lambda text: piece(49) in text)
    assert text == "".join(map(piece, range(50)))
    assert not pair.caught_up.is_set()


def test_nothing_waits_for_a_terminal_that_takes_nothing(pair: Pair) -> None:
    pair.writer.put("\x1b[?1049h")
    for number in range(2000):  # two million characters; a pseudo-terminal keeps a few thousand
        pair.writer.put(piece(number))
        if number == 20:  # more than it keeps: from here on none is written before they are read
            pair.wait_until_full()
        if number == 1000:
            pair.writer.put("\x1b[?1016h")
    text = pair.read_until(lambda _: pair.caught_up.is_set())
    text += pair.read_until(lambda more: "\x1b[?2026l\x1b[0m" in text + more)
    assert len(text) < 3 * BACKLOG
    # What came is whole, and modes are never dropped.
    assert PIECE.sub("", text) == "\x1b[?1049h\x1b[?1016h\x1b[?2026l\x1b[0m"
    assert PIECE.findall(text) == [str(number) for number in range(len(PIECE.findall(text)))]
    pair.writer.put(piece(7))
    assert pair.read_until(lambda text: piece(7) in text)


def test_updates_that_were_begun_are_not_taken_for_modes(pair: Pair) -> None:
    for number in range(2000):
        if number == 20:
            pair.wait_until_full()
        pair.writer.put("\x1b[?2026h")
        pair.writer.put(piece(number))
        pair.writer.put("\x1b[?2026l")
    text = pair.read_until(lambda text: text.endswith("\x1b[?2026l\x1b[0m"))
    assert text.count("\x1b[?2026h") < 200


def test_what_waited_for_a_stalled_terminal_is_old(pair: Pair) -> None:
    for number in range(20):  # more than a pseudo-terminal keeps, and not so much that it would be dropped
        pair.writer.put(piece(number))
    time.sleep(2 * STALL_SECONDS)
    assert not pair.caught_up.is_set()
    end = "\x1b[?2026l\x1b[0m"
    text = pair.read_until(lambda text: text.endswith(end))
    assert text == "".join(map(piece, range(20))) + end
    assert pair.caught_up.is_set()


def test_stopping_does_not_wait_for_the_terminal(pair: Pair) -> None:
    for number in range(BACKLOG // 1010):  # more than it takes, and not so much that it would be dropped
        pair.writer.put(piece(number))
    pair.wait_until_full()
    begun = time.monotonic()
    pair.writer.stop()
    assert time.monotonic() - begun < 10
    pair.writer._thread.join(20)
    assert not pair.writer._thread.is_alive()
    pair.writer.put("late")
    assert not pair.gone.is_set()


def test_a_terminal_that_is_gone_is_told(pair: Pair) -> None:
    os.close(pair.master)
    pair.master = -1
    pair.writer.put("anybody?")
    assert pair.gone.wait(10)
    pair.writer.put("still?")
