"""The grid of thumbnails: cursor, scrolling, and that only what is near the window is asked for."""

import re

import numpy as np
import pytest
from pilot import open_app
from rich.cells import cell_len
from textual.app import App, ComposeResult
from textual.content import Content
from textual.geometry import Region

from finetui.tui.widgets.thumbnail_grid import SIZES, ThumbnailGrid, Tile


def tile(position: int, *, marked: bool = False) -> Tile:
    image = np.full((28, 28, 1), position % 256, np.uint8)
    return Tile(image=image, lines=(Content(f"a{position}"), Content(f"b{position}")), marked=marked)


class GridApp(App[None]):
    """A grid whose tiles are given at once when they are needed, as far as `give` says."""

    def __init__(self, count: int, *, give: bool = True) -> None:
        super().__init__()
        self.count = count
        self.give = give
        self.needs: list[tuple[int, int]] = []
        self.messages: list[tuple[str, int]] = []

    def compose(self) -> ComposeResult:
        yield ThumbnailGrid()

    def on_mount(self) -> None:
        self.grid.focus()
        self.grid.set_count(self.count)

    @property
    def grid(self) -> ThumbnailGrid:
        return self.query_one(ThumbnailGrid)

    def on_thumbnail_grid_needed(self, message: ThumbnailGrid.Needed) -> None:
        self.needs.append((message.first, message.last))
        if self.give:
            self.grid.set_tiles({i: tile(i) for i in range(message.first, message.last + 1)})

    def on_thumbnail_grid_highlighted(self, message: ThumbnailGrid.Highlighted) -> None:
        self.messages.append(("highlighted", message.position))

    def on_thumbnail_grid_chosen(self, message: ThumbnailGrid.Chosen) -> None:
        self.messages.append(("chosen", message.position))

    def on_thumbnail_grid_mark_toggled(self, message: ThumbnailGrid.MarkToggled) -> None:
        self.messages.append(("marked", message.position))

    def text(self) -> list[str]:
        grid = self.grid
        return [grid.render_line(y).text for y in range(grid.size.height)]


async def test_the_page_in_sight_is_asked_for_and_shown() -> None:
    app = GridApp(1000)
    async with open_app(app, size=(50, 20)) as pilot:
        await pilot.settle()
        assert app.grid.columns == 3
        text = "\n".join(app.text())
        assert "a0" in text
        assert "b4" in text
        (first, last) = app.needs[0]
        assert first == 0
        assert 5 <= last < 30


@pytest.mark.parametrize("size", [(20, 10), (48, 24), (80, 40), (5, 4)])
async def test_every_line_is_as_wide_as_the_grid(size: tuple[int, int]) -> None:
    app = GridApp(7)
    async with open_app(app, size=size) as pilot:
        await pilot.settle()
        app.grid.set_tiles(
            {1: Tile(None, (Content("漢字" * 30), Content("[bold]x" * 10)), problem="it cannot be read " * 9)}
        )
        await pilot.settle()
        for name in SIZES:
            app.grid.size_name = name
            await pilot.settle()
            width = app.grid.scrollable_content_region.width
            for y in range(app.grid.size.height):
                assert app.grid.render_line(y).cell_length == width


async def test_the_cursor_goes_by_all_keys_and_stays_in_the_list() -> None:
    app = GridApp(10)  # rows 0 1 2 / 3 4 5 / 6 7 8 / 9
    async with open_app(app, size=(50, 20)) as pilot:
        await pilot.settle()
        for key, position in (
            ("left", 0), ("right", 1), ("down", 4), ("up", 1), ("up", 1), ("end", 9), ("right", 9), ("down", 9),
            ("up", 6), ("right", 7), ("down", 9), ("home", 0), ("pagedown", 6), ("pageup", 0), ("right", 1),
            ("down", 4), ("pageup", 1),
        ):  # fmt: skip
            await pilot.press(key)
            assert app.grid.cursor == position, key
        await pilot.settle()
        assert [what for what, _ in app.messages] == ["highlighted"] * len(app.messages)
        assert app.messages[-1] == ("highlighted", 1)


async def test_the_cursor_is_always_in_sight_and_seen_without_colours() -> None:
    app = GridApp(500)
    async with open_app(app, size=(50, 20)) as pilot:
        await pilot.settle()
        for key in ("end", "up", "up", "home", "pagedown", "pagedown", "pagedown"):
            await pilot.press(key)
            await pilot.settle()
            lines = app.text()
            assert any("▌" in line for line in lines), key
            assert any(f"▌a{app.grid.cursor} " in line for line in lines), key


