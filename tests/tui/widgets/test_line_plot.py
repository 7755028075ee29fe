"""The plot widget: what it draws, and that it repaints no more than what changed."""

import threading

import numpy as np
import pytest
from pilot import open_app
from textual.app import App, ComposeResult
from textual.geometry import Region

from finetui.tui.colours.palettes import palette
from finetui.tui.widgets import plot_geometry
from finetui.tui.widgets.line_plot import LinePlot
from finetui.tui.widgets.plot_drawing import PlotContent, SeriesStyle
from finetui.tui.widgets.plot_picture import SERIES, Picture

TRAIN_TEST = (SeriesStyle("train"), SeriesStyle("test", points=True, look=1))
NONE = np.empty(0)


@pytest.fixture(scope="module", autouse=True)
def plotext_is_there() -> None:
    plot_geometry.preload()


class PlotApp(App[None]):
    """One plot, as large as the terminal."""

    def __init__(self, plot: LinePlot) -> None:
        super().__init__()
        self.plot = plot

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(palette("truecolor", dark=True))

    def compose(self) -> ComposeResult:
        yield self.plot


def curve(until: float = 3.4) -> list[tuple[np.ndarray, np.ndarray]]:
    x = np.linspace(0.01, 10, 1000)
    x = x[x <= until]
    epochs = np.arange(1.0, until + 1e-9)
    return [(x, 2.3 * np.exp(-3 * x) + 0.05), (epochs, 0.3 * np.exp(-epochs) + 0.0651)]


def lines(plot: LinePlot) -> list[str]:
    return [plot.render_line(y).text for y in range(plot.size.height)]


def braille(text: str) -> int:
    return sum("⠀" < char <= "⣿" for char in text)


def rows_of(plot: LinePlot, colour: str | None) -> set[int]:
    """Return the rows with a piece of a curve of that colour, or of any."""
    return {
        row
        for row in range(plot.size.height)
        for segment in plot.render_line(row)
        if braille(segment.text) and colour in (None, segment.style.color.triplet.hex)
    }


def spy(plot: LinePlot, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Region, ...]]:
    calls: list[tuple[Region, ...]] = []
    refresh = plot.refresh

    def record(*regions: Region, **options: bool) -> LinePlot:
        calls.append(regions)
        return refresh(*regions, **options)

    monkeypatch.setattr(plot, "refresh", record)
    return calls


@pytest.mark.parametrize("size", [(38, 8), (100, 30)])
async def test_curves_axes_and_legend(size: tuple[int, int]) -> None:
    plot = LinePlot("Loss", TRAIN_TEST)
    async with open_app(PlotApp(plot), size=size):
        plot.set_data(curve(), 10, marks=((2.0, "lr x2"), (99.0, "never")))
        shown = lines(plot)
        assert all(len(line) == size[0] for line in shown)
        assert shown[0].startswith("╭ Loss ─") and shown[0].endswith("─ train 0.0501  ◆ test 0.0800 ╮")
        numbers = [float(label) for label in shown[-1].strip("╰╯ ").replace("─", "").split()[1:]]
        assert shown[-1].startswith("╰epoch ") and numbers[0] == 0 and numbers[-1] == 5
        assert braille("".join(shown)) > 20
        assert "".join(shown[1:]).count("◆") == 3
        ticks = [float(line[1:].split("╶")[0]) for line in shown if "╶" in line]
        assert len(ticks) >= 2 and ticks[-1] == 0 and ticks == sorted(ticks, reverse=True)
        assert any("┊" in line for line in shown)
        assert max(line.count("┊") for line in shown) == 1  # the mark out of range is not drawn
        assert "┊lr x2" in "".join(shown) or "lr x2┊" in "".join(shown)
        assert "never" not in "".join(shown)


async def test_data_given_before_the_widget_is_mounted_are_drawn() -> None:
    plot = LinePlot("Loss", TRAIN_TEST)
    plot.set_data(curve(), 10)
    async with open_app(PlotApp(plot), size=(60, 12)):
        assert braille("".join(lines(plot))) > 20


