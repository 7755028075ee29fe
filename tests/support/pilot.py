"""What the tests of the dashboard share: waiting for the screen, and reading it."""

from collections.abc import Callable

from textual.pilot import Pilot

from finetui.tui.app.app import FinetuiApp


async def settle(pilot: Pilot[None], until: Callable[[], bool] = lambda: False) -> None:
    """Let the screen look at its queue; `until` ends the wait early."""
    for _ in range(40):
        await pilot.pause(0.05)
        app = pilot.app
        assert isinstance(app, FinetuiApp)
        if until() or (len(app.link.events) == 0 and _ >= 3):
            break
    await pilot.pause()


def picture(app: FinetuiApp) -> str:
    """Return what is on the screen as text."""
    width, height = app.size
    lines = app.screen._compositor.render_strips(app.size)
    return "\n".join(strip.text.ljust(width) for strip in lines[:height])
