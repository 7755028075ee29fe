"""The card that asks what to train, and shows the runs that there are."""

import math
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import ClassVar, NamedTuple

from textual import events, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static
from textual.widgets.option_list import Option
from textual.worker import get_current_worker

from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import TRAINING_RECIPES, RunConfig, is_factory
from finetui.engine.protocol.config_checks import require_known
from finetui.engine.protocol.model_names import hub_of
from finetui.engine.runs.folder import run_folders
from finetui.engine.runs.summaries import RunSummary, summarise_run
from finetui.engine.version import __version__
from finetui.tui.keys import KEYS, bind
from finetui.tui.screens.form import FORM_CSS, Form
from finetui.tui.state.data_choices import DataChoice, data_choices
from finetui.tui.state.finetune_estimate import duration
from finetui.tui.state.last_settings import LastSettings, read_last
from finetui.tui.widgets.form_rows import ChoiceRow, TextRow
from finetui.tui.widgets.option_list import OptionList
from finetui.tui.widgets.picker import Pick, Picker

_MOST_RUNS = 20  # whose journals are read
_MODELS = (
    Pick("lenet", "44 k, digits"),
    Pick("resnet18", "11.7 M, photos"),
    Pick("mobilenet_v3_small", "2.5 M, fast"),
    Pick("resnet50", "25.6 M"),
)
_LIVE, _ENDED = "●", "·"


class Wanted(NamedTuple):
    """What to do: train by `config`, or open the run in the folder `run`."""

    config: RunConfig | None = None
    settings: LastSettings = LastSettings()
    run: Path | None = None


