"""One-line fields of a form: a choice that is cycled through, and a line of text."""

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from finetui.tui.keys import bind, move
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


class TextRow(TextField):
    """A label and a line of text; posts `Input.Changed` as one types.

    It is one widget: the label stands in its padding, on the ground of what is around it.
    """

    DEFAULT_CSS = """
    TextRow, TextRow.-textual-compact {
        width: 1fr;
        padding: 0 0 0 15;
        background: $field;
        &:focus { background: $field-focus; }
        & > .text-row--label { color: $muted; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"text-row--label"}
    BINDINGS: ClassVar[list[BindingType]] = [
        move("up", "app.focus_previous"),
        move("down", "app.focus_next"),
    ]

    def __init__(self, name: str, label: str, value: str, placeholder: str = "") -> None:
        super().__init__(value, placeholder, id=name)
        self._label = f" {label}"

    @property
    def typed(self) -> str:
        """What was typed, without blanks around it."""
        return self.value.strip()

    def render_lines(self, crop: Region) -> list[Strip]:
        """Render the field, and the label before it."""
        lines = super().render_lines(crop)
        width = self.styles.padding.left
        if crop.x or crop.y or not lines or crop.width <= width:
            return lines
        around, _ = self.background_colors
        colour = self.get_component_styles("text-row--label").color
        style = Style.from_color((around + colour).rich_color, around.rich_color)
        label = Strip([Segment(set_cell_size(self._label, width), style)], width)
        for line_filter in self.get_line_filters():
            label = label.apply_filter(line_filter, around)
        return [Strip.join([label, lines[0].crop(width)]), *lines[1:]]
