"""What moving the focus paints, counted and not timed: the two widgets that it concerns, and nothing else."""

from collections import Counter
from typing import Any

import pyte
import pytest
from canned_predictions import AnsweringLink
from pilot import open_app
from sent import seen_cells, sent_by
from textual._compositor import Compositor
from textual.css.stylesheet import Stylesheet
from textual.dom import DOMNode

from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.train.plots import Plots
from finetui.tui.state.run_curves import METRICS
from finetui.tui.widgets import plot_geometry
from finetui.tui.widgets.line_plot import LinePlot

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
        sent = sent_by(app, monkeypatch)
        full: list[str] = []

        def noted(*given: Any, **options: Any) -> object:
            full.append(str(app.focused))
            return paint(*given, **options)

        monkeypatch.setattr(Compositor, "render_full_update", noted)
        for _ in range(_TABS):
            await pilot.press("tab")
            assert not full
            terminal.feed("".join(sent))
            sent.clear()
            other.feed(paint(compositor).render_segments(app.console))
            assert seen_cells(shown) == seen_cells(whole), app.focused


async def test_the_focus_finds_styles_for_no_more_than_a_plot_can_show(
    link: AnsweringLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(200, 60)) as pilot:
        await pilot.settle()
        found: Counter[str] = Counter()
        apply = Stylesheet.apply

        def counted(sheet: Stylesheet, node: DOMNode, **how: Any) -> None:
            found[type(node).__name__] += 1
            apply(sheet, node, **how)

        monkeypatch.setattr(Stylesheet, "apply", counted)
        await pilot.press("tab")
        assert isinstance(app.focused, Plots)
        assert 0 < found.total() <= len(METRICS) * (len(LinePlot.COMPONENT_CLASSES) + 1) + 10, found
        assert len(LinePlot.COMPONENT_CLASSES) < 15  # with a style for each series that there may ever be: 23
