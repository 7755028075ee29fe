"""What moving the focus paints, counted and not timed: the two widgets that it concerns, and nothing else."""

from typing import Any

import pyte
import pytest
from canned_predictions import AnsweringLink
from pilot import open_app
from textual._compositor import Compositor

from finetui.tui.app.app import FinetuiApp
from finetui.tui.widgets import plot_geometry

# Keys from the Train screen, and the size; from where Tab goes round.
VISITS = [
    ((), (80, 24)),
    ((), (120, 40)),
    ((), (200, 60)),
    (("m",), (120, 40)),
    (("g",), (120, 40)),
    (("o",), (120, 40)),
    (("r",), (120, 40)),
    (("f",), (120, 40)),
    (("m", "slash"), (120, 40)),
]
_TABS = 9


def _cells(screen: pyte.Screen) -> list[list[pyte.screens.Char]]:
    return [[screen.buffer[y][x] for x in range(screen.columns)] for y in range(screen.lines)]


@pytest.mark.parametrize(("keys", "size"), VISITS)
async def test_tab_paints_what_looks_otherwise_and_no_more(
    link: AnsweringLink, monkeypatch: pytest.MonkeyPatch, keys: tuple[str, ...], size: tuple[int, int]
) -> None:
    plot_geometry.preload()
    app = FinetuiApp(link)
    async with open_app(app, size=size) as pilot:
        await pilot.settle()
        await pilot.press(*keys)
        await pilot.settle()
        shown, whole = pyte.Screen(*size), pyte.Screen(*size)
        terminal, other = pyte.Stream(shown), pyte.Stream(whole)
        compositor, paint = app.screen._compositor, Compositor.render_full_update
        terminal.feed(paint(compositor).render_segments(app.console))
        full: list[str] = []

        def display(_screen: object, update: Any) -> None:
            if update is not None:
                terminal.feed(update.render_segments(app.console))

        def noted(*given: Any, **options: Any) -> object:
            full.append(str(app.focused))
            return paint(*given, **options)

        monkeypatch.setattr(app, "_display", display)
        monkeypatch.setattr(Compositor, "render_full_update", noted)
        for _ in range(_TABS):
            await pilot.press("tab")
            assert not full
            other.feed(paint(compositor).render_segments(app.console))
            assert _cells(shown) == _cells(whole), app.focused
