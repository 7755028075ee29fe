"""A list to pick from above a field that holds what was picked, or anything else that is typed."""

from collections.abc import Sequence
from typing import NamedTuple

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input
from textual.widgets.option_list import Option

from finetui.tui.widgets.compound import Compound
from finetui.tui.widgets.form_rows import TextRow
from finetui.tui.widgets.option_list import OptionList

_NAME = 18  # cells


class Pick(NamedTuple):
    """What can be picked: the text that goes into the field, and what there is to say of it.

    `shown` is what the list calls it, where that is not the text.
    """

    value: str
    about: str
    shown: str = ""


class Picker(Compound, Vertical):
    """Offers picks; the cursor on one puts it into the field called `name`, which posts `Input.Changed`."""

    DEFAULT_CSS = """
    Picker {
        height: auto;
        OptionList { height: auto; width: 1fr; border: none; padding: 0; background: transparent; }
        OptionList { scrollbar-size-vertical: 1; }
        OptionList > .option-list--option { padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
        OptionList > .option-list--option-highlighted { background: $chosen; color: $foreground; text-style: bold; }
        OptionList:focus > .option-list--option-highlighted { background: $selection; color: $on-selection; }
    }
    """

    def __init__(self, name: str, label: str, value: str, picks: Sequence[Pick] = (), *, placeholder: str = "") -> None:
        super().__init__()
        self._picks: tuple[Pick, ...] = ()
        self._list = OptionList(id=f"{name}-list", compact=True)
        self._row = TextRow(name, label, value, placeholder)
        self._offered = tuple(picks)

    def compose(self) -> ComposeResult:
        """The list, and the field below."""
        yield self._list
        yield self._row

    def on_mount(self) -> None:
        """Show what was to be offered from the beginning."""
        self.offer(self._offered)

    @property
    def picked(self) -> Pick | None:
        """What is offered under the text that is in the field; None where it is something else."""
        return next((pick for pick in self._picks if pick.value == self._row.typed), None)

    def offer(self, picks: Sequence[Pick]) -> None:
        """Offer these, the one that is in the field under the cursor."""
        self._picks = tuple(picks)
        self._fill()

    def on_resize(self) -> None:
        """Have each pick in one line."""
        self._fill()

    def _fill(self) -> None:
        lines = (
            Content.assemble(f"{pick.shown or pick.value:<{_NAME}} ", (pick.about, "$muted")) for pick in self._picks
        )
        width = max(self.size.width - 3, 1)  # of an option, with a scroll bar beside it
        self._list.set_options([Option(line.truncate(width, ellipsis=True)) for line in lines])
        self._list.display = bool(self._picks)
        self._follow()

    def _follow(self) -> None:
        picked = self.picked
        self._list.highlighted = None if picked is None else self._picks.index(picked)

    def on_option_list_option_highlighted(self, message: OptionList.OptionHighlighted) -> None:
        """Put what the cursor went to into the field."""
        message.stop()
        if self._list.has_focus and 0 <= message.option_index < len(self._picks):
            self._row.value = self._picks[message.option_index].value

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        """A click has moved the cursor, and does no more."""
        message.stop()

    def on_input_changed(self, message: Input.Changed) -> None:
        """Have the cursor where what was typed is, if it is offered."""
        if not self._list.has_focus:
            self._follow()
