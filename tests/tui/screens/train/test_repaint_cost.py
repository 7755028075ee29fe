"""What the dashboard does for one more point, counted and not timed: what it sends, and what it draws."""

from collections import Counter

import msgspec
import pytest
from canned import CannedLink, evaluated, point, running
from pilot import open_app
from sent import sent_by
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input

from finetui.engine.protocol.events import Log
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.train.plots import Plots
from finetui.tui.widgets import plot_geometry
from finetui.tui.widgets.line_plot import LinePlot

SIZES = [(80, 24), (120, 40), (200, 60)]
POINTS = 20
# In bytes, escape sequences of 256 colours included; there are 44, 51 and 72 now.
# A whole line of a plot is 300, a screen 8 000.
MOST_A_POINT = {80: 60, 120: 70, 200: 95}


class Watched:
    """Counts what an app sends to its terminal, and which widgets render how many lines."""

    def __init__(self, app: FinetuiApp, monkeypatch: pytest.MonkeyPatch) -> None:
        self._sent = sent_by(app, monkeypatch)
        self.lines: Counter[str] = Counter()
        render_lines = Widget.render_lines

        def rendered(widget: Widget, crop: object) -> object:
            self.lines[type(widget).__name__] += crop.height
            return render_lines(widget, crop)

        monkeypatch.setattr(Widget, "render_lines", rendered)

    @property
    def sent(self) -> int:
        """Bytes, of text in UTF-8."""
        return len("".join(self._sent).encode())


@pytest.mark.parametrize("size", SIZES)
async def test_one_more_point_sends_what_it_changes(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    # Every point is shown: how many are is a matter of time, and here of none.
    monkeypatch.setattr("finetui.tui.screens.train.refresh.RefreshRate.due", lambda _rate: True)
    monkeypatch.setattr("finetui.tui.screens.train.panels._PLOT_SECONDS", 0.0)
    plot_geometry.preload()
    past = [point(step, 2.0 / step, 1 - 0.5 / step) for step in range(1, 400)]
    link = CannedLink(*running(*past, evaluated(3, 0.9)))
    app = FinetuiApp(link, depth="256")
    async with open_app(app, size=size) as pilot:
        while link.events or app.train_screen.panels.behind:  # a long past comes in portions
            await pilot.wait(0.1)
        await pilot.wait(0.5)
        watched = Watched(app, monkeypatch)
        poll = app.train_screen._poll
        for step in range(400, 400 + POINTS):
            link.events.put(point(step, 2.0 / step, 1 - 0.5 / step))
            poll()
            await pilot.drawn()
        assert 0 < watched.sent <= MOST_A_POINT[size[0]] * POINTS, watched.sent / POINTS
        # What a point does not concern draws nothing.
        assert not {"PerClassTable", "LayerList", "Controls"} & watched.lines.keys()
        shown = watched.sent
        await pilot.wait(0.6)
        assert watched.sent == shown  # and without a point there is nothing at all


async def test_a_rate_that_a_schedule_moves_lays_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetui.tui.screens.train.panels._RATE_SECONDS", 0.0)
    link = CannedLink(*running(point(1)))
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        laid_out: list[object] = []
        lay_out = Screen._refresh_layout

        def note(screen: Screen, *more: object, **how: object) -> None:
            laid_out.append(more)
            lay_out(screen, *more, **how)

        monkeypatch.setattr(Screen, "_refresh_layout", note)
        field = app.train_screen.query_one("#learning-rate", Input)
        for step, rate in enumerate((0.01, 0.0123456, 0.03, 0.0289999), start=2):
            link.events.put(msgspec.structs.replace(point(step), learning_rate=rate))
            await pilot.until(lambda rate=rate: field.value == f"{rate:.3g}", "the field shows the rate")
            await pilot.drawn()
        assert not laid_out


async def test_the_styles_of_a_plot_are_found_once_a_theme(monkeypatch: pytest.MonkeyPatch) -> None:
    plot_geometry.preload()
    link = CannedLink(*running(*[point(step, 2.0 / step, 0.8) for step in range(1, 50)]))
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        asked: Counter[str] = Counter()
        style = LinePlot.get_component_rich_style

        def find(plot: LinePlot, *names: str) -> object:
            asked[plot.id or ""] += 1
            return style(plot, *names)

        monkeypatch.setattr(LinePlot, "get_component_rich_style", find)
        plot = app.train_screen.query_one("#loss", LinePlot)
        plot._update()
        plot.refresh()
        await pilot.drawn()
        assert not asked
        app.theme = "textual-light" if app.theme != "textual-light" else "textual-dark"
        await pilot.settle()
        assert asked["loss"] == len(LinePlot.COMPONENT_CLASSES)  # another theme has other colours


async def test_a_plot_that_looks_the_same_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most points of a long run fall on dots that are there."""
    plot_geometry.preload()
    link = CannedLink(*running(*[point(step, 0.5, 0.8) for step in range(1, 900)]))
    app = FinetuiApp(link, depth="256")
    async with open_app(app, size=(120, 40)) as pilot:
        while link.events or app.train_screen.panels.behind:  # a long past comes in portions
            await pilot.wait(0.1)
        await pilot.wait(0.5)
        drawn: list[object] = []
        draw = plot_geometry.draw
        monkeypatch.setattr(plot_geometry, "draw", lambda *given: drawn.append(given) or draw(*given))
        plot = app.train_screen.query_one("#loss", LinePlot)
        watched = Watched(app, monkeypatch)
        for _ in range(10):
            app.train_screen.query_one(Plots).show(app.train_screen.store)
            plot._update()
        await pilot.drawn()
        assert not drawn
        assert watched.lines["LinePlot"] == watched.sent == 0


async def test_points_are_heard_together_when_a_picture_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    due = [True]
    monkeypatch.setattr("finetui.tui.screens.train.refresh.RefreshRate.due", lambda _rate: due[0])
    link = CannedLink(*running(point(1)))
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        due[0] = False
        for step in range(2, 12):
            link.events.put(point(step))
            await pilot.wait(0.3)
        assert app.train_screen.store.view.step == 1
        link.events.put(Log(level="info", message="seen at once"))  # and what came before it
        await pilot.drawn()
        assert app.train_screen.store.view.step == 11
        assert app.train_screen.store.view.log[-1].text == "seen at once"
        link.events.put(point(12))
        due[0] = True
        await pilot.wait(0.3)
        assert app.train_screen.store.view.step == 12
