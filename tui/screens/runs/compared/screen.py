"""Several runs side by side: their curves, settings, scores, and the images that two of them differ on."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from rich.cells import cell_len
from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, ScrollableContainer
from textual.content import Content
from textual.widgets import OptionList as TextualOptionList, Static
from textual.widgets.option_list import Option

from finetui.engine.errors import BadInput
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.summaries import RunSummary
from finetui.engine.sources.watched_runs import WatchedRuns
from finetui.tui.keys import bind, bind_tabs
from finetui.tui.screens.base import Screen
from finetui.tui.screens.run_chosen import Differing, RunChosen
from finetui.tui.screens.runs.compared.curves import Curves, Legend
from finetui.tui.screens.runs.compared.tables import scores_content, scores_notes, settings_content
from finetui.tui.screens.runs.help import COMPARED
from finetui.tui.screens.status_bar import StatusBar
from finetui.tui.state.run_comparison import Pair, history_of, predictions_file, scores_of
from finetui.tui.state.store import Store
from finetui.tui.widgets.action_button import ActionButton
from finetui.tui.widgets.key_bar import KeyBar
from finetui.tui.widgets.option_list import ImagePairs
from finetui.tui.widgets.plot_group import VIEW_ACTIONS
from finetui.tui.widgets.styled_line import StyledLine

_POLL_SECONDS = 2.0
TABS = ("curves", "settings", "scores", "errors")


class ComparedScreen(Screen[None]):
    """Compares `runs`, two to eight of them, above a dashboard on the run in `store`."""

    NAME = "runs"  # its key leads back to the list
    TITLE_TEXT = "Runs compared"
    INTRODUCTION = COMPARED
    CSS_PATH = "screen.tcss"
    AUTO_FOCUS = ""
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-roomy")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]
    BINDINGS: ClassVar[list[BindingType]] = [
        *bind_tabs(*(f"tab('{tab}')" for tab in TABS)),
        *(bind(name, f"plots('{name}')") for name in VIEW_ACTIONS),
    ]

    def __init__(self, store: Store, runs: Sequence[RunSummary], watched: WatchedRuns | None = None) -> None:
        """Take runs of finetui's own, or with `watched` those of others."""
        super().__init__()
        self._store = store
        self._folders = [RunFolder(Path(run.path)) for run in runs]
        self._histories = [history_of(folder.path, watched) for folder in self._folders]
        self._watched = watched
        parts = {run.part for run in runs}
        self._part = parts.pop() if len(parts) == 1 else ""
        self._pairs: tuple[Pair, ...] = ()
        self._reads = False
        self._problems: list[str] = []

    def compose(self) -> ComposeResult:
        """A title, the tabs, the legend, and what belongs to each tab."""
        if self._watched is None or self._store.view.name:  # else no run is shown below
            yield StatusBar(self._store)
        yield StyledLine(
            Content.assemble((" Compare", "bold $accent"), f"  {len(self._folders)} runs"), id="compared-title"
        )
        with Horizontal(id="compared-tabs"):
            for number, tab in enumerate(TABS, 1):
                yield ActionButton(tab, str(number), tab.capitalize(), id=f"tab-{tab}")
        yield Legend(id="compared-legend")
        yield Static(id="compared-problems")
        yield Curves([folder.name for folder in self._folders], self._part)
        for tab in ("settings", "scores"):
            with ScrollableContainer(id=f"compared-{tab}"):
                yield Static("Reading…", id=f"{tab}-text")
                yield Static(id=f"{tab}-notes", classes="notes")
        yield ImagePairs(id="compared-errors", compact=True)
        yield Static("Reading the journals…", id="compared-message")
        yield KeyBar()

    def on_mount(self) -> None:
        """Begin with the curves."""
        self.action_tab("curves")
        self.set_class(True, "-message")
        self._read()
        self._score()
        self.set_interval(_POLL_SECONDS, self._poll)

    # -- reading --------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        if self.is_current and not self._reads:
            self._read()

    @work(group="read", exit_on_error=False)
    async def _read(self) -> None:
        """Read what the journals say by now, in a thread, and show it."""
        self._reads = True
        try:
            changed, problems = await asyncio.to_thread(self._read_on)
        finally:
            self._reads = False
        if not self.stands or (not changed and problems == self._problems):
            return
        self._problems = problems
        said = Content("\n").join(Content(problem) for problem in problems)
        if not any(history.store.curves.has_points for history in self._histories):
            self._say(said)
            return
        self.set_class(False, "-message")
        self.set_class(bool(problems), "-problems")
        self.query_one("#compared-problems", Static).update(said)
        self.call_after_refresh(self._show_legend)
        self.query_one("#settings-text", Static).update(settings_content(self._histories))
        self.query_one(Curves).show(self._histories)

    def _read_on(self) -> tuple[bool, list[str]]:
        """Read on; return whether there was anything new, and what is wrong with some of the runs, as sentences."""
        heard, problems = False, []
        for history in self._histories:
            try:
                heard |= history.read()
            except BadInput as error:
                problems.append(str(error))
                continue
            if not history.store.curves.has_points:
                problems.append(f"{history.folder.name} has logged nothing to plot yet")
        return heard, problems

    def on_resize(self) -> None:
        """Lay the legend out anew."""
        self.call_after_refresh(self._show_legend)

    def _show_legend(self) -> None:
        if self.stands and not self.has_class("-message"):
            self.query_one(Legend).show(self._histories, self.query_one(Curves).at_cursor())

    def _say(self, text: Content) -> None:
        self.set_class(False, "-problems")
        self.set_class(True, "-message")
        self.query_one("#compared-message", Static).update(text)

    @work(group="score", exit_on_error=False)
    async def _score(self) -> None:
        """Work out the scores, in a thread."""
        scores = await asyncio.to_thread(scores_of, self._folders)
        if not self.stands:
            return
        self.query_one("#scores-text", Static).update(scores_content(scores))
        self.query_one("#scores-notes", Static).update(scores_notes(scores))
        self._pairs = scores.pairs
        options = self.query_one("#compared-errors", ImagePairs)
        options.add_options(_options(scores.pairs))
        first = next((at for at, pair in enumerate(scores.pairs) if pair.test is not None), None)
        options.highlighted = first

    # -- what is shown --------------------------------------------------------------------------------------

    def action_tab(self, tab: str) -> None:
        """Show what belongs to `tab`."""
        for name in TABS:
            self.set_class(name == tab, f"-{name}")
            self.query_one(f"#tab-{name}").set_class(name == tab, "-chosen")
        # What is only about to be shown cannot be focused yet.
        self.call_after_refresh(self.query_one(f"#compared-{tab}").focus)
        self.refresh_bindings()

    def on_action_button_pressed(self, message: ActionButton.Pressed) -> None:
        """Go to the tab."""
        message.stop()
        self.action_tab(message.action)

    def action_plots(self, name: str) -> None:
        """Do with the plots what the key called `name` means."""
        self.query_one(Curves).do(name)

    def on_curves_looked(self) -> None:
        """Say what is at the cursor."""
        self._show_legend()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only curves have plots."""
        return self.has_class("-curves") if action == "plots" else super().check_action(action, parameters)

    def on_option_list_option_selected(self, message: TextualOptionList.OptionSelected) -> None:
        """Show the images that the pair differs on."""
        message.stop()
        pair = self._pairs[message.option_index]
        by_name = {folder.name: folder for folder in self._folders}
        files = predictions_file(by_name[pair.run]), predictions_file(by_name[pair.other])
        if files[0] is not None and files[1] is not None:
            self.post_message(RunChosen(by_name[pair.run].path, Differing(files[0], files[1])))

    # -- the rest -------------------------------------------------------------------------------------------

    def copyable(self) -> str:
        """Return the command that prints this comparison; that watches the runs of others."""
        if self._watched is not None:
            return self._watched.command
        return " ".join(["finetui compare", *(folder.argument for folder in self._folders)])

    def action_back(self) -> None:
        """Show all plots again; where they are, go back to the list."""
        if self.has_class("-zoomed"):
            self.action_plots("zoom")
        else:
            self.dismiss(None)


def _options(pairs: Sequence[Pair]) -> list[Option]:
    """Return a line for each pair, with their counts below each other."""
    widths = [cell_len(pair.run) + cell_len(pair.other) for pair in pairs]
    return [_option(pair, " " * (max(widths) - width)) for pair, width in zip(pairs, widths, strict=True)]


def _option(pair: Pair, gap: str) -> Option:
    """Return the line of a pair, a `gap` behind its names; one that cannot be compared cannot be chosen."""
    names = Content.assemble(pair.run, (" and ", "$muted"), pair.other, gap)
    test = pair.test
    if test is None:
        return Option(Content.assemble(names, (f"  {pair.why_not}", "$warning")), disabled=True)
    counts = f"  only first correct {test.fixed:>6,}   only second correct {test.broken:>6,}   of {test.n:,}"
    return Option(Content.assemble(names, (counts, "$muted")))