async def test_enter_chooses_and_space_marks() -> None:
    app = GridApp(10)
    async with open_app(app, size=(50, 20)) as pilot:
        await pilot.settle()
        await pilot.press("right", "enter", "space")
        assert app.messages[-2:] == [("chosen", 1), ("marked", 1)]
        app.grid.set_tiles({1: tile(1, marked=True)})
        assert "● b1" in "\n".join(app.text())


async def test_a_click_moves_the_cursor_and_a_double_click_chooses() -> None:
    app = GridApp(10)
    async with open_app(app, size=(50, 20)) as pilot:
        await pilot.settle()
        await pilot.click(ThumbnailGrid, offset=(20, 12))
        assert app.grid.cursor == 4
        assert app.messages == [("highlighted", 4)]
        await pilot.click(ThumbnailGrid, offset=(20, 12), times=2)
        await pilot.settle()
        assert app.messages[-1] == ("chosen", 4)


async def test_a_click_in_a_scrolled_grid_goes_to_what_is_under_it() -> None:
    app = GridApp(10_000)
    async with open_app(app, size=(50, 20)) as pilot:
        await pilot.settle()
        app.grid.scroll_to(y=905, animate=False)
        await pilot.settle()
        shown = {y: found for y, text in enumerate(app.text()) if (found := re.search(r"a(\d+)", text))}
        y, name = next(iter(shown.items()))
        await pilot.click(ThumbnailGrid, offset=(name.start(), y))
        assert app.messages[-1] == ("highlighted", int(name[1]))
        assert app.grid.cursor > 200


async def test_the_wheel_scrolls_and_asks_for_what_comes_into_sight() -> None:
    app = GridApp(10_000)
    async with open_app(app, size=(50, 20)) as pilot:
        await pilot.settle()
        before = len(app.needs)
        for _ in range(30):
            app.grid.scroll_down(animate=False)
        app.grid.scroll_to(y=900, animate=False)
        await pilot.settle()
        assert "a300" in "\n".join(app.text())
        assert len(app.needs) - before <= 3  # not one for each line


async def test_a_million_positions_cost_no_more_than_a_page() -> None:
    app = GridApp(1_000_000)
    async with open_app(app, size=(50, 20)) as pilot:
        await pilot.settle()
        await pilot.press("end")
        await pilot.settle()
        assert app.grid.cursor == 999_999
        assert "a999999" in "\n".join(app.text())
        assert sum(last - first + 1 for first, last in app.needs) < 200
        assert len(app.grid._tiles) < 200


async def test_no_more_than_a_bounded_number_of_tiles_is_kept() -> None:
    app = GridApp(100_000)
    async with open_app(app, size=(50, 20)) as pilot:
        await pilot.settle()
        for y in range(0, 9000, 150):
            app.grid.scroll_to(y=y, animate=False)
            await pilot.wait(0.08)
        assert len(app.grid._tiles) <= 512
        assert len(app.grid._drawn) <= 513
        await pilot.settle()
        assert "a" in "\n".join(app.text())


async def test_an_unknown_position_is_quiet_and_a_problem_is_said() -> None:
    app = GridApp(4, give=False)
    async with open_app(app, size=(50, 20)) as pilot:
        await pilot.settle()
        assert "".join(app.text()).replace("▌", "").strip() == ""
        app.grid.set_tiles({0: Tile(None, (Content("x"),), problem="gone")})
        assert "gone" in "\n".join(app.text())


async def test_another_size_keeps_the_cursor_in_sight() -> None:
    app = GridApp(500)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        app.grid.move_to(300)
        for key in ("right_square_bracket", "right_square_bracket", "left_square_bracket"):
            await pilot.press(key)
            await pilot.settle()
            assert any("▌a300 " in line for line in app.text())
        await pilot.resize_terminal(60, 20)
        await pilot.settle()
        assert any("▌a300 " in line for line in app.text())


async def test_fewer_positions_bring_the_cursor_back() -> None:
    app = GridApp(100)
    async with open_app(app, size=(50, 20)) as pilot:
        await pilot.settle()
        await pilot.press("end")
        app.grid.set_count(5, keep_cursor=True)
        assert app.grid.cursor == 4
        app.grid.set_count(0)
        await pilot.settle()
        await pilot.press("end", "enter", "space")
        assert app.messages[-1] == ("highlighted", 99)


