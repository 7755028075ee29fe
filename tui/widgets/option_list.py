"""Textual's list of options, which also stands being empty, or not laid out yet, when somebody turns its pages."""

from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content
from textual.reactive import reactive
from textual.strip import Strip
from textual.style import Style
from textual.widgets import OptionList as TextualOptionList
from textual.widgets.option_list import Option

from finetui.tui.keys import bind


def pages(options: TextualOptionList) -> bool:
    """Tell whether there are lines to turn pages in; Textual looks them up without asking."""
    return options.is_mounted and (options.highlighted or 0) in options._index_to_line


class OptionList(TextualOptionList):
    """A list of options; the one under the cursor is in one colour, since its own might not be seen on the cursor's."""

    BINDINGS: ClassVar[list[BindingType]] = [bind("confirm", "select", show=False)]
    # From the start: Textual styles one again, and all its parts, when it is told so.
    compact: reactive[bool] = reactive(True, toggle_class="-textual-compact")
    DEFAULT_CLASSES = "-textual-compact"

    def _get_option_render(self, option: Option, style: Style) -> list[Strip]:
        shown = option._visual
        if isinstance(option.prompt, Content) and option is self.highlighted_option:
            option._visual = Content(option.prompt.plain)
        try:
            return super()._get_option_render(option, style)
        finally:
            option._visual = shown

    @property
    def cursor_line(self) -> int:
        """The line of the cursor among those in sight."""
        return self._index_to_line.get(self.highlighted or 0, 0) - self.scroll_offset.y

    def action_page_up(self) -> None:
        """Go up a page, if there is one."""
        if pages(self):
            super().action_page_up()  # type: ignore[no-untyped-call]

    def action_page_down(self) -> None:
        """Go down a page, if there is one."""
        if pages(self):
            super().action_page_down()  # type: ignore[no-untyped-call]


class ImagePairs(OptionList):
    """Pairs of classes or runs: Enter shows the images."""

    BINDINGS: ClassVar[list[BindingType]] = [bind("confirm", "select", label="Images")]
