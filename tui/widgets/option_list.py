"""Textual's list of options, which also stands being empty, or not laid out yet, when somebody turns its pages."""

from textual.widgets import OptionList as TextualOptionList


def pages(options: TextualOptionList) -> bool:
    """Tell whether there are lines to turn pages in; Textual looks them up without asking."""
    return options.is_mounted and (options.highlighted or 0) in options._index_to_line


class OptionList(TextualOptionList):
    """A list of options."""

    def action_page_up(self) -> None:
        """Go up a page, if there is one."""
        if pages(self):
            super().action_page_up()  # type: ignore[no-untyped-call]

    def action_page_down(self) -> None:
        """Go down a page, if there is one."""
        if pages(self):
            super().action_page_down()  # type: ignore[no-untyped-call]
