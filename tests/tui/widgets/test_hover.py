"""What a click does something to is marked below the pointer."""

import pytest
from pilot import open_app
from textual.app import App, ComposeResult
from textual.color import Color
from textual.content import Content
from textual.widget import Widget

from finetui.tui.colours.palettes import palette
from finetui.tui.screens.errors.tabs import Tabs
from finetui.tui.widgets.lines_view import LinesView


class Rows(LinesView[str]):
    """Lines that somebody may click on."""

    CLICKS = True

    def content_of(self, row: str, width: int) -> Content:
        return Content(row)


class Bare(Rows):
    """Lines that nothing happens to."""

    CLICKS = False


class ClickApp(App[None]):
    """Tabs above lines."""

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(palette("truecolor", dark=True))

    def compose(self) -> ComposeResult:
        yield Tabs()
        yield Rows(id="rows")
        yield Bare(id="bare")


def marked(widget: Widget, *, few: bool) -> list[str]:
    """Return the pieces of `widget` that look as they do below the pointer."""
    found, panel = [], Color.parse(widget.app.theme_variables["panel"]).rich_color.triplet
    for piece in (piece for y in range(widget.size.height) for piece in widget.render_line(y)):
        ground = piece.style.bgcolor
        on_panel = ground is not None and ground.triplet is not None and ground.triplet == panel
        if piece.style.underline if few else on_panel:
            found.append(piece.text)
    return found


@pytest.mark.parametrize("few", [False, True])
async def test_the_tab_and_the_line_below_the_pointer_are_marked(few: bool) -> None:
    app = ClickApp()
    app.set_class(few, "-few-colours")
    async with open_app(app, size=(60, 20)) as pilot:
        tabs, rows, bare = app.query_one(Tabs), app.query_one("#rows", Rows), app.query_one("#bare", Bare)
        tabs.show_tabs(Content("vs "), [Content(" one "), Content(" two ")], lambda room: Content("x" * (room - 1)))
        for view in (rows, bare):
            view.show(["first", "second", "third"])
        await pilot.drawn()
        assert not marked(tabs, few=few) and not marked(rows, few=few)
        assert tabs.render_line(0).text == "vs  one │ two " + "x" * 45 + " "
        for x, words in ((4, [" one "]), (8, []), (10, [" two "]), (30, [])):
            await pilot.hover(tabs, (x, 0))
            assert marked(tabs, few=few) == words
        await pilot.hover(rows, (1, 1))
        assert [text.rstrip() for text in marked(rows, few=few)] == ["second"] and len(marked(rows, few=few)[0]) > 50
        await pilot.hover(bare, (1, 1))
        assert not marked(bare, few=few) and not marked(rows, few=few)
