"""Only the lines that changed are rendered."""

import pytest
from pilot import open_app
from textual.app import App
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget

from finetui.tui.terminal.compositor import TightCompositor
from finetui.tui.widgets.styled_line import StyledLine


class LineScreen(Screen[None]):
    def __init__(self) -> None:
        super().__init__()
        self._compositor = TightCompositor()

    def compose(self):
        yield StyledLine(Content("a" * 50 + "1" + "b" * 50), id="line")


async def test_what_lies_behind_a_widget_is_not_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    app: App[None] = App()
    async with open_app(app, size=(120, 10)) as pilot:
        await app.push_screen(LineScreen())
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
