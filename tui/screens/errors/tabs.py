"""The line below the title: the kinds of images that can be listed, with their numbers, and what else is in force."""

from collections.abc import Callable

from textual import events
from textual.content import Content
from textual.message import Message

from finetui.tui.widgets.styled_line import StyledLine, hovered

_BETWEEN = Content.styled("│", "$frame")


class Tabs(StyledLine):
    """Shows tabs between other words; a click on one chooses it."""

    class Chosen(Message):
        """Somebody wants the tab `number`, from 0."""

        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._before = Content("")
        self._tabs: list[Content] = []
        self._after: Callable[[int], Content] = lambda _room: Content("")
        self._pointed: int | None = None

    def show_tabs(self, before: Content, tabs: list[Content], after: Callable[[int], Content]) -> None:
        """Show `tabs` between `before` and what `after` returns for so many cells."""
        self._before, self._tabs, self._after = before, tabs, after
        self._draw()

    def say(self, content: Content) -> None:
        """Show `content` in place of the tabs."""
        self._tabs = []
        self.show(content)

    def _draw(self) -> None:
        tabs = [hovered(self, tab) if at == self._pointed else tab for at, tab in enumerate(self._tabs)]
        line = Content.assemble(self._before, _BETWEEN.join(tabs))
        self.show(Content.assemble(line, self._after(self.size.width - line.cell_length)))

    def _tab_at(self, x: int) -> int | None:
        end = self._before.cell_length
        for number, tab in enumerate(self._tabs):
            if x < end:
                return None
            end += tab.cell_length
            if x < end:
                return number
            end += _BETWEEN.cell_length
        return None

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Mark the tab below the pointer."""
        self._point(self._tab_at(event.x))

    def on_leave(self) -> None:
        """Mark none."""
        self._point(None)

    def _point(self, number: int | None) -> None:
        if number != self._pointed and self._tabs:
            self._pointed = number
            self._draw()

    def on_click(self, event: events.Click) -> None:
        """Choose the tab that was hit."""
        number = self._tab_at(event.x)
        if number is not None:
            event.stop()
            self.post_message(self.Chosen(number))
