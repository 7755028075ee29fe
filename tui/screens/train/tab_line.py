"""The tabs above the classes, where these take the place of the plots."""

from collections.abc import Sequence

from textual import events
from textual.content import Content
from textual.message import Message

from finetui.tui.widgets.styled_line import StyledLine


class TabLine(StyledLine):
    """Shows names with the numbers of their keys, the last one as that in front; a click goes to one."""

    class Pressed(Message):
        """Somebody wants the tab of that `number`, from 1."""

        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

    def __init__(self) -> None:
        super().__init__(id="tabs")
        self._tabs: list[Content] = []

    def show_tabs(self, names: Sequence[str]) -> None:
        """Show a tab for each of `names`."""
        looks = ["$muted"] * (len(names) - 1) + ["bold"]
        self._tabs = [
            Content.assemble((f" {number}", "bold $accent"), (f" {name} ", look))
            for number, (name, look) in enumerate(zip(names, looks, strict=True), start=1)
        ]
        self.show(Content.assemble(" ", *self._tabs))

    def on_click(self, event: events.Click) -> None:
        """Go to the tab that was hit."""
        event.stop()
        end = 1
        for number, tab in enumerate(self._tabs, start=1):
            end += tab.cell_length
            if event.x < end:
                self.post_message(self.Pressed(number))
                return
