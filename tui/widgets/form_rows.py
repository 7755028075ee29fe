"""One-line fields of a form: a choice that is cycled through, and a line of text."""

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from finetui.tui.keys import bind, move
from finetui.tui.widgets.compound import Compound
from finetui.tui.widgets.styled_line import StyledLine
from finetui.tui.widgets.text_field import TextField

LABEL_WIDTH = 14


class ChoiceRow(Widget, can_focus=True):
    """Shows one of `options`; Left, Right, Space and the mouse go to another."""

    DEFAULT_CSS = """
    ChoiceRow {
        height: 1;
        width: 1fr;
        text-wrap: nowrap;
        text-overflow: ellipsis;
        &:hover { background: $button-hover; }
        &:focus { background: $selection; color: $on-selection; text-style: bold; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        move("left", "cycle(-1)", "Previous choice"),
        move("right", "cycle(1)", "Next choice"),
        bind("toggle", "cycle(1)", label="Next choice", show=False),
        move("up", "app.focus_previous"),
        move("down", "app.focus_next"),
    ]

    class Changed(Message):
        """Another option was chosen."""

    def __init__(self, name: str, label: str, options: Sequence[str], value: str) -> None:
        super().__init__(id=name)
        self._label = label
        self._options = tuple(options)
        self.value = value

    def render(self) -> Content:
        """Render label and option."""
        label, arrow = ("", "") if self.has_focus else ("$muted", "$accent")
        return Content.assemble((f" {self._label:<{LABEL_WIDTH}}", label), ("◂ ", arrow), self.value, (" ▸", arrow))

    def action_cycle(self, by: int) -> None:
        """Choose the next or the previous option."""
        self.value = self._options[(self._options.index(self.value) + by) % len(self._options)]
        self.refresh()
        self.post_message(self.Changed())

    def on_click(self, event: events.Click) -> None:
        """Choose the next option, or the previous one where the left arrow was hit."""
        event.stop()
        self.focus()
        self.action_cycle(-1 if LABEL_WIDTH < event.x <= LABEL_WIDTH + 2 else 1)


class _Field(TextField):
    BINDINGS: ClassVar[list[BindingType]] = [
        move("up", "app.focus_previous"),
        move("down", "app.focus_next"),
    ]


class TextRow(Compound, Horizontal):
    """A label and a line of text; posts `Input.Changed` as one types."""

    DEFAULT_CSS = """
    TextRow {
        height: 1;
        width: 1fr;
        StyledLine { width: 15; color: $muted; }
        Input { width: 1fr; background: $field; }
        Input:focus { background: $field-focus; }
    }
    """

    def __init__(self, name: str, label: str, value: str, placeholder: str = "") -> None:
        super().__init__()
        self._label = label
        self._field = _Field(value, placeholder, id=name)

    def compose(self) -> ComposeResult:
        """Label and field."""
        yield StyledLine(Content(f" {self._label}"))
        yield self._field

    @property
    def value(self) -> str:
        """What was typed."""
        return self._field.value.strip()

    def set_value(self, value: str) -> None:
        """Have `value` in the field."""
        self._field.value = value
