"""The control panel: buttons, the learning rate, and a line that explains."""

from typing import ClassVar, Self

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.widgets import Input

from finetui.engine.errors import BadInput
from finetui.engine.protocol.commands import SetLearningRate, Start
from finetui.engine.protocol.config_checks import check_learning_rate
from finetui.tui.keys import KEYS, bind
from finetui.tui.screens.toast import ShowToast
from finetui.tui.state.actions import BY_NAME
from finetui.tui.state.command_words import describe_command
from finetui.tui.state.empty import no_steering
from finetui.tui.state.numbers import factor, rate
from finetui.tui.state.parse_numbers import number
from finetui.tui.state.view import View
from finetui.tui.widgets.action_button import ActionButton
from finetui.tui.widgets.compound import Compound
from finetui.tui.widgets.styled_line import StyledLine
from finetui.tui.widgets.text_field import TextField

# Stop is far from Start, and from what is pressed often; Finetune stands with the layers.
_ROWS = (("start", "pause", "step"), ("evaluate", "save", "find"), ("extend", "", "stop"))
_LADDER = (1.0, 2.0, 5.0)


def next_rate(value: float, direction: int) -> float:
    """Return the next higher (`direction` 1) or lower (-1) of the learning rates ..., 1e-3, 2e-3, 5e-3, 1e-2, ..."""
    rungs = [step * 10.0**exponent for exponent in range(-9, 4) for step in _LADDER]
    rungs = [float(f"{rung:.0e}") for rung in rungs]
    if direction > 0:
        return min((rung for rung in rungs if rung > value * 1.0001), default=value)
    return max((rung for rung in rungs if rung < value * 0.9999), default=value)


class LearningRateInput(TextField):
    """A field for a positive number."""

    BINDINGS: ClassVar[list[BindingType]] = [bind("back", "leave", show=False)]

    def __init__(self) -> None:
        super().__init__(id="learning-rate", max_length=40)

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        """Paint; another number of digits is no reason to lay the whole screen out, for the width is the row's."""
        return super().refresh(*regions, repaint=repaint, layout=layout and not self.size, recompose=recompose)

    def action_leave(self) -> None:
        """Go back to the keys of the screen."""
        self.screen.set_focus(None)

    def on_blur(self, _event: events.Blur) -> None:
        """Drop what was typed and not submitted; the panel puts the true value back."""
        self.post_message(Controls.LearningRateAbandoned())


def _by_hand(view: View) -> str:
    """Return by what a person multiplied the learning rate; empty where it is as scheduled, or that is not known."""
    if view.rate_factor is None or abs(view.rate_factor - 1) < 1e-9:
        return ""
    return f"LR = schedule {factor(view.rate_factor)}"


