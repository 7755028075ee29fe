"""What is seen through two boxes changes with the screen below them."""

import pytest
from canned import point
from canned_layers import app_over
from pilot import open_app, picture

from finetui.tui.app.app import FinetuiApp


@pytest.mark.parametrize("keys", [("f1", "ctrl+p"), ("g", "f1", "ctrl+p"), ("c", "ctrl+p")])
async def test_a_box_over_a_box_shows_what_has_changed_below_both(keys: tuple[str, ...]) -> None:
    app, link = app_over()
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.press(*keys)  # before anything is known of the run
        assert len(app.screen_stack) == 2 + len(keys), app.screen_stack  # with Textual's own
        for step in (60, 90):
            link.events.put(point(step))
            await pilot.settle()
            assert picture(app) == rendered_anew(app)
        await pilot.resize_terminal(80, 24)
        await pilot.settle()
        assert picture(app) == rendered_anew(app)


def rendered_anew(app: FinetuiApp) -> str:
    for screen in app.screen_stack:
        screen._styles_cache.clear()
    return picture(app)
