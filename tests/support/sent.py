"""What an app without a terminal would send to one, and what can be seen of a terminal's cells."""

from typing import Any

import pyte
import pytest
from textual._compositor import CompositorUpdate

from finetui.tui.app.app import FinetuiApp


def sent_by(app: FinetuiApp, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that is added to from now on; the terminal shows what `app` shows now."""
    app.shown_cells.render(app.screen._compositor.render_full_update(), app.console)
    sent: list[str] = []

    def display(_screen: Any, update: CompositorUpdate | None) -> None:
        if update is not None:
            sent.append(app.shown_cells.render(update, app.console))

    monkeypatch.setattr(app, "_display", display)
    return sent


def seen_cells(screen: pyte.Screen) -> list[list[tuple[object, ...]]]:
    """Return what can be seen of each cell: of most blanks their background alone."""
    return [[_seen(screen.buffer[y][x]) for x in range(screen.columns)] for y in range(screen.lines)]


def _seen(cell: pyte.screens.Char) -> tuple[object, ...]:
    if cell.data == " " and not (cell.underscore or cell.reverse or cell.strikethrough):
        return (" ", cell.bg)
    return tuple(cell)
