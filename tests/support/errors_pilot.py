"""What the tests of the Errors screen and of the screens that it opens do with them."""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from canned import evaluated, prepared
from canned_predictions import DIGITS
from textual.app import App

from finetui.engine.predictions.file import Predictions
from finetui.engine.protocol.events import RunStarted, StateChanged
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.errors.screen import ErrorsScreen

SIZES = [(80, 24), (120, 40), (200, 60)]


def events_of(folder: Path, classes: tuple[str, ...] = DIGITS, *, file: str = "last.predictions"):
    done = msgspec.structs.replace(evaluated(1, 0.9, classes), predictions=file)
    return [
        prepared(classes=classes),
        StateChanged(state="ready"),
        RunStarted(name="a-run", path=str(folder)),
        StateChanged(state="running"),
        done,
    ]


async def settle(pilot, times: int = 8) -> None:
    busy = [worker for worker in pilot.app.workers if worker.group in ("list", "export") and not worker.is_finished]
    if busy:  # an empty list would stand for all
        await pilot.app.workers.wait_for_complete(busy)
    for _ in range(times):
        await pilot.pause(0.06)


async def until(pilot, test: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not test():
        assert time.monotonic() < deadline, picture(pilot.app)
        await pilot.pause(0.05)


async def opened(pilot) -> ErrorsScreen:
    await settle(pilot, 3)
    await pilot.press("m")
    await settle(pilot)
    screen = pilot.app.screen
    assert isinstance(screen, ErrorsScreen)
    return screen


def picture(app: FinetuiApp) -> str:
    lines = app.screen._compositor.render_strips()
    return "\n".join(line.text for line in lines)


def line(screen: ErrorsScreen, name: str) -> str:
    return screen.query_one(f"#errors-{name}")._content.plain


def listed(screen: ErrorsScreen) -> list[int]:
    assert screen._listing is not None
    return screen._listing.rows.tolist()


def by_loss(found: Predictions, rows: np.ndarray) -> list[int]:
    return rows[np.argsort(-found.loss[rows], kind="stable")].tolist()


HOSTILE = ("[bold red]x[/]", "\x1b[31mred\x1b[0m", "two\nlines", "‮evil", "漢字漢字漢字漢字漢字", "e\u0301\u0301", "",
           "a" * 300, "[/]", "\u200b")  # fmt: skip


class ScreenApp(App[None]):
    """Shows one screen and keeps what it is dismissed with."""

    answer: object = "not yet"

    def __init__(self, screen) -> None:
        super().__init__()
        self._shown = screen

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return {"muted": "gray"}

    def on_mount(self) -> None:
        self.push_screen(self._shown, lambda answer: setattr(self, "answer", answer))
