"""What was asked of a screen while nothing is laid out is done afterwards.

Textual's palette has nothing laid out or painted for a moment while it closes; tests turn their clock until then.
"""

from canned import CannedLink
from pilot import open_app

from finetui.tui.app.app import FinetuiApp


async def test_what_is_delayed_is_painted_soon() -> None:
    app = FinetuiApp(CannedLink())
    async with open_app(app) as pilot:
        app.delay_update()
        app.screen.refresh()
        await pilot.drawn()
        assert not app._batch_count and not app.screen._update_timer._active.is_set()


async def test_a_screen_below_a_box_is_laid_out_after_the_delay() -> None:
    app = FinetuiApp(CannedLink())
    async with open_app(app) as pilot:
        await pilot.settle()
        await pilot.press("question_mark")
        app.delay_update()
        app.train_screen.refresh(layout=True)
        await pilot.drawn()
        assert not app.train_screen._layout_required
