"""What happened, a line each, the newest at the end."""

from textual.content import Content
from textual.message import Message

from finetui.tui.state.log_lines import LogLine
from finetui.tui.widgets.lines_view import LinesView

_STYLES = {"info": "", "warning": "$warning", "error": "$error bold"}
_SIGNS = {"info": " ", "warning": "!", "error": "✗"}


class LogPanel(LinesView[LogLine]):
    """Shows the log; one line high it is the latest line."""

    class Opened(Message):
        """Somebody wants to see the whole log."""

    def __init__(self) -> None:
        super().__init__(follow=True, id="log")

    def on_click(self) -> None:
        """Show all of it."""
        self.post_message(self.Opened())

    def content_of(self, row: LogLine, width: int) -> Content:
        """Return time, sign and text."""
        style = _STYLES[row.level]
        return Content.assemble((f" {row.clock} ", "$muted"), (f"{_SIGNS[row.level]} ", style), (row.text, style))