async def test_moving_the_cursor_repaints_two_tiles_only(monkeypatch: pytest.MonkeyPatch) -> None:
    app = GridApp(100)
    async with open_app(app, size=(50, 40)) as pilot:
        await pilot.settle()
        drawn = []
        monkeypatch.setattr(ThumbnailGrid, "_draw", lambda self, tile: drawn.append(tile))
        regions = []
        refresh = ThumbnailGrid.refresh
        monkeypatch.setattr(
            ThumbnailGrid,
            "refresh",
            lambda self, *found, **how: (regions.extend(found), refresh(self, *found, **how))[1],
        )
        await pilot.press("right")
        await pilot.settle()
        assert drawn == []
        assert len(regions) == 2
        assert sum(region.area for region in regions) == 2 * 16 * 9


async def test_a_window_larger_than_what_is_kept_is_filled_all_the_same() -> None:
    app = GridApp(100_000)
    async with open_app(app, size=(400, 130)) as pilot:
        await pilot.settle()
        app.grid.move_to(50_000)
        while not (app.needs and app.needs[-1][0] > 40_000):
            await pilot.settle()
        first, last = app.needs[-1]
        assert last - first > 512
        rows = [line.replace("▌", " ").split() for line in app.text() if "a" in line]
        assert len(rows) >= 13
        start = int(rows[0][0][1:])
        found = [name for row in rows for name in row]
        assert found == [f"a{start + i}" for i in range(len(rows) * app.grid.columns)]


async def test_what_was_shown_least_recently_is_forgotten_first() -> None:
    app = GridApp(100_000)
    async with open_app(app, size=(50, 20)) as pilot:
        await pilot.settle()
        app.grid.set_tiles({i: tile(i) for i in range(1000, 1490)})
        app.text()
        app.grid.set_tiles({i: tile(i) for i in range(2000, 2100)})
        assert {0, 1, 2, 3, 4, 5} <= set(app.grid._tiles)
        assert 1000 not in app.grid._tiles


async def test_tiles_that_look_as_before_and_those_out_of_sight_repaint_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = GridApp(1000)
    async with open_app(app, size=(50, 20)) as pilot:
        await pilot.settle()
        image = np.zeros((2, 2, 1), np.uint8)
        app.grid.set_tiles({1: Tile(image, (Content("x"),))})
        await pilot.settle()
        regions: list[Region] = []
        monkeypatch.setattr(ThumbnailGrid, "refresh", lambda self, *found, **how: regions.extend(found))
        app.grid.set_tiles({1: Tile(image, (Content("x"),)), 900: tile(900)})
        assert regions == []
        app.grid.set_tiles({1: Tile(image, (Content("y"),))})
        app.grid.set_tiles({1: Tile(image, (Content("y"),), marked=True)})
        app.grid.set_tiles({1: Tile(image.copy(), (Content("y"),), marked=True)})
        assert regions == [Region(16, 0, 16, 9)] * 3


async def test_below_the_last_tile_the_ground_is_the_grids_own() -> None:
    app = GridApp(1)
    async with open_app(app, size=(50, 20)) as pilot:
        await pilot.settle()
        last = app.grid.render_line(19)
        assert last.cell_length == app.grid.scrollable_content_region.width
        assert {segment.style for segment in last} == {app.grid.rich_style}


@pytest.mark.parametrize(
    "caption", ["a\u0301" * 40, "a\nb\tc", "\u200b" * 5, "👩‍👩‍👧" * 20, "\u202eabc", "ｗｉｄｅ" * 9]
)
async def test_no_caption_breaks_the_lines(caption: str) -> None:
    app = GridApp(6, give=False)
    async with open_app(app, size=(50, 20)) as pilot:
        await pilot.settle()
        app.grid.set_tiles(
            {1: Tile(np.zeros((4, 4), np.uint8), (Content(caption), Content(caption)), marked=True, problem=caption)}
        )
        app.grid.set_tiles({2: tile(2)})
        width = app.grid.scrollable_content_region.width
        for y in range(20):
            strip = app.grid.render_line(y)
            assert sum(cell_len(segment.text) for segment in strip) == strip.cell_length == width
            assert not set(strip.text) & set("\n\t")
        row = app.grid.render_line(7)
        assert row.crop(33, 35).text == "a2"
