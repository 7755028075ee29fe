"""The finetuning recipes as a list, each with a sentence."""

from textual.content import Content
from textual.message import Message
from textual.widgets.option_list import Option

from finetui.engine.protocol.config import RECIPES
from finetui.tui.widgets.option_list import OptionList

# In the README's order and words.
SENTENCES = {
    "linear-probe": "Trains only a new head; every other layer stays frozen.",
    "lp-ft": "Head first (a third of the epochs), then all at LR / 10.",
    "gradual": "Unfreezes one group at a time, from the top.",
    "full": "Trains all layers from the first step.",
    "fastai": "One epoch of the head, then one cycle of all layers.",
}
_NAME = max(map(len, RECIPES)) + 2
_ONE_LINE = _NAME + max(map(len, SENTENCES.values())) + 2  # cells, the padding among them


class RecipeList(OptionList):
    """Shows the recipes; the one under the cursor is chosen."""

    DEFAULT_CSS = """
    RecipeList {
        height: auto;
        width: 1fr;
        border: none;
        padding: 0;
        background: transparent;
        overflow-y: hidden;  /* it is as high as all of it: a bar would come for the time of a change, and fold lines */
        & > .option-list--option { padding: 0 1; }
        & > .option-list--option-highlighted { background: $chosen; color: $foreground; text-style: bold; }
        &:focus > .option-list--option-highlighted { background: $selection; color: $on-selection; }
    }
    """

    class Changed(Message):
        """Another recipe was chosen."""

    def __init__(self, value: str, *, id: str) -> None:  # noqa: A002
        super().__init__(*self._sentences(one=True), id=id, compact=True)
        self._one = True
        self.highlighted = RECIPES.index(value)

    @property
    def value(self) -> str:
        """The recipe that is chosen."""
        return RECIPES[self.highlighted or 0]

    @staticmethod
    def _sentences(*, one: bool) -> list[Option]:
        gap = "" if one else "\n  "
        return [
            Option(Content.assemble((f"{name:<{_NAME}}" if one else name, "bold"), gap, (SENTENCES[name], "$muted")))
            for name in RECIPES
        ]

    def on_resize(self) -> None:
        """Put each sentence beside its recipe, or below where there is no room."""
        one = self.size.width >= _ONE_LINE
        if one != self._one:
            self._one = one
            at = self.highlighted
            self.set_options(self._sentences(one=one))
            self.highlighted = at

    def on_option_list_option_highlighted(self, message: OptionList.OptionHighlighted) -> None:
        """Tell of it."""
        message.stop()
        self.post_message(self.Changed())

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        """A click has moved the cursor, and does no more."""
        message.stop()
