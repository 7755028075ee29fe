"""The thread that reads what is typed: awake while somebody types, and asleep otherwise; and sizes while one drags."""

import asyncio
import os
import pty
import select
import threading
from typing import Any

import pytest
from textual import events
from textual.app import App
from textual.geometry import Size
from textual.message import Message

from finetui.tui.terminal.driver import TerminalDriver


class Terminal:
    """The terminal of a driver, as far as its input thread looks at it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def read(self, size: int) -> bytes:
        return os.read(self.descriptor, size)


class Driver(TerminalDriver):
    """A driver that has no app, and keeps what it hears."""

    def __init__(self, descriptor: int) -> None:  # without what belongs to an app
        self.fileno = descriptor
        self._terminal: Any = Terminal(descriptor)
        self._debug = False
        self._leave_reader, self._leave_writer = os.pipe()
        self.exit_event = threading.Event()
        self.heard: list[Message] = []
        self._key_thread = threading.Thread(target=self._read_input, args=(self.exit_event,), daemon=True)

    def process_message(self, message: Message) -> None:
        self.heard.append(message)


class Clock:
    """What the driver needs of `time`."""

    def __init__(self, now: list[float]) -> None:
        self.monotonic = lambda: now[0]


def test_it_looks_again_and_again_only_for_a_while_after_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []
    asleep, now, real = threading.Event(), [0.0], select.select

    def wait(files: Any, _write: Any, _wrong: Any, timeout: float | None) -> Any:
        waits.append(timeout)
        if timeout is None:
            asleep.set()
            return real(files, [], [])
        now[0] += timeout
        return real(files, [], [], 0)

    monkeypatch.setattr(select, "select", wait)
    monkeypatch.setattr("finetui.tui.terminal.driver.time", Clock(now))
    keyboard, descriptor = pty.openpty()
    os.set_blocking(descriptor, False)
    driver = Driver(descriptor)
    driver._key_thread.start()
    assert asleep.wait(10)
    before = len(waits)
    assert 20 <= before <= 23  # two seconds of a tenth each
    asleep.clear()
    os.write(keyboard, b"x\n")
    assert asleep.wait(10)
    assert [message.key for message in driver.heard][:1] == ["x"]
    assert 20 <= len(waits) - before <= 25
    # And it leaves at once where it sleeps.
    thread = driver._key_thread
    driver.disable_input()
    assert not thread.is_alive()
    os.close(keyboard)
    os.close(descriptor)


class Dragged(App[None]):
    """An app whose terminal has the sizes that a test says."""

    terminal: Any = None
    painted = 0

    def is_leaving(self) -> bool:
        return False

    def fail(self, error: Exception) -> None:
        raise error

    def repaint(self) -> None:
        self.painted += 1


@pytest.mark.parametrize(("widths", "painted"), [((80, 60, 80), 1), ((80, 60), 0), ((80, 80), 0), ((60, 80, 60), 0)])
async def test_a_size_that_is_back_before_the_app_hears_of_another_is_painted_anew(
    widths: tuple[int, ...], painted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetui.tui.terminal.driver._RESIZE_SECONDS", 0.02)
    app = Dragged()
    app.terminal = Terminal(-1)
    app.terminal.size = lambda: (80, 24)
    driver = TerminalDriver(app)
    heard: list[Any] = []
    monkeypatch.setattr(driver, "send_message", heard.append)
    driver._note_size(events.Resize(Size(80, 24), Size(80, 24)))
    await asyncio.sleep(0.01)
    assert len(heard) == 1
    for width in widths:
        driver._note_size(events.Resize(Size(width, 24), Size(width, 24)))
    await asyncio.sleep(0.05)
    assert [event.size.width for event in heard] == [80, widths[-1]]
    assert app.painted == painted