async def test_colours_come_from_the_theme() -> None:
    plot = LinePlot("Loss", TRAIN_TEST)
    async with open_app(PlotApp(plot), size=(60, 12)):
        plot.set_data(curve(), 10)
        colours = {}
        for y in range(12):
            for segment in plot.render_line(y):
                if braille(segment.text) or "◆" in segment.text:
                    kind = "test" if "◆" in segment.text else "train"
                    colours.setdefault(kind, set()).add(segment.style.color.triplet.hex)
        assert colours["test"] == {"#e69f00"}
        assert "#56b4e9" in colours["train"]


async def test_many_values_are_a_line_of_means_in_front_of_a_faint_band() -> None:
    plot = LinePlot("Loss", TRAIN_TEST)
    x = np.linspace(0.0, 10.0, 4000)
    y = np.where(np.arange(4000) % 4 == 0, 0.9, 0.1)  # on the average 0.3
    async with open_app(PlotApp(plot), size=(60, 22)):
        plot.set_data([(x, y), (NONE, NONE)], 10)
        line, band = rows_of(plot, "#56b4e9"), rows_of(plot, None)
        assert len(line) <= 2 < 12 < len(band)
        assert abs(min(line) - (max(band) - 0.25 * (max(band) - min(band)))) <= 1
        # The legend tells of the last value, which is no mean.
        assert "train 0.1000" in lines(plot)[0]
        plot.set_data([(x, y), (NONE, NONE)], 10, means=[(x, np.full(4000, 0.7)), (NONE, NONE)])
        assert max(rows_of(plot, "#56b4e9")) < min(line) - 4


async def test_only_the_cells_that_changed_are_repainted(monkeypatch: pytest.MonkeyPatch) -> None:
    plot = LinePlot("Loss", TRAIN_TEST)
    async with open_app(PlotApp(plot), size=(80, 20)) as pilot:
        plot.set_data(curve(3.40), 10)
        await pilot.drawn()
        before, calls = lines(plot), spy(plot, monkeypatch)
        plot.set_data(curve(3.70), 10)
        after = lines(plot)
        assert len(calls) == 1 and calls[0]
        cells = {(x, y) for region in calls[0] for y in region.line_range for x in region.column_range}
        changed = {(x, y) for y in range(20) for x in range(80) if before[y][x] != after[y][x]}
        assert changed and changed <= cells
        assert len(cells) < 40  # of 1600: the curve's end and the latest value
        for region in calls[0]:  # each begins and ends with a cell that changed
            assert {(region.x, region.y), (region.right - 1, region.y)} <= changed


async def test_no_change_no_repaint(monkeypatch: pytest.MonkeyPatch) -> None:
    plot = LinePlot("Loss", TRAIN_TEST)
    async with open_app(PlotApp(plot), size=(80, 20)) as pilot:
        plot.set_data(curve(), 10)
        await pilot.drawn()
        calls = spy(plot, monkeypatch)
        drawn: list[object] = []
        monkeypatch.setattr(plot_geometry, "draw", lambda *arguments: drawn.append(arguments))
        plot.set_data(curve(), 10)
        assert calls == [] and drawn == []


async def test_a_change_of_colour_alone_is_a_change() -> None:
    old, new = Picture(3, 2), Picture(3, 2)
    old.put(0, 1, "abc", 1)
    new.put(0, 1, "a", 1)
    new.put(1, 1, "bc", 2)
    assert new.changed(old) == [Region(1, 1, 2, 1)]
    assert new.changed(new) == []


async def test_resizing_draws_the_same_data_at_the_new_size() -> None:
    plot = LinePlot("Loss", TRAIN_TEST)
    async with open_app(PlotApp(plot), size=(38, 8)) as pilot:
        plot.set_data(curve(), 10)
        small = braille("".join(lines(plot)))
        await pilot.resize_terminal(100, 30)
        shown = lines(plot)
        assert len(shown) == 30 and all(len(line) == 100 for line in shown)
        assert braille("".join(shown)) > 1.5 * small


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 9), (5, 3), (9, 2), (12, 4), (200, 1), (300, 90)])
async def test_any_size_draws_what_fits(size: tuple[int, int]) -> None:
    plot = LinePlot("Loss", TRAIN_TEST)
    async with open_app(PlotApp(plot), size=size):
        for data in (curve(), [(NONE, NONE)] * 2):
            plot.set_data(data, 10, marks=((1.0, "x"),))
            plot.toggle_log()
            shown = lines(plot)
            assert len(shown) == size[1] and all(len(line) == size[0] for line in shown)
            assert shown[0].startswith(("Loss"[: size[0]], "╭ Loss"))


