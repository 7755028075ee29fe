"""Only the cells that changed are sent to the terminal."""

import pytest
from pilot import open_app
from textual.app import App
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget

from finetui.tui.terminal.compositor import TightCompositor
from finetui.tui.widgets.styled_line import StyledLine


class LineScreen(Screen[None]):
    def __init__(self, tight: bool) -> None:
        super().__init__()
        if tight:
            self._compositor = TightCompositor()

    def compose(self):
        yield StyledLine(Content("a" * 50 + "1" + "b" * 50), id="line")


@pytest.mark.parametrize(("tight", "most"), [(True, 1), (False, 51)])
async def test_a_changed_digit_is_all_that_is_sent(tight: bool, most: int) -> None:
    """With Textual's own compositor the line is sent from its beginning: should that change, ours can go."""
    app: App[None] = App()
    async with open_app(app, size=(120, 10)) as pilot:
        await app.push_screen(LineScreen(tight))
        await pilot.drawn()
        line = app.screen.query_one("#line", StyledLine)
        line.show(Content("a" * 50 + "2" + "b" * 50))
        compositor = app.screen._compositor
        compositor.update_widgets({line})
        update = compositor.render_partial_update()
        assert update is not None
        sent = update.render_segments(app.console)
    assert "2" in sent
    assert sent.count("a") <= most - 1
    assert "b" not in sent


async def test_what_lies_behind_a_widget_is_not_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    app: App[None] = App()
    async with open_app(app, size=(120, 10)) as pilot:
        await app.push_screen(LineScreen(True))
        await pilot.drawn()
        rendered: list[Widget] = []
        render_lines = Widget.render_lines
        monkeypatch.setattr(
            Widget, "render_lines", lambda self, crop: (rendered.append(self), render_lines(self, crop))[1]
        )
        line = app.screen.query_one("#line", StyledLine)
        line.show(Content("a" * 50 + "2" + "b" * 50))
        app.screen._compositor.update_widgets({line})
        app.screen._compositor.render_partial_update()
    assert rendered == [line]
