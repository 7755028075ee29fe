"""The finetune form: what is to be done, checked as one types, and a preview of what it would do."""

from pathlib import Path, PurePath
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static

from finetui.engine.errors import BadInput
from finetui.engine.protocol.commands import FinetunePlan, PreviewFinetune
from finetui.engine.protocol.config import HEADS, OPTIMIZERS, RECIPES, SCHEDULES
from finetui.engine.protocol.events import FinetunePreview, StagePreview
from finetui.engine.runs.derived import child_config
from finetui.tui.queries.asker import Asker, Reply
from finetui.tui.screens.form import FORM_CSS, Form
from finetui.tui.state.store import Store
from finetui.tui.widgets.action_button import ActionButton
from finetui.tui.widgets.form_rows import ChoiceRow, TextRow

_DEBOUNCE_SECONDS = 0.15

RECIPE_HELP = {
    "linear-probe": "only a new head is trained",
    "lp-ft": "the head first, then all at a tenth",
    "gradual": "thaws one group after the other",
    "full": "all layers from the first step",
    "fastai": "head, then one cycle over rates",
}


class FinetuneForm(Form[FinetunePlan]):
    """Asks for a plan for the run in `store`; `asker` asks the engine what it would do."""

    CSS_PATH: ClassVar[list[str | PurePath]] = [FORM_CSS, Path(__file__).with_suffix(".tcss")]
    TITLE_TEXT = "Finetune"
    APPLY = ("f", "Start finetune")
    LEAVE = "Not now"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("f", "apply", "Start finetune")]

    def __init__(self, store: Store, asker: Asker) -> None:
        super().__init__()
        self._store = store
        self._asker = asker
        self._asked: PreviewFinetune | None = None
        self._problem = ""
        self._timer: Timer | None = None

    def body(self) -> ComposeResult:
        """Fields at the left, the preview at the right."""
        config = self._store.view.config
        training = config.training
        with Horizontal(id="columns"):
            with Vertical(id="fields"):
                yield ChoiceRow("recipe", "Recipe", RECIPES, "lp-ft")
                yield Static(id="recipe-help")
                yield ChoiceRow("head", "Head", HEADS, "auto")
                yield TextRow("data", "Data", config.data.name)
                yield TextRow("val", "Val share", f"{config.data.val:g}")
                yield TextRow("epochs", "Epochs", str(training.epochs))
                yield TextRow("lr", "Learning rate", f"{training.lr:g}")
                yield ChoiceRow("schedule", "Schedule", SCHEDULES, training.schedule)
                yield ChoiceRow("optimizer", "Optimizer", OPTIMIZERS, training.optimizer)
                yield TextRow("freeze", "Keep frozen", "", placeholder="conv1, conv2")
            with VerticalScroll(id="preview", can_focus=False):
                yield Static(id="preview-text")

    def on_mount(self) -> None:
        """Begin with the recipe; the form itself checks, and so asks for the first preview."""
        self.query_one("#recipe", ChoiceRow).focus()

    def on_unmount(self) -> None:
        """Wait for no answer any more."""
        self._forget()

    def read(self) -> FinetunePlan:
        """Return what the fields say. Raises `BadInput` naming the field that cannot be."""
        freeze = tuple(name.strip() for name in self.text("freeze").split(",") if name.strip())
        epochs, lr = self.text("epochs"), self.text("lr")
        if not epochs.isdecimal():
            raise BadInput("epochs: give a whole number")
        try:
            rate = float(lr)
        except ValueError:
            raise BadInput(f"learning rate: {lr!r} is not a number") from None
        try:
            val = float(self.text("val") or 0)
        except ValueError:
            raise BadInput(f"val share: {self.text('val')!r} is not a number") from None
        data = self.text("data")
        if not data:
            raise BadInput("data: name a data set or a folder")
        plan = FinetunePlan(
            recipe=self.choice("recipe"),
            head=self.choice("head"),
            freeze=freeze,
            data=None if data == self._store.view.config.data.name else data,
            val=val,
            epochs=int(epochs),
            lr=rate,
            schedule=self.choice("schedule"),
            optimizer=self.choice("optimizer"),
        )
        child_config(self._store.view.config, plan, Path("last.ckpt"), "")
        return plan

    def _check(self) -> FinetunePlan | None:
        """Check, and preview once one stops typing."""
        self.query_one("#recipe-help", Static).update(
            Content.styled(f"   {RECIPE_HELP[self.choice('recipe')]}", "$muted")
        )
        if self._timer is not None:
            self._timer.stop()
        self._forget()  # an answer that is still on its way is about something else
        plan = super()._check()
        if plan is not None:
            self._timer = self.set_timer(_DEBOUNCE_SECONDS, lambda: self._ask(plan))
        return plan

    def _ask(self, plan: FinetunePlan) -> None:
        self._asked = PreviewFinetune(plan=plan)
        self._asker.ask(self._asked, self._show)

    def _forget(self) -> None:
        if self._asked is not None:
            self._asker.forget(self._asked)

    def _show(self, reply: Reply) -> None:
        if not isinstance(reply, FinetunePreview):
            return  # refused: the log says why
        self._say(Content.styled(reply.problem, "$error"))
        if not reply.problem:
            self.query_one("#preview-text", Static).update(preview_text(reply))

    def _say(self, words: Content) -> None:
        super()._say(words)
        self._problem = words.plain
        self.query_one("#apply", ActionButton).show("apply", *self.APPLY, available=not self._problem, pending=False)

    def action_apply(self) -> None:
        """Begin the finetune, if nothing is wrong with it."""
        if not self._problem:
            super().action_apply()


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