async def test_no_size_at_all() -> None:
    plot = LinePlot("Loss", TRAIN_TEST)
    async with open_app(PlotApp(plot), size=(80, 24)) as pilot:
        plot.styles.width = plot.styles.height = 0
        await pilot.drawn()
        plot.set_data(curve(), 10)
        assert lines(plot) == []


async def test_values_that_are_not_finite_are_left_out() -> None:
    plot = LinePlot("Loss", TRAIN_TEST)
    async with open_app(PlotApp(plot), size=(60, 12)):
        x = np.linspace(0, 5, 100)
        y = np.linspace(1, 0.5, 100)
        y[::3], y[1], y[-1] = np.nan, np.inf, -np.inf
        plot.set_data([(x, y), (np.array([1.0, 2.0]), np.array([np.nan, 0.25]))], 5)
        shown = lines(plot)
        assert braille("".join(shown[1:])) > 20
        assert "".join(shown[1:]).count("◆") == 1
        assert "train 0.5051" in shown[0] and "test 0.2500" in shown[0]
        plot.set_data([(x, np.full(100, np.nan)), (NONE, NONE)], 5)
        assert "no data yet" in "".join(lines(plot))


async def test_no_data_shows_axes_and_says_so() -> None:
    plot = LinePlot("Accuracy", TRAIN_TEST, percent=True)
    async with open_app(PlotApp(plot), size=(40, 9)):
        shown = lines(plot)
        assert "no data yet" in "".join(shown)
        assert shown[-1].replace("─", "").split()[1:3] == ["0.0", "0.5"]
        assert "100%╶" in "".join(shown)
        plot.set_data([(NONE, NONE)] * 2, 10)
        assert lines(plot)[-1].replace("─", "").split() == ["╰epoch", "0", "2", "4", "6", "8", "10╯"]


async def test_a_constant_series_is_a_line_in_the_middle() -> None:
    plot = LinePlot("Loss", TRAIN_TEST)
    async with open_app(PlotApp(plot), size=(60, 12)):
        plot.set_data([(np.linspace(0, 5, 50), np.full(50, 0.3)), (NONE, NONE)], 5)
        rows = [y for y, line in enumerate(lines(plot)) if braille(line)]
        assert len(rows) == 1 and 3 <= rows[0] <= 7


async def test_log_scale_there_and_back() -> None:
    plot = LinePlot("Loss", TRAIN_TEST)
    async with open_app(PlotApp(plot), size=(60, 12)):
        plot.set_data(curve(), 10)
        linear = lines(plot)
        plot.toggle_log()
        logarithmic = lines(plot)
        assert plot.log_y and " 0.1╶" in "".join(logarithmic)
        assert logarithmic[0].startswith("╭ Loss · log ")
        assert logarithmic[1:] != linear[1:]
        plot.toggle_log()
        assert lines(plot) == linear


async def test_percents() -> None:
    plot = LinePlot("Accuracy", TRAIN_TEST, percent=True)
    async with open_app(PlotApp(plot), size=(38, 8)):
        x = np.linspace(0.1, 3, 60)
        plot.set_data([(x, 0.99 - 0.05 * np.exp(-x)), (np.array([1.0]), np.array([0.9651]))], 10)
        shown = lines(plot)
        assert shown[0].startswith("╭ Accuracy ") and shown[0].endswith(" ◆ 96.51% ╮")
        assert shown[1].startswith("│ 100%╶")


