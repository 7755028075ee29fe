"""What the tests of the Errors screen and of the screens that it opens do with them."""

from pathlib import Path

import msgspec
import numpy as np
from canned import evaluated, prepared
from canned_predictions import DIGITS
from pilot import DashboardPilot
from textual.app import App

from finetui.engine.predictions.file import Predictions
from finetui.engine.protocol.events import RunStarted, StateChanged
from finetui.tui.colours.palettes import palette
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


async def opened(pilot: DashboardPilot) -> ErrorsScreen:
    await pilot.settle()
    await pilot.press("m")
    await pilot.settle()
    screen = pilot.app.screen
    assert isinstance(screen, ErrorsScreen)
    return screen


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
        return dict(palette("truecolor", dark=True))

    def on_mount(self) -> None:
        self.push_screen(self._shown, lambda answer: setattr(self, "answer", answer))
