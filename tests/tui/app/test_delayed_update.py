"""Textual's palette has nothing painted for a moment while it closes: tests turn their clock until that is over."""

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