class StartCard(Form[Wanted]):
    """Asks for data, model and how to train, over the settings `base`; `models` are the names that there are."""

    CSS_PATH: ClassVar[list[str | PurePath]] = [FORM_CSS, Path(__file__).with_suffix(".tcss")]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (76, "-roomy")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (34, "-tall")]
    APPLY = (KEYS["confirm"].shown, "Start training")
    LEAVE = "Quit"
    BINDINGS: ClassVar[list[BindingType]] = [bind("theme", "app.toggle_dark", show=False)]
    TITLE_TEXT = "Start"
    INTRODUCTION = (
        "Choose what to train: pick data and a model, or type others, and press Enter. Enter on a run opens it; a live "
        "one keeps training. The settings are remembered for the next time. All other settings are command-line "
        "options (finetui --help)."
    )

    def __init__(self, base: RunConfig, models: Sequence[str]) -> None:
        super().__init__()
        self._base = base
        self._models = tuple(models)
        self._last, self._word = read_last()
        self._data: tuple[DataChoice, ...] = ()
        self._runs: tuple[RunSummary, ...] = ()
        self._touched = False

    def compose(self) -> ComposeResult:
        """Runs, data and model, settings, what will happen, buttons."""
        with Vertical(id="box"):
            yield Static(Content.assemble(("finetui", "bold $accent"), (f" {__version__}", "$muted")), id="title")
            with VerticalScroll(id="rows", can_focus=False):
                with Vertical(id="runs", classes="panel"):
                    yield OptionList(id="run-list", compact=True)
                with Horizontal(id="what"):
                    with Vertical(id="data-panel", classes="panel"):
                        yield Picker("data", "Name or path", self._last.data, placeholder="a data set or folder")
                    with Vertical(id="model-panel", classes="panel"):
                        yield Picker("model", "Name", self._last.model, _MODELS)
                with Vertical(id="training", classes="panel"):
                    yield from self._training()
            yield Static(id="words")
            with Horizontal(id="choices"):
                yield from self.buttons()

    def _training(self) -> ComposeResult:
        shown = self._last.to_config(self._base).training
        yield ChoiceRow("recipe", "Recipe", list(TRAINING_RECIPES), self._last.recipe)
        yield TextRow("epochs", "Epochs", str(shown.epochs))
        yield TextRow("lr", "Learning rate", f"{shown.lr:g}")
        yield TextRow("batch", "Batch size", str(shown.batch_size))

    def on_mount(self) -> None:
        """Look for data and runs, in a thread; begin with the data."""
        for panel, title in (
            ("#data-panel", "Data"),
            ("#model-panel", "Model (parameters)"),
            ("#training", "Training"),
        ):
            self.query_one(panel).border_title = title
        self.query_one("#runs").display = False
        self.query_one("#data").focus()
        self._look()

    @work(thread=True, exclusive=True)
    def _look(self) -> None:
        runs_dir = Path(self._base.run.runs_dir)
        data = data_choices(runs_dir, [self._base.data.dir], all_folders=True)
        runs, word = _runs_in(runs_dir)
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._found, data, runs, word)

    def _found(self, data: tuple[DataChoice, ...], runs: tuple[RunSummary, ...], word: str) -> None:
        if not self.stands:
            return
        self._data, self._runs, self._word = data, runs, self._word or word
        pickers = list(self.query(Picker))
        pickers[0].offer([Pick(choice.name, choice.about, choice.shown) for choice in data])
        for shown in self.query("#data-list, #model-list"):  # panels side by side end in the same line
            shown.styles.min_height = max(len(data), len(_MODELS))
        self._offer_runs()
        if not self._touched and not any(run.live for run in runs):
            self.query_one("#data-list" if data else "#data").focus()
        self._check()

    def _offer_runs(self) -> None:
        runs, shown = self._runs, self.query_one("#run-list", OptionList)
        panel = self.query_one("#runs")
        panel.display = bool(runs)
        live = sum(run.live for run in runs)
        panel.border_title = f"{live} live: Enter attaches" if live else "Recent runs: Enter opens"
        self._fill_runs()
        if live and not self._touched:
            shown.focus()

    def _fill_runs(self) -> None:
        shown = self.query_one("#run-list", OptionList)
        at, width = shown.highlighted, max(self.query_one("#rows").size.width - 5, 1)
        shown.set_options([Option(_line(run).truncate(width, ellipsis=True)) for run in self._runs])
        shown.highlighted = (at or 0) if self._runs else None

    def on_resize(self) -> None:
        """Have each run in one line."""
        self.call_after_refresh(self._fill_runs)

    def on_key(self, _event: events.Key) -> None:
        """Note that somebody is at it: the focus stays where they have it."""
        self._touched = True

    def on_choice_row_changed(self) -> None:
        """Propose what the other recipe trains by."""
        training = LastSettings(recipe=self.choice("recipe")).to_config(self._base).training
        for row, value in (("epochs", training.epochs), ("lr", f"{training.lr:g}"), ("batch", training.batch_size)):
            self.field(row).value = str(value)
        self._check()

    def read(self) -> Wanted:
        """Return what the fields say. Raises `BadInput`."""
        data, model = self.text("data"), self.text("model")
        if not data:
            raise BadInput("data: enter a data set or a folder")
        if not (is_factory(model) or hub_of(model)):
            require_known(model, self._models, "model", "model")
        settings = LastSettings(
            data=data,
            folder=next((choice.folder for choice in self._data if choice.name == data), None),
            model=model,
            recipe=self.choice("recipe"),
            epochs=self.whole_number("epochs", "epochs"),
            lr=self.number("lr", "learning rate"),
            batch_size=self.whole_number("batch", "batch size"),
        )
        return Wanted(settings.to_config(self._base), settings)

    def words(self, found: Wanted) -> str:
        """Return how much there is to do, as far as that is known."""
        assert found.config is not None
        training, name = found.config.training, found.config.data.name
        choice = next((choice for choice in self._data if choice.name == name and choice.images), None)
        said = []
        if choice is not None and choice.images:
            steps = math.ceil(choice.images / training.batch_size)
            said.append(f"{choice.images:,} images ({choice.location}), {steps:,} steps per epoch")
        like = next((run for run in self._runs if _is_like(run, found.config) and run.took and run.epoch), None)
        if like is not None:
            said.append(f"about {duration(like.took / like.epoch * training.epochs)}, judging by {like.name}")
        return "; ".join(filter(None, (self._word, ", ".join(said))))

    def action_enter(self) -> None:
        """Go to the run under the cursor, or start."""
        runs = self.query_one("#run-list", OptionList)
        if runs.has_focus and runs.highlighted is not None:
            self._open(runs.highlighted)
        else:
            super().action_enter()

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        """Go to the run that was clicked."""
        message.stop()
        self._open(message.option_index)

    def _open(self, index: int) -> None:
        self.dismiss(Wanted(run=Path(self._runs[index].path)))


def _runs_in(runs_dir: Path) -> tuple[tuple[RunSummary, ...], str]:
    """Return the newest runs, live ones first, and what is wrong with one that could not be read."""
    found, word = [], ""
    try:
        for folder in run_folders(runs_dir)[:_MOST_RUNS]:
            try:
                summary = summarise_run(folder)
            except BadInput as error:
                word = str(error)
                continue
            if summary is not None:
                found.append(summary)
    except BadInput as error:
        word = str(error)
    return tuple(sorted(found, key=lambda run: not run.live)), word


def _line(run: RunSummary) -> Content:
    best = "" if run.best_accuracy is None else f"{run.best_accuracy:.2%}"
    return Content.assemble(
        (f"{_LIVE if run.live else _ENDED} ", "$success" if run.live else "$muted"),
        f"{run.name:<26.26} {run.state:<9} {best:>8}  ",
        (f"epoch {run.epoch}/{run.epochs}  {run.model}, {run.data}", "$muted"),
    )


def _is_like(run: RunSummary, config: RunConfig) -> bool:
    # The last epoch of a run that is not finished has only begun: what it took says little of an epoch.
    return run.state == "finished" and (run.data, run.model) == (config.data.name, config.model.name)
