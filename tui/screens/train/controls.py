"""The control panel: buttons, the learning rate, and a line that explains."""

from typing import ClassVar, Self

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.validation import Number
from textual.widgets import Input

from finetui.engine.protocol.commands import SetLearningRate, Start
from finetui.engine.protocol.state_rules import refusal
from finetui.tui.state.actions import BY_NAME
from finetui.tui.state.log_lines import describe_command
from finetui.tui.state.store import View
from finetui.tui.widgets.action_button import ActionButton
from finetui.tui.widgets.styled_line import StyledLine

_ROWS = (("start", "pause", "step"), ("stop", "evaluate", "save"))
_FORMS = ("extend", "find")
_SMALLEST = 1e-12
_LADDER = (1.0, 2.0, 5.0)


def next_rate(value: float, direction: int) -> float:
    """Return the next higher (`direction` 1) or lower (-1) of the learning rates ..., 1e-3, 2e-3, 5e-3, 1e-2, ..."""
    rungs = [step * 10.0**exponent for exponent in range(-9, 4) for step in _LADDER]
    rungs = [float(f"{rung:.0e}") for rung in rungs]
    if direction > 0:
        return min((rung for rung in rungs if rung > value * 1.0001), default=value)
    return max((rung for rung in rungs if rung < value * 0.9999), default=value)


class LearningRateInput(Input):
    """A field for a positive number."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave", show=False)]

    def __init__(self) -> None:
        super().__init__(
            id="learning-rate",
            compact=True,
            restrict=r"[0-9.eE+\-]*",
            max_length=12,
            validators=[Number(minimum=_SMALLEST, failure_description="a learning rate is a positive number")],
            select_on_focus=True,
        )
        self.cursor_blink = False

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        """Paint; another number of digits is no reason to lay the whole screen out, for the width is the row's."""
        return super().refresh(*regions, repaint=repaint, layout=layout and not self.size, recompose=recompose)

    def action_leave(self) -> None:
        """Go back to the keys of the screen."""
        self.screen.set_focus(None)

    def on_blur(self, _event: events.Blur) -> None:
        """Drop what was typed and not submitted; the panel puts the true value back."""
        self.post_message(Controls.LearningRateAbandoned())


class Controls(Vertical):
    """Everything with which a run is steered, except its layers."""

    DEFAULT_CSS = """
    Controls {
        height: auto;
        .row { height: 1; }
        .row ActionButton { margin-left: 1; }
        #rate-label { width: 17; }
        #learning-rate { width: 1fr; background: $field; }
        #learning-rate:focus { background: $field-focus; }
        #learning-rate.-invalid { color: $error; }
        #rate-down, #rate-up { width: 4; min-width: 4; }
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
                yield from (self._button(name) for name in row)
        with Horizontal(classes="row"):
            yield from (self._button(name) for name in _FORMS)
        with Horizontal(classes="row"):
            yield StyledLine(Content.assemble(" ", ("l", "bold $accent"), " Learning rate"), id="rate-label")
            yield LearningRateInput()
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
        for name in (name for row in (*_ROWS, _FORMS) for name in row):
            shown = "resume" if name == "pause" and view.state == "paused" else name
            action = BY_NAME[shown]
            resumes = name == "start" and view.can_go_on
            available = resumes or refusal(action.kind, view.state) is None
            pending = any(isinstance(command, action.kind) for command in view.pending.values())
            button = self.query_one(f"#{name}", ActionButton)
            label = "Resume" if resumes else action.label
            button.show(action.name, action.key, label, available=available, pending=pending)
        available = refusal(SetLearningRate, view.state) is None
        for name, key in (("rate-down", "-"), ("rate-up", "+")):
            self.query_one(f"#{name}", ActionButton).show(name, key, "", available=available, pending=False)
        field = self.query_one(LearningRateInput)
        if not field.has_focus:
            self._restore_rate()
        self._show_news()

    def _restore_rate(self) -> None:
        field = self.query_one(LearningRateInput)
        text = f"{self._view.learning_rate:.6g}" if self._view.learning_rate else ""
        if field.value != text:
            field.value = text

    def _show_news(self) -> None:
        view = self._view
        if view.pending:
            self.hint(f"{', '.join(describe_command(c) for c in view.pending.values())} …")
        elif view.refusal is not None:
            self.hint(f"{describe_command(view.refusal.command)}: {view.refusal.reason}", "$warning")
        else:
            self.hint("")

    def hint(self, text: str, style: str = "") -> None:
        """Show one line of explanation."""
        self.query_one("#hint", StyledLine).show(Content.styled(f" {text}" if text else "", style))

    def on_action_button_pointed(self, message: ActionButton.Pointed) -> None:
        """Explain the button, or why it cannot be used."""
        message.stop()
        action = BY_NAME.get(message.action)
        if action is None:
            return
        if action.kind is Start and self._view.can_go_on:
            self.hint("Go on from the last checkpoint, in a new engine")
            return
        why_not = refusal(action.kind, self._view.state)
        self.hint(f"{action.label}: {why_not}" if why_not else action.help)

    def on_action_button_pressed(self, message: ActionButton.Pressed) -> None:
        """Turn the two rate buttons into a nudge; others are for the screen."""
        if message.action in ("rate-down", "rate-up"):
            message.stop()
            self.post_message(self.LearningRateNudged(1 if message.action == "rate-up" else -1))

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Pass a valid learning rate on, or say what is wrong with it."""
        message.stop()
        result = message.validation_result
        if result is not None and not result.is_valid:
            self.hint("; ".join(result.failure_descriptions), "$error")
            return
        self.post_message(self.LearningRateChosen(float(message.value)))
        self.screen.set_focus(None)

    def on_controls_learning_rate_abandoned(self, message: LearningRateAbandoned) -> None:
        """Show the learning rate in use again."""
        message.stop()
        self._restore_rate()
