"""The learning-rate finder's result: loss over rate, and a suggestion that one key accepts."""

import time
from pathlib import PurePath
from typing import ClassVar

import numpy as np
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from finetui.engine.protocol.events import LearningRateFound
from finetui.tui.keys import KEYS, bind
from finetui.tui.screens.base import ModalScreen
from finetui.tui.screens.dialog import BOX_CSS
from finetui.tui.widgets.action_button import ActionButton
from finetui.tui.widgets.line_plot import LinePlot
from finetui.tui.widgets.plot_drawing import SeriesStyle

_UNASKED_SECONDS = 0.5  # in which nobody can mean it with a key


class RatesScreen(ModalScreen[float | None]):
    """Shows what was found; is dismissed with the learning rate to use, or None.

    It opens by itself once something was found: keys that were meant for what was there before do nothing here.
    """

    AUTO_FOCUS = ""  # Enter is the screen's
    CSS_PATH: ClassVar[list[str | PurePath]] = [BOX_CSS]
    TITLE_TEXT = "Learning-rate finder"
    INTRODUCTION = "The loss as the learning rate rises, tried on a copy of the model."
    BINDINGS: ClassVar[list[BindingType]] = [
        bind("confirm", "use", label="Use the suggested learning rate"),
        bind("close", show=False),
    ]

    def __init__(self, found: LearningRateFound) -> None:
        super().__init__()
        self._found = found
        self._opened = time.monotonic()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing is answered before somebody can have seen the question."""
        answers = action in ("use", "back", "close")
        return not answers or time.monotonic() - self._opened >= _UNASKED_SECONDS

    def compose(self) -> ComposeResult:
        """Title, plot, suggestion, buttons."""
        found = self._found
        with Vertical(id="box"):
            yield Static(Content.styled(self.TITLE_TEXT, "bold $accent"), id="title")
            yield LinePlot("Loss", (SeriesStyle("train"),), x_label="rate", log_x=True, id="rates")
            if found.suggestion is None:
                text = Content("No clear minimum: keep the current learning rate.")
            else:
                text = Content.assemble(
                    "Suggestion: ", (f"{found.suggestion:g}", "bold $accent"), ", where the loss falls most steeply. "
                    "This ran on a copy: the model is unchanged.",
                )  # fmt: skip
            yield Static(text, id="text")
            with Horizontal(id="choices"):
                if found.suggestion is not None:
                    yield ActionButton("use", KEYS["confirm"].shown, f"Use {found.suggestion:g}", id="use")
                yield ActionButton("back", KEYS["back"].shown, "Keep the current one", id="back")

    def on_mount(self) -> None:
        """Draw."""
        found = self._found
        marks = () if found.suggestion is None else ((found.suggestion, f"{found.suggestion:g}"),)
        losses = np.array(found.losses)
        # The climb at the end, where it diverges, would flatten all the rest.
        points = (np.array(found.rates), np.minimum(losses, 1.5 * losses[:10].max(initial=0.0)))
        self.query_one("#rates", LinePlot).set_data((points,), float("nan"), marks)

    def on_action_button_pressed(self, message: ActionButton.Pressed) -> None:
        """Use it, or not."""
        message.stop()
        self.dismiss(self._found.suggestion if message.action == "use" else None)

    def action_use(self) -> None:
        """Accept the suggestion."""
        self.dismiss(self._found.suggestion)
