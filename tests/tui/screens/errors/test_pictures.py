"""Pictures and captions on the Errors screen."""

from pathlib import Path

import pytest
from canned_predictions import AnsweringLink, predictions, saved
from errors_pilot import SIZES, events_of, listed, opened
from pilot import open_app, picture

from finetui.tui.app.app import FinetuiApp
from finetui.tui.graphics import fit
from finetui.tui.widgets.picture import Picture
from finetui.tui.widgets.thumbnail_grid import ThumbnailGrid


async def test_long_class_names_are_whole_in_the_gallery_and_beside_the_picture(tmp_path: Path) -> None:
    names = ("T-shirt/top", "Ankle boot", "a rather long name", "Sandal")
    found = predictions(classes=names)
    saved(tmp_path, found)
    app = FinetuiApp(AnsweringLink(*events_of(tmp_path, names)))
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot)
        text = picture(app)
        for row in listed(screen)[:4]:
            true, predicted = names[found.label[row]], names[found.predicted[row]]
            whole = f"→ {predicted}" if len(predicted) < 13 else "→ a rather"
            assert whole in text
            assert true in text or len(true) > 14
        assert "…" not in text.splitlines()[12]
        await pilot.press("enter")
        await pilot.settle()
        row = listed(screen)[0]
        assert f"predicted {names[found.predicted[row]]}" in picture(app)


@pytest.mark.parametrize(("size", "cells"), [((80, 24), (28, 14)), ((120, 40), (56, 28)), ((200, 60), (84, 42))])
async def test_the_picture_has_the_largest_whole_scale_and_the_details_beside_it(link, size, cells) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=size) as pilot:
        screen = await opened(pilot)
        await pilot.press("enter")
        await pilot.settle()
        shown = screen.query_one(Picture)
        found = fit((28, 28), *shown.size)
        assert (found.cells_wide, found.cells_high) == cells
        assert screen.query_one("#detail-text").region.x >= shown.region.right


@pytest.mark.parametrize("size", SIZES)
async def test_the_gallery_has_no_empty_columns(link, size) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=size) as pilot:
        screen = await opened(pilot)
        grid = screen.query_one(ThumbnailGrid)
        for _ in range(2):
            wide = grid.thumbnail[0]
            spare = grid.size.width - grid.columns * (wide + 2)
            assert 0 <= spare <= 1 or grid.columns == 1
            await pilot.press("]")
            await pilot.settle()