async def test_the_second_line_lies_above_the_first_and_glyphs_above_both() -> None:
    plot = LinePlot("Loss", TRAIN_TEST)
    async with open_app(PlotApp(plot), size=(60, 12)):
        x = np.arange(6.0)
        plot.set_data([(x, x), (x, x)], 5)
        segments = [segment for y in range(1, 11) for segment in plot.render_line(y) if braille(segment.text)]
        assert {segment.style.color.triplet.hex for segment in segments} == {"#e69f00"}
        assert "".join(lines(plot)[1:]).count("◆") == 6


async def test_the_evaluation_is_not_broken_by_a_curve_behind_it() -> None:
    """Where both have dots in a cell, all of them are there, in the colour of the curve in front."""
    x, rising, falling = np.linspace(0, 5, 200), np.linspace(0, 1, 200), np.linspace(1, 0, 200)
    drawn = []
    for curves in ((rising, falling), (rising, NONE), (NONE, falling)):
        plot = LinePlot("Loss", (SeriesStyle("train"), SeriesStyle("test", look=1)))
        plot.plotter.bands = False  # which curves hide
        async with open_app(PlotApp(plot), size=(60, 20)):
            plot.set_data([(x if len(y) else NONE, y) for y in curves], 5)
            drawn.append((plot._picture.chars[1:-1].copy(), plot._picture.owners[1:-1].copy()))
    (both, owners), (behind, of_behind), (front, alone) = drawn
    of_front = alone == SERIES + 1
    assert np.array_equal(owners[of_front], alone[of_front])
    shared = of_front & (of_behind == SERIES)
    codes = [chars[shared].view(np.uint32) - 0x2800 for chars in (both, behind, front)]
    assert (codes[1] != codes[2]).any(), "they do not meet in a cell"
    assert np.array_equal(codes[0], codes[1] | codes[2])


async def test_a_smoothed_line_stands_in_front_of_its_raw_band() -> None:
    plot = LinePlot("Loss", (SeriesStyle("train"),))
    x, y = np.arange(40.0), np.tile([0.2, 0.8], 20)
    async with open_app(PlotApp(plot), size=(100, 20)):  # fewer values than columns: the band is a line
        plot.show(PlotContent([(x, y)], 40, means=[(x, np.full(40, 0.5))], smoothed=True))
        line, everything = rows_of(plot, "#56b4e9"), rows_of(plot, None)
        assert len(line) == 1 and min(everything) < min(line) < max(everything)
        assert "train 0.5000 ╮" in lines(plot)[0]  # the value of the line, not the last of the band


async def test_the_best_value_has_a_star_the_cursor_reads_all_and_a_part_can_be_shown() -> None:
    plot = LinePlot("Loss", TRAIN_TEST)
    async with open_app(PlotApp(plot), size=(100, 20)):
        plot.show(PlotContent(curve(), 10, best=2.0))
        assert "".join(lines(plot)[1:]).count("★") == 1 and "".join(lines(plot)[1:]).count("◆") == 2
        stars = [segment for row in range(1, 20) for segment in plot.render_line(row) if "★" in segment.text]
        assert [star.style.color.triplet.hex for star in stars] == ["#e69f00"]  # the curve's whose value it hides
        plot.show(PlotContent(curve(), 10, best=7.0))
        assert "★" not in "".join(lines(plot))
        plot.show(PlotContent(curve(), 10, cursor=1.1))
        shown = lines(plot)
        assert "train 0.1348" in shown[0] and "test 0.1755" in shown[0]
        assert " 1.10 " in shown[-1] and sum(line[plot.plotter.frame.column(1.1)] == "│" for line in shown[1:-1]) > 12
        plot.show(PlotContent(curve(), 10, window=(1.0, 1.5)))
        assert (plot.plotter.frame.x_axis.low, plot.plotter.frame.x_axis.high) == (1.0, 1.5)
        assert plot.plotter.frame.y_axis.high < 0.25  # the y axis is that of what is shown
        plot.show(PlotContent(curve(), 10, window=(2.0, None)))
        assert plot.plotter.frame.x_axis.low == 2.0 and plot.plotter.frame.x_axis.high >= 3.4
        plot.show(PlotContent(curve(), 10, window=(8.0, 9.0)))
        assert "no data here" in "".join(lines(plot))