class Controls(Compound, Vertical):
    """Everything with which a run is steered, except its layers."""

    DEFAULT_CSS = """
    Controls {
        height: auto;
        .row { height: 1; }
        .row > * { width: 1fr; margin-left: 1; }
        #pause, #save, #gap, #learning-rate { width: 13; }  /* "space Resume" */
        #rate-label { background: $surface; }
        #learning-rate { background: $field; }
        #learning-rate:focus { background: $field-focus; }
        #learning-rate.-invalid { color: $error; }
        #rate-buttons ActionButton { min-width: 4; }
        #rate-up { margin-left: 1; }
        #hint { color: $muted; }
    }
    """

    class LearningRateChosen(Message):
        """Somebody typed the learning rate `value`."""

        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = value

    class LearningRateAbandoned(Message):
        """Somebody left the field without submitting."""

    class LearningRateNudged(Message):
        """Somebody wants the next higher (`direction` 1) or lower (-1) learning rate."""

        def __init__(self, direction: int) -> None:
            super().__init__()
            self.direction = direction

    def __init__(self) -> None:
        super().__init__(id="controls")
        self._view = View()

    def compose(self) -> ComposeResult:
        """Lay the buttons out."""
        for row in _ROWS:
            with Horizontal(classes="row"):
                yield from (self._button(name) if name else StyledLine(id="gap") for name in row)
        with Horizontal(classes="row"):
            yield StyledLine(id="rate-label")
            yield LearningRateInput()
            with Horizontal(id="rate-buttons"):
                yield ActionButton("rate-down", "-", "", id="rate-down")
                yield ActionButton("rate-up", "+", "", id="rate-up")
        yield StyledLine(id="hint")

    @staticmethod
    def _button(name: str) -> ActionButton:
        action = BY_NAME[name]
        return ActionButton(action.name, action.key, action.label, id=name)

    def show(self, view: View) -> None:
        """Bring everything up to date with `view`."""
        self._view = view
        for name in (name for row in _ROWS for name in row if name):
            shown = "resume" if name == "pause" and view.state == "paused" else name
            action = BY_NAME[shown]
            resumes = name == "start" and (view.can_go_on or view.state == "stopped")
            available = view.refusal_of(action.kind) is None
            pending = any(isinstance(command, action.kind) for command in view.pending.values())
            button = self.query_one(f"#{name}", ActionButton)
            words = "Resume" if resumes else action.label
            button.show(action.name, action.key, words, available=available, pending=pending)
        available = view.refusal_of(SetLearningRate) is None
        styles = ("bold $button-key", "") if available else ("$disabled", "$disabled")
        label = Content.assemble((f" {KEYS['rate'].shown}", styles[0]), (" LR", styles[1]))
        self.query_one("#rate-label", StyledLine).show(label)
        for name, key in (("rate-down", "-"), ("rate-up", "+")):
            self.query_one(f"#{name}", ActionButton).show(name, key, "", available=available, pending=False)
        field = self.query_one(LearningRateInput)
        if not field.has_focus:
            self._restore_rate()
        self._show_news()

    def _restore_rate(self) -> None:
        field = self.query_one(LearningRateInput)
        text = rate(self._view.learning_rate) if self._view.learning_rate else ""
        field.remove_class("-invalid")
        if field.value != text:
            field.value = text

    def _show_news(self) -> None:
        view = self._view
        if view.pending:
            self.hint(f"{', '.join(describe_command(c) for c in view.pending.values())}…")
        else:
            self.hint(no_steering(view) or _by_hand(view))

    def hint(self, text: str, style: str = "") -> None:
        """Show one line of explanation."""
        self.query_one("#hint", StyledLine).show(Content.styled(f" {text}" if text else "", style))

    def on_action_button_pointed(self, message: ActionButton.Pointed) -> None:
        """Explain the button, or why it cannot be used."""
        message.stop()
        action = BY_NAME.get(message.action)
        if action is None:
            return
        view = self._view
        why_not = view.refusal_of(action.kind)
        if action.kind is Start and why_not is None and view.state != "ready":
            self.hint(f"Resume from step {view.step:,}")
            return
        self.hint(f"{action.label}: {why_not}" if why_not else action.help)

    def on_action_button_pressed(self, message: ActionButton.Pressed) -> None:
        """Turn the two rate buttons into a nudge; others are for the screen."""
        if message.action in ("rate-down", "rate-up"):
            message.stop()
            self.post_message(self.LearningRateNudged(1 if message.action == "rate-up" else -1))

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Pass a valid learning rate on, or say what is wrong with it and leave it to be mended."""
        message.stop()
        typed = message.value.strip()
        if typed != rate(self._view.learning_rate):
            try:
                value = number(typed, "learning rate")
                check_learning_rate(value, "learning rate")
            except BadInput as error:
                message.input.add_class("-invalid")
                self.app.post_message(ShowToast(str(error), "refusal", warns=True))
                return
            self.post_message(self.LearningRateChosen(value))
        self.screen.set_focus(None)

    def on_controls_learning_rate_abandoned(self, message: LearningRateAbandoned) -> None:
        """Show the learning rate in use again."""
        message.stop()
        self._restore_rate()
