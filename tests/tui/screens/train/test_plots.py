"""The plots of the Train screen, by keys and mouse: which are shown, cursor, zoom, axes, smoothing, export."""

import csv
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from canned import CannedLink, evaluated, layers, point, running
from PIL import Image
from pilot import DashboardPilot, open_app, picture
from textual import events

from finetui.engine.errors import BadInput
from finetui.engine.protocol.events import LayersChanged, LearningRateChanged, StateChanged
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.train.plot_export import plot_target
from finetui.tui.screens.train.plots import Plots
from finetui.tui.widgets import plot_geometry
from finetui.tui.widgets.line_plot import LinePlot


@pytest.fixture(scope="module", autouse=True)
def plotext_is_there() -> None:
    plot_geometry.preload()


def a_run() -> list[object]:
    """Four epochs of a run in which a rate was changed and a layer frozen, an epoch in 50 s."""
    started = StateChanged(state="running", time=1000.0)
    points = [
        point(step, 2 / step, 1 - 0.9 / step, lr=0.001, time=1000.0 + step / 2, grad_norm=1 + 1 / step)
        for step in range(5, 401, 5)
    ]
    scores = [evaluated(epoch, 0.9 + epoch / 100) for epoch in (1, 2, 3)]
    changes = [LearningRateChanged(step=110, learning_rate=0.0017), LayersChanged(step=250, layers=layers("conv2"))]
    return sorted([started, *points, *scores, *changes], key=lambda event: event.step)


def app_of_a_run() -> FinetuiApp:
    return FinetuiApp(CannedLink(*running(*a_run())))


def shown(app: FinetuiApp) -> list[str]:
    return [plot.id for plot in app.screen.query(LinePlot) if plot.display]


def title(plot: LinePlot) -> str:
    return plot.render_line(0).text


async def ready(app: FinetuiApp, pilot: DashboardPilot) -> Plots:
    await pilot.until(lambda: not app.train_screen.panels.behind and not app.link.events, "all is drawn")
    return app.screen.query_one(Plots)


async def test_the_plots_adapt_to_the_room_and_are_reached_by_their_digits() -> None:
    app = app_of_a_run()
    async with open_app(app, size=(80, 24)) as pilot:
        plots = await ready(app, pilot)
        assert shown(app) == ["loss"]
        for number, key in enumerate(("loss", "accuracy", "lr", "grad_norm", "speed", "macro-f1"), 1):
            await pilot.press(str(number))
            assert shown(app) == [key] and plots.current.id == key
            assert plots.has_focus
        assert "1 Loss  2 Acc  3 LR  4 Grad  5 Img/s  6 F1" in title(plots.current)
        await pilot.press("8")  # there is none
        assert shown(app) == ["macro-f1"]
        at = title(plots.current).index("3 LR")
        await pilot.click(plots.current, (at + 2, 0))
        assert shown(app) == ["lr"]
        await pilot.resize_terminal(120, 40)
        assert shown(app) == ["loss", "accuracy", "lr"]
        await pilot.press("4")
        assert shown(app) == ["loss", "accuracy", "grad_norm"]
        await pilot.resize_terminal(200, 60)
        assert shown(app) == ["loss", "accuracy", "lr", "grad_norm", "speed", "macro-f1"]
        regions = [plot.region for plot in app.screen.query(LinePlot) if plot.display]
        used = sum(region.area for region in regions)
        assert used > 0.9 * plots.region.area, "half of it is empty"
        assert not any(a.overlaps(b) for i, a in enumerate(regions) for b in regions[:i])


async def test_the_cursor_reads_all_plots_at_once_and_escape_takes_it_away_first() -> None:
    app = app_of_a_run()
    async with open_app(app, size=(120, 40)) as pilot:
        plots = await ready(app, pilot)
        loss, accuracy = plots.query_one("#loss", LinePlot), plots.query_one("#accuracy", LinePlot)
        await pilot.press("1")
        latest = title(loss), title(accuracy)
        await pilot.press("left", "left", "left")
        cursors = {plot.id: plot.content.cursor for plot in app.screen.query(LinePlot) if plot.display}
        assert len(set(cursors.values())) == 1 and 3.5 < cursors["loss"] < 4
        await pilot.click(loss, (loss.plotter.frame.column(1.0), 5))
        assert accuracy.content.cursor == pytest.approx(1.0, abs=0.1)
        assert (title(loss), title(accuracy)) != latest
        assert "91.00%" in title(accuracy)  # the evaluation nearest to it
        assert "│" in {loss.render_line(row).text[loss.plotter.frame.column(1.0)] for row in range(2, 8)}
        await pilot.press("right_square_bracket", "z")
        assert app.screen.has_class("-zoomed") and shown(app) == ["loss"]
        for left in ("cursor", "window", "zoom"):
            await pilot.press("escape")
            assert plots.view.cursor is None
            assert (plots.view.window is None) == (left != "cursor")
            assert app.screen.has_class("-zoomed") == (left != "zoom")
        assert app.screen is app.train_screen


