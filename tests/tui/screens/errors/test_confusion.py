"""The confusion matrix, alone and over the Errors screen."""

import numpy as np
import pytest
from canned_predictions import DIGITS
from errors_pilot import HOSTILE, SIZES, ScreenApp, listed, opened
from pilot import open_app, picture
from textual.app import App

from finetui.engine.predictions.selection import most_confused
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.errors.confusion import ConfusionScreen
from finetui.tui.screens.errors.heat_map import HeatMap


def matrix(classes: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    confusion = random.poisson(0.3, (classes, classes)) + np.diag(random.integers(50, 90, classes))
    return confusion.astype(np.int64)


def heat_map_text(app: App) -> list[str]:
    heat_map = app.screen.query_one(HeatMap)
    return [heat_map.render_line(y).text for y in range(heat_map.size.height)]


# -- the confusion matrix -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
async def test_every_number_of_ten_classes_is_in_sight(size) -> None:
    confusion = matrix(10)
    app = ScreenApp(ConfusionScreen(confusion, DIGITS))
    async with open_app(app, size=size) as pilot:
        await pilot.settle()
        rows = heat_map_text(app)
        assert rows[0].split()[:4] == ["true", "↓", "predicted", "→"]
        assert rows[1].split() == list(DIGITS)
        high = app.screen.query_one(HeatMap)._high
        for label, row in enumerate(rows[2 + high // 2 : 2 + 10 * high : high]):
            assert row.split() == [str(label), *(str(count) if count else "·" for count in confusion[label])]
        wrong = confusion.sum() - np.trace(confusion)
        assert f"{wrong:,} of {confusion.sum():,} test images wrong" in picture(app)


async def test_it_begins_at_the_most_confused_pair_and_enter_opens_it() -> None:
    confusion = matrix(10)
    first = most_confused(confusion)[0]
    app = ScreenApp(ConfusionScreen(confusion, DIGITS))
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        assert app.screen.query_one(HeatMap).cursor == (first.true, first.predicted)
        assert f": {first.true} predicted as {first.predicted}" in picture(app)
        await pilot.press("enter")
        await pilot.settle()
        assert app.answer == (first.true, first.predicted)


async def test_shares_are_of_the_true_class() -> None:
    confusion = np.array([[3, 1], [0, 1000]], np.int64)
    confusion[1, 0] = 2
    app = ScreenApp(ConfusionScreen(confusion, ("a", "b")))
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press("%")
        await pilot.settle()
        high = app.screen.query_one(HeatMap)._high
        rows = heat_map_text(app)[2 + high // 2 :: high]
        assert [row.split() for row in rows[:2]] == [["a", "75%", "25%"], ["b", "<1%", "100%"]]


async def test_a_heading_stands_for_the_whole_class() -> None:
    app = ScreenApp(ConfusionScreen(matrix(10), DIGITS))
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        heat_map = app.screen.query_one(HeatMap)
        heat_map.move_to(3, 0)
        await pilot.press("left")
        await pilot.settle()
        assert heat_map.cursor == (3, -1)
        assert "3: " in picture(app)
        assert " correct (" in picture(app)
        await pilot.press("enter")
        await pilot.settle()
        assert app.answer == (3, -1)


async def test_a_click_goes_to_a_cell_and_a_click_on_it_chooses() -> None:
    app = ScreenApp(ConfusionScreen(matrix(10), DIGITS))
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        heat_map = app.screen.query_one(HeatMap)
        await pilot.click(HeatMap, offset=(heat_map._names + 1 + 2 * heat_map._cell + 1, 2 + 4 * heat_map._high))
        assert heat_map.cursor == (4, 2)
        assert app.answer == "not yet"
        await pilot.click(HeatMap, offset=(heat_map._names + 1 + 2 * heat_map._cell + 1, 2 + 4 * heat_map._high))
        await pilot.settle()
        assert app.answer == (4, 2)


async def test_a_thousand_classes_scroll_with_their_headings() -> None:
    names = tuple(f"class{i}" for i in range(1000))
    app = ScreenApp(ConfusionScreen(matrix(1000), names))
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        heat_map = app.screen.query_one(HeatMap)
        heat_map.move_to(998, 997)
        await pilot.settle()
        rows = heat_map_text(app)
        assert any(row.startswith("class998") for row in rows)
        assert "predicted as class997" in picture(app)
        await pilot.press("home", "pageup", "up")
        await pilot.settle()
        assert heat_map.cursor == (987, -1)
        # A click goes to what is under it, however far the matrix is scrolled.
        heat_map.move_to(500, 400)
        await pilot.settle()
        y, row = next((y, row) for y, row in enumerate(heat_map_text(app)) if row.startswith("class500"))
        del row
        column = (400 - heat_map._first[1]) * heat_map._cell + heat_map._names + 1
        await pilot.click(HeatMap, offset=(column - 1, y))
        assert heat_map.cursor == (500, 399)
        before = heat_map_text(app)
        heat_map._scroll(type("Wheel", (), {"shift": False, "stop": lambda self: None})(), -300)
        await pilot.settle()
        assert heat_map_text(app) != before


async def test_the_pairs_are_listed_and_chosen() -> None:
    confusion = matrix(10)
    pairs = most_confused(confusion)
    app = ScreenApp(ConfusionScreen(confusion, DIGITS))
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press("tab")
        await pilot.settle()
        assert f"{pairs[0].true} → {pairs[0].predicted}" in picture(app)
        await pilot.press("down", "enter")
        await pilot.settle()
        assert app.answer == (pairs[1].true, pairs[1].predicted)


@pytest.mark.parametrize("size", SIZES)
async def test_hostile_class_names_keep_the_matrix_straight(size) -> None:
    from finetui.engine.text import clean

    app = ScreenApp(ConfusionScreen(matrix(10), tuple(map(clean, HOSTILE))))
    async with open_app(app, size=size) as pilot:
        await pilot.settle()
        heat_map = app.screen.query_one(HeatMap)
        assert {heat_map.render_line(y).cell_length for y in range(heat_map.size.height)} == {heat_map.size.width}
        assert {strip.cell_length for strip in app.screen._compositor.render_strips()} == {size[0]}


async def test_without_any_mistake_it_says_so() -> None:
    app = ScreenApp(ConfusionScreen(np.diag([5, 5]).astype(np.int64), ("a", "b")))
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        assert "0 of 10 test images wrong" in picture(app)
        await pilot.press("tab", "tab", "escape")
        await pilot.settle()
        assert app.answer is None


async def test_a_cell_opens_its_images_on_the_errors_screen(link, found) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot)
        await pilot.press("C")
        await pilot.settle()
        assert isinstance(app.screen, ConfusionScreen)
        true, predicted = app.screen.query_one(HeatMap).cursor
        await pilot.press("enter")
        await pilot.settle()
        assert app.screen is screen
        expected = np.flatnonzero((found.label == true) & (found.predicted == predicted))
        assert sorted(listed(screen)) == expected.tolist()
        assert len(expected) == found.confusion()[true, predicted]
        # Back is the matrix, at its cell, and then what was listed before.
        await pilot.press("escape")
        await pilot.settle()
        assert isinstance(app.screen, ConfusionScreen)
        assert app.screen.query_one(HeatMap).cursor == (true, predicted)
        await pilot.press("escape")
        await pilot.settle()
        assert app.screen is screen
        assert sorted(listed(screen)) == np.flatnonzero(found.wrong).tolist()
        # A cell of the diagonal opens the images that were recognised.
        await pilot.press("C")
        await pilot.settle()
        app.screen.query_one(HeatMap).move_to(true, true)
        await pilot.press("enter")
        await pilot.settle()
        assert sorted(listed(screen)) == np.flatnonzero((found.label == true) & ~found.wrong).tolist()
