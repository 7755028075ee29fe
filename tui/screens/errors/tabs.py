"""The line below the title: the kinds of images that can be listed, with their numbers, and what else is in force."""

from collections.abc import Callable

from textual import events
from textual.content import Content
from textual.message import Message

from finetui.tui.widgets.styled_line import StyledLine

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
        self._ends: list[int] = []

    def show_tabs(self, before: Content, tabs: list[Content], after: Callable[[int], Content]) -> None:
        """Show `tabs` between `before` and what `after` returns for so many cells."""
        self._start = before.cell_length
        self._ends = []
        parts = [before]
        for tab in tabs:
            parts += [tab, _BETWEEN]
            self._ends.append(sum(part.cell_length for part in parts))
        line = Content.assemble(*parts[: len(parts) - bool(tabs)])
        self.show(Content.assemble(line, after(self.size.width - line.cell_length)))

    def say(self, content: Content) -> None:
        """Show `content` in place of the tabs."""
        self._ends = []
        self.show(content)

    def on_click(self, event: events.Click) -> None:
        """Choose the tab that was hit."""
        for number, end in enumerate(self._ends):
            if self._start <= event.x < end:
                event.stop()
                self.post_message(self.Chosen(number))
                return