async def test_zoom_and_pan_by_key_and_by_mouse() -> None:
    app = app_of_a_run()
    async with open_app(app, size=(120, 40)) as pilot:
        plots = await ready(app, pilot)
        loss, lr = plots.query_one("#loss", LinePlot), plots.query_one("#lr", LinePlot)
        await pilot.press("1", "]")
        assert loss.plotter.frame.x_axis.low == lr.plotter.frame.x_axis.low == pytest.approx(2.0)
        await pilot.press("shift+left")
        assert loss.plotter.frame.x_axis == lr.plotter.frame.x_axis
        assert (loss.plotter.frame.x_axis.low, loss.plotter.frame.x_axis.high) == (1.5, 3.5)
        await pilot.press("shift+right", "[")
        assert plots.view.window is None
        at = loss.plotter.frame.column(1.0)
        offset = {"x": at, "y": 5, "button": 0, "shift": False, "meta": False, "ctrl": False}
        loss.post_message(events.MouseScrollUp(loss, delta_x=0, delta_y=-1, **offset))
        await pilot.drawn()
        low, high = plots.view.window
        assert low < 1.0 < high < 3.5 and abs((1.0 - low) / (high - low) - 0.25) < 0.05  # it stays under the pointer
        await pilot.mouse_down(loss, (at, 5))
        await pilot.hover(loss, (at - 4, 5))
        await pilot.mouse_up(loss, (at - 4, 5))
        assert plots.view.window[0] > low


async def test_axes_and_smoothing() -> None:
    app = app_of_a_run()
    async with open_app(app, size=(200, 60)) as pilot:
        plots = await ready(app, pilot)
        loss, lr = plots.query_one("#loss", LinePlot), plots.query_one("#lr", LinePlot)
        assert all(label in picture(app) for label in ("lr x1.7", "conv2 frozen", "★"))
        # Smoothing is named.
        assert "smoothed 0.9" in title(loss) and "smoothed" not in title(lr)
        await pilot.press("1", ")")
        assert "smoothed 0.97" in title(loss)
        await pilot.press(*"((((")
        assert "smoothed" not in title(loss)
        assert loss.content.means[0][1].tolist() == loss.content.data[0][1].tolist()
        # The axis of the current plot is logarithmic, and of no other.
        await pilot.press("Y")
        assert loss.log_y and not lr.log_y and "· log" in title(loss)
        # By epoch, step or time, the look stays where it is.
        await pilot.press("right_square_bracket")
        await pilot.click(loss, (loss.plotter.frame.column(3.0), 5))
        for label, factor in (("step", 100.0), ("minutes", 50 / 60), ("epoch", 1.0)):
            await pilot.press("X")
            assert f"{label} " in loss.render_line(loss.size.height - 1).text
            assert loss.content.cursor == pytest.approx(3.0 * factor, rel=0.03)
            assert loss.content.window[0] == pytest.approx(2.0 * factor, rel=0.03)
            assert loss.content.marks[0][0] == pytest.approx(1.1 * factor, rel=0.03)
            assert loss.content.data[0][0][-1] == pytest.approx(4.0 * factor, rel=0.03)


async def test_a_plot_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = app_of_a_run()
    files = {kind: tmp_path / f"a-run-accuracy.{kind}" for kind in ("png", "svg", "csv", "txt")}
    async with open_app(app, size=(120, 40)) as pilot:
        await ready(app, pilot)
        await pilot.press("2")
        for kind, path in files.items():
            await pilot.press(">", "end", *["backspace"] * 3, *kind, "enter")
            await pilot.until(lambda path=path: f"plot written to {path.name}" in picture(app), "it is told")
    with Image.open(files["png"]) as image:
        pixels = np.asarray(image.convert("RGB"))
    for colour in ((0x00, 0x5F, 0x96), (0xB8, 0x4C, 0x00)):  # both curves, in the colours of a light ground
        assert (pixels == colour).all(axis=2).sum() > 500
    words = {element.text for element in ET.parse(files["svg"]).iter("{http://www.w3.org/2000/svg}text")}
    assert {"epoch", "lr x1.7", "conv2 frozen", "100%", "Accuracy · a-run, smoothed 0.9"} <= words
    rows = list(csv.DictReader(files["csv"].open(newline="")))
    assert [row["series"] for row in rows].count("train") == 80
    last = [row for row in rows if row["series"] == "evaluation"][-1]
    assert (last["epoch"], last["step"], last["accuracy"], last["smoothed"]) == ("3", "300", "0.93", "")
    assert float(rows[79]["seconds"]) == 200 and float(rows[79]["accuracy"]) == pytest.approx(1 - 0.9 / 400)
    text = files["txt"].read_text()
    assert text.startswith("Accuracy · a-run, smoothed 0.9\n╭ Accuracy ") and "100%╶" in text


def test_where_nothing_can_be_exported_to_is_refused_in_words(tmp_path: Path) -> None:
    there = tmp_path / "there.svg"
    there.write_text("mine")
    for path, words in (
        ("", "enter a file that ends in .png, .svg, .csv or .txt"),
        (str(tmp_path / "plot.pdf"), "plot.pdf: enter a file that ends in"),
        (str(there), "exists; choose another name, or overwrite it"),
        (str(tmp_path / "no" / "plot.png"), "there is no folder"),
    ):
        with pytest.raises(BadInput, match=words.replace(".", r"\.")):
            plot_target(path)
    assert plot_target(str(there), overwrite=True).kind == "svg"
