"""The finetune form: what is to be done, checked as one types, and a preview of what it would do."""

from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Input, Static

from finetui.engine.errors import BadInput
from finetui.engine.link.base import Link
from finetui.engine.protocol.commands import FinetunePlan, PreviewFinetune
from finetui.engine.protocol.config import HEADS, OPTIMIZERS, RECIPES, SCHEDULES
from finetui.engine.protocol.events import FinetunePreview, StagePreview
from finetui.engine.runs.derived import child_config
from finetui.tui.screens.base import ModalScreen
from finetui.tui.state.store import Store
from finetui.tui.widgets.action_button import ActionButton
from finetui.tui.widgets.form_rows import ChoiceRow, TextRow

_DEBOUNCE_SECONDS = 0.15
_POLL_SECONDS = 0.1

RECIPE_HELP = {
    "linear-probe": "only a new head is trained",
    "lp-ft": "the head first, then all at a tenth",
    "gradual": "thaws one group after the other",
    "full": "all layers from the first step",
    "fastai": "head, then one cycle over rates",
}


class FinetuneForm(ModalScreen[FinetunePlan | None]):
    """Asks for a plan; is dismissed with it, or with None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back"),
        Binding("f", "begin", "Start finetune"),
    ]

    def __init__(self, store: Store, link: Link) -> None:
        super().__init__()
        self._store = store
        self._link = link
        self._asked = ""  # id of the question that the newest answer must answer
        self._shown: FinetunePreview | None = None
        self._problem = ""
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """Fields at the left, the preview at the right, buttons below."""
        config = self._store.view.config
        training = config.training
        with Vertical(id="box"):
            yield Static(Content.styled("Finetune", "bold $accent"), id="title")
            with Horizontal(id="columns"):
                with Vertical(id="fields"):
                    yield ChoiceRow("recipe", "Recipe", RECIPES, "lp-ft")
                    yield Static(id="recipe-help")
                    yield ChoiceRow("head", "Head", HEADS, "auto")
                    yield TextRow("data", "Data", config.data.name)
                    yield TextRow("epochs", "Epochs", str(training.epochs), restrict=r"\d*")
                    yield TextRow("lr", "Learning rate", f"{training.lr:g}", restrict=r"[0-9.eE+\-]*")
                    yield ChoiceRow("schedule", "Schedule", SCHEDULES, training.schedule)
                    yield ChoiceRow("optimizer", "Optimizer", OPTIMIZERS, training.optimizer)
                    yield TextRow("freeze", "Keep frozen", "", placeholder="conv1, conv2")
                with VerticalScroll(id="preview", can_focus=False):
                    yield Static(id="preview-text")
            yield Static(id="problem")
            with Horizontal(id="choices"):
                yield ActionButton("begin", "f", "Start finetune", id="begin")
                yield ActionButton("back", "esc", "Not now", id="back")

    def on_mount(self) -> None:
        """Ask for the first preview."""
        self.query_one("#recipe", ChoiceRow).focus()
        self.set_interval(_POLL_SECONDS, self._look)
        self._edited()

    def plan(self) -> FinetunePlan:
        """Return what the fields say. Raises `BadInput` naming the field that cannot be."""
        freeze = tuple(name.strip() for name in self._text("freeze").split(",") if name.strip())
        epochs, lr = self._text("epochs"), self._text("lr")
        if not epochs:
            raise BadInput("epochs: give a whole number")
        try:
            rate = float(lr)
        except ValueError:
            raise BadInput(f"learning rate: {lr!r} is not a number") from None
        data = self._text("data")
        if not data:
            raise BadInput("data: name a data set or a folder")
        plan = FinetunePlan(
            recipe=self._choice("recipe"),
            head=self._choice("head"),
            freeze=freeze,
            data=None if data == self._store.view.config.data.name else data,
            epochs=int(epochs),
            lr=rate,
            schedule=self._choice("schedule"),
            optimizer=self._choice("optimizer"),
        )
        child_config(self._store.view.config, plan, Path("last.ckpt"), "")
        return plan

    def _choice(self, name: str) -> str:
        return self.query_one(f"#{name}", ChoiceRow).value

    def _text(self, name: str) -> str:
        return self.query_one(f"#{name}", Input).value.strip()

    def on_choice_row_changed(self) -> None:
        """Check and preview."""
        self._edited()

    def on_input_changed(self) -> None:
        """Check, and preview once one stops typing."""
        self._edited()

    def _edited(self) -> None:
        self.query_one("#recipe-help", Static).update(
            Content.styled(f"   {RECIPE_HELP[self._choice('recipe')]}", "$muted")
        )
        if self._timer is not None:
            self._timer.stop()
        self._asked = ""  # an answer that is still on its way is about something else
        try:
            plan = self.plan()
        except BadInput as error:
            self._say(str(error))
            return
        self._say("")
        self._timer = self.set_timer(_DEBOUNCE_SECONDS, lambda: self._ask(plan))

    def _ask(self, plan: FinetunePlan) -> None:
        question = PreviewFinetune(plan=plan)
        self._asked = question.id
        self._link.send(question)

    def _look(self) -> None:
        found = self._store.view.preview
        if found is None or found is self._shown or found.command.id != self._asked:
            return
        self._shown = found
        self._say(found.problem)
        if not found.problem:
            self.query_one("#preview-text", Static).update(preview_text(found))

    def _say(self, problem: str) -> None:
        self._problem = problem
        self.query_one("#problem", Static).update(Content.styled(problem, "$error"))
        self.query_one("#begin", ActionButton).show(
            "begin", "f", "Start finetune", available=not problem, pending=False
        )

    def on_action_button_pressed(self, message: ActionButton.Pressed) -> None:
        """Begin, or leave."""
        message.stop()
        if message.action == "begin":
            self.action_begin()
        else:
            self.action_leave()

    def action_begin(self) -> None:
        """Begin the finetune, if nothing is wrong with it."""
        if self._problem:
            return
        try:
            plan = self.plan()
        except BadInput as error:
            self._say(str(error))
            return
        self.dismiss(plan)

    def action_leave(self) -> None:
        """Begin nothing."""
        self.dismiss(None)


def preview_text(found: FinetunePreview) -> Content:
    """Return what the plan would do, as text."""
    lines = [line for stage in found.stages for line in _stage_lines(stage, found)]
    for label, names in (
        ("kept", found.reused),
        ("new", found.fresh),
        ("renamed", found.renamed),
        ("dropped", found.dropped),
    ):
        if names:
            lines.append(Content.assemble((f"{label:<8}", "$muted"), _listed(names)))
    lines += [Content.styled(f"! {notice}", "$warning") for notice in found.notices]
    return Content("\n").join(lines)


def _stage_lines(stage: StagePreview, found: FinetunePreview) -> list[Content]:
    epochs = f"epoch {stage.first_epoch}"
    if stage.last_epoch > stage.first_epoch:
        epochs = f"epochs {stage.first_epoch}–{stage.last_epoch}"
    low, high = stage.learning_rates
    rate = f"{high:g}" if low == high else f"{low:.3g} to {high:g}"
    return [
        Content.assemble((f"{epochs:<12} ", "bold"), (stage.name, "$accent")),
        Content.assemble(("  trains ", "$muted"), _listed(stage.trains)),
        Content.assemble(
            ("  ", ""), f"{stage.parameters:,}", (f" of {found.total_parameters:,}, rate ", "$muted"), rate
        ),
    ]


def _listed(names: tuple[str, ...], most: int = 8) -> str:
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most // 2])}, … {', '.join(names[-2:])} ({len(names)})"
