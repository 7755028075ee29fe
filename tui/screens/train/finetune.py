"""The finetune form: what is to be done, checked as one types, and a preview of what it would do."""

from pathlib import Path, PurePath
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.containers import Container, Horizontal, Vertical
from textual.content import Content
from textual.markup import escape
from textual.timer import Timer
from textual.widgets import Static
from textual.worker import get_current_worker

from finetui.engine.errors import BadInput
from finetui.engine.protocol.commands import FinetunePlan, PreviewFinetune
from finetui.engine.protocol.config import HEADS, OPTIMIZERS, SCHEDULES, DataConfig
from finetui.engine.protocol.events import CommandRefused, FinetunePreview
from finetui.engine.protocol.paths import absolute_data, short
from finetui.engine.runs.derived import child_config
from finetui.engine.runs.kept_checkpoints import BEST, LAST
from finetui.tui.keys import KEYS
from finetui.tui.queries.asker import Asker, Reply
from finetui.tui.screens.form import FORM_CSS, Form
from finetui.tui.screens.train.finetune_preview import PreviewPane
from finetui.tui.state.data_choices import DataChoice, data_choices
from finetui.tui.state.finetune_estimate import estimate
from finetui.tui.state.store import Store
from finetui.tui.state.view import View
from finetui.tui.widgets.action_button import ActionButton
from finetui.tui.widgets.form_rows import ChoiceRow, TextRow
from finetui.tui.widgets.picker import Pick, Picker
from finetui.tui.widgets.recipe_list import RecipeList

_DEBOUNCE_SECONDS = 0.15


