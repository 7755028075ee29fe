"""The tabs above the classes, where these take the place of the plots."""

from collections.abc import Mapping

from textual import events
from textual.content import Content
from textual.message import Message

from finetui.tui.widgets.styled_line import StyledLine


class TabLine(StyledLine):
    """Shows names with the numbers of their keys, the last one as that in front; a click goes to one."""

    class Pressed(Message):
        """Somebody wants the tab of that `number`."""

        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

    def __init__(self) -> None:
        super().__init__(id="tabs")
        self._tabs: dict[int, Content] = {}

    def show_tabs(self, names: Mapping[int, str]) -> None:
        """Show a tab for each of `names`, by their numbers."""
        looks = ["$muted"] * (len(names) - 1) + ["bold"]
        self._tabs = {
            number: Content.assemble((f" {number}", "bold $accent"), (f" {name} ", look))
            for (number, name), look in zip(names.items(), looks, strict=True)
        }
        self.show(Content.assemble(" ", *self._tabs.values()))

    def on_click(self, event: events.Click) -> None:
        """Go to the tab that was hit."""
        event.stop()
        end = 1
        for number, tab in self._tabs.items():
            end += tab.cell_length
            if event.x < end:
                self.post_message(self.Pressed(number))
                return