async def test_an_axis_that_leaves_the_start_out_says_so() -> None:
    plot = LinePlot("Accuracy", (SeriesStyle("train"),), percent=True)
    x = np.linspace(0.1, 10, 100)
    async with open_app(PlotApp(plot), size=(60, 12)):
        plot.set_data([(x, 1 - 0.9 * np.exp(-3 * (x - 0.1)))], 10)
        assert "↓ from 10.00%" in lines(plot)[-2]
        plot.set_data([(x, 0.95 + x / 1000)], 10)
        assert "↓" not in "".join(lines(plot))


async def test_labels_of_marks_hide_neither_curves_nor_each_other() -> None:
    plot = LinePlot("Loss", (SeriesStyle("train"),))
    x = np.linspace(0, 10, 300)
    async with open_app(PlotApp(plot), size=(60, 12)):
        plot.set_data([(x, x)], 10)
        bare = plot._picture
        labels = ("lr x1.7", "conv2 frozen", "all layers")
        plot.set_data([(x, x)], 10, marks=tuple(zip((2.0, 2.2, 9.9), labels, strict=True)))
        shown = "\n".join(lines(plot))
        assert all(label in shown for label in labels)
        curves = bare.owners >= SERIES
        assert np.array_equal(plot._picture.owners[curves], bare.owners[curves])


async def test_text_is_not_markup_and_cannot_steer_the_terminal() -> None:
    plot = LinePlot("[b]x[/b]\x1b[2J損失\x07", (SeriesStyle("[red]a"),))
    async with open_app(PlotApp(plot), size=(60, 8)):
        plot.set_data([curve()[0]], 10)
        assert lines(plot)[0].startswith("╭ [b]x[/b][2J損失 ")
        assert "[red]a" in lines(plot)[0] and not {"\x1b", "\x07"} & set(lines(plot)[0])
        assert plot.render_line(0).cell_length == 60


async def test_a_narrow_plot_drops_the_names_then_the_legend() -> None:
    plot = LinePlot("Loss", TRAIN_TEST)
    async with open_app(PlotApp(plot), size=(31, 8)) as pilot:
        plot.set_data(curve(), 10)
        assert lines(plot)[0] == "╭ Loss ──── ─ 0.0501 ◆ 0.0800 ╮"
        await pilot.resize_terminal(20, 8)
        assert lines(plot)[0].strip() == "╭ Loss ────────────╮"


async def test_until_plotext_is_loaded_the_axes_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    plot_geometry._loaded.clear()
    preloads: list[str] = []
    preload = plot_geometry.preload

    def record() -> None:
        preloads.append(threading.current_thread().name)
        preload()

    monkeypatch.setattr(plot_geometry, "preload", record)
    plot = LinePlot("Loss", TRAIN_TEST)
    async with open_app(PlotApp(plot), size=(60, 12)) as pilot:
        assert preloads == []
        plot.set_data(curve(), 10)
        shown = "".join(lines(plot))
        assert braille(shown) == 0 and "2.0╶" in shown and "no data yet" not in shown
        await pilot.app.workers.wait_for_complete()
        assert braille("".join(lines(plot))) > 20
        assert len(preloads) == 1 and preloads[0] != "MainThread"


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ValueError, match="1 to 8"):
        LinePlot("Loss", ())
    with pytest.raises(ValueError, match="2 series, but data for 1"):
        LinePlot("Loss", TRAIN_TEST).set_data([curve()[0]], 10)


async def test_a_plot_that_was_hidden_shows_what_has_come_meanwhile() -> None:
    plot = LinePlot("Loss", TRAIN_TEST)
    async with open_app(PlotApp(plot), size=(60, 12)) as pilot:
        plot.set_data([(NONE, NONE)] * 2, 10)
        await pilot.drawn()
        assert "no data yet" in "".join(lines(plot))
        plot.display = False
        await pilot.drawn()
        plot.set_data(curve(), 10)
        plot.display = True  # at the size of before
        await pilot.drawn()
        assert "no data yet" not in "".join(lines(plot))
        assert braille("".join(lines(plot))) > 20