class FinetuneForm(Form[FinetunePlan]):
    """Asks for a plan for the run in `store`; `asker` asks the engine what it would do.

    The weights are those of `checkpoint`; empty: the present ones of a run that trains, else the best.
    """

    CSS_PATH: ClassVar[list[str | PurePath]] = [FORM_CSS, Path(__file__).with_suffix(".tcss")]
    TITLE_TEXT = "Finetune"
    APPLY = (KEYS["confirm"].shown, "Start finetune")
    INTRODUCTION = (
        "A new run that starts from the weights of this one; its recipe decides which layers train when. Enter starts "
        "it, even from a text field; Escape cancels. Tab moves from the recipes to the data, its field, the settings "
        "and the preview, which shows the highest learning rate of all layers, the stages, and how long they take."
    )
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-roomy"), (160, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (34, "-tall")]

    def __init__(self, store: Store, asker: Asker, checkpoint: str = "") -> None:
        super().__init__()
        self._store = store
        self._asker = asker.heard_while(lambda: self.stands)
        self._weights = _weights(store.view)
        self._checkpoint = checkpoint if checkpoint in self._weights else _default_weights(store.view)
        self._choices: tuple[DataChoice, ...] = ()
        self._asked: PreviewFinetune | None = None
        self._problem = ""
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """Recipes, data and settings; the preview; what is wrong; buttons."""
        with Vertical(id="box"):
            yield from self.body()
            yield Static(id="words")
            with Horizontal(id="choices"):
                yield from self.buttons()

    def body(self) -> ComposeResult:
        """Fields at the left, the preview at the right, or below where there is no room."""
        view = self._store.view
        with Container(id="columns"):
            with Vertical(id="fields"):
                with Vertical(id="recipes", classes="panel"):
                    yield RecipeList("lp-ft", id="recipe")
                with Container(id="middle"):
                    with Vertical(id="data-panel", classes="panel"):
                        yield Picker("data", "Data", view.config.data.name, placeholder="a data set or folder")
                    with Vertical(id="settings", classes="panel"):
                        yield from self._settings(view)
            yield PreviewPane(id="preview")

    def _settings(self, view: View) -> ComposeResult:
        training = view.config.training
        yield ChoiceRow("weights", "Weights", list(self._weights.values()), self._weights[self._checkpoint])
        yield TextRow("epochs", "Epochs", str(training.epochs))
        yield TextRow("lr", "Learning rate", f"{training.lr:g}")
        yield ChoiceRow("schedule", "Schedule", SCHEDULES, training.schedule)
        yield ChoiceRow("optimizer", "Optimizer", OPTIMIZERS, training.optimizer)
        yield ChoiceRow("head", "Head", HEADS, "auto")
        yield TextRow("val", "Val fraction", f"{view.config.data.val:g}")
        yield TextRow("freeze", "Keep frozen", "", placeholder="nothing")

    def on_mount(self) -> None:
        """Begin with the recipe; the form itself checks, and so asks for the first preview."""
        view = self._store.view
        about = f"Finetune {view.name} · {short(view.config.model.name)}, {view.config.data.name}"
        for panel, title in (("#recipes", about), ("#data-panel", "Data"), ("#settings", "Settings")):
            self.query_one(panel).border_title = escape(title)
        self.query_one("#recipe", RecipeList).focus()
        self._find_data()

    @work(thread=True, exclusive=True)
    def _find_data(self) -> None:
        view = self._store.view
        runs_dir = Path(view.path).parent if view.path else Path(view.config.run.runs_dir)
        found = data_choices(runs_dir, [view.config.data.dir])
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._offer, found)

    def _offer(self, found: tuple[DataChoice, ...]) -> None:
        if self.stands:
            self._choices = found
            picks = [Pick(choice.name, choice.about, choice.shown) for choice in found]
            self.query_one(Picker).offer(picks)
            self._check()  # how long it takes is known by how many images there are

    def on_unmount(self) -> None:
        """Wait for no answer any more."""
        self._forget()

    def choice(self, name: str) -> str:
        """Return the option chosen in the row `name`."""
        return self.query_one("#recipe", RecipeList).value if name == "recipe" else super().choice(name)

    def read(self) -> FinetunePlan:
        """Return what the fields say. Raises `BadInput` naming the field that cannot be."""
        config = self._store.view.config
        data = self.text("data")
        if not data:
            raise BadInput("data: enter a data set or a folder")
        shown = self.choice("weights")
        plan = FinetunePlan(
            recipe=self.choice("recipe"),
            head=self.choice("head"),
            freeze=tuple(name.strip() for name in self.text("freeze").split(",") if name.strip()),
            # The engine that is to read it may have been started in another folder.
            data=None if data == config.data.name else absolute_data(DataConfig(name=data)).name,
            val=self.number("val", "val fraction", empty=0.0),
            epochs=self.whole_number("epochs", "epochs"),
            lr=self.number("lr", "learning rate"),
            schedule=self.choice("schedule"),
            optimizer=self.choice("optimizer"),
            checkpoint=next(name for name, words in self._weights.items() if words == shown),
        )
        child_config(config, plan, Path("last.ckpt"), "")
        return plan

    def on_recipe_list_changed(self) -> None:
        """Check anew."""
        self._check()

    def _check(self) -> FinetunePlan | None:
        """Check, and preview once one stops typing."""
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
        pane = self.query_one(PreviewPane)
        if isinstance(reply, CommandRefused):
            pane.say(f"No preview: {reply.reason}")
            return
        assert isinstance(reply, FinetunePreview)
        self._say(Content.styled(reply.problem, "$error"))
        if not reply.problem:
            pane.show(reply, estimate(reply, self._store.view, self._images()))

    def _images(self) -> int | None:
        """Return how many images there are to train on; None where that is not known."""
        view, data = self._store.view, self.text("data")
        if data == view.config.data.name and view.data is not None:
            return view.data.train_size
        images = next((choice.images for choice in self._choices if choice.name == data), None)
        val = self.number("val", "val fraction", empty=0.0)
        return None if images is None else round(images * (1 - val))

    def _say(self, words: Content) -> None:
        super()._say(words)
        self._problem = words.plain
        self.query_one("#words").display = bool(self._problem)
        self.query_one("#apply", ActionButton).show("apply", *self.APPLY, available=not self._problem, pending=False)

    def action_apply(self) -> None:
        """Begin the finetune, if nothing is wrong with it."""
        if not self._problem:
            super().action_apply()


def _weights(view: View) -> dict[str, str]:
    """Return the checkpoints that a finetune can begin with, with what each is called."""
    live = view.state in ("running", "paused")
    found = {LAST: f"{'current' if live else LAST}, step {view.step:,}"}
    for kept in view.kept:
        if kept.name != LAST:
            score = "" if kept.accuracy is None else f" {kept.accuracy:.2%}"
            found[kept.name] = f"{kept.name}{score} @{kept.epoch}"
    return found


def _default_weights(view: View) -> str:
    live = view.state in ("running", "paused")
    return BEST if not live and any(kept.name == BEST for kept in view.kept) else LAST
