"""The Runs screen: all runs of a folder, filtered, ordered, marked, tagged, renamed, deleted, opened, compared."""

import asyncio
from pathlib import Path
from typing import ClassVar

import msgspec
from textual import events, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input, Static

from finetui.engine.errors import BadInput
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.run_fields import FIELDS, NUMERIC
from finetui.engine.runs.run_filter import parse_filter
from finetui.engine.runs.runs_reader import reader_of
from finetui.engine.runs.summaries import RunSummary
from finetui.engine.sources.watched_runs import WatchedRuns
from finetui.engine.text import clean
from finetui.tui.keys import bind
from finetui.tui.screens.base import Screen
from finetui.tui.screens.run_chosen import RunChosen
from finetui.tui.screens.runs.filter_input import FilterInput
from finetui.tui.screens.runs.help import RUNS
from finetui.tui.screens.runs.housekeeping import Housekeeping
from finetui.tui.screens.runs.preview import Preview
from finetui.tui.screens.runs.run_list import GUTTER, RunList, padded
from finetui.tui.screens.status_bar import StatusBar
from finetui.tui.state.run_columns import COLUMNS, GAP, RunTable
from finetui.tui.state.run_query import RunQuery, arrange, best_of_each
from finetui.tui.state.store import Store
from finetui.tui.widgets.key_bar import KeyBar
from finetui.tui.widgets.styled_line import StyledLine

_POLL_SECONDS = 2.0
_FEWEST, _MOST = 2, 8  # runs that are compared
_CHANGES = ("tag", "note", "rename", "delete")


class RunsScreen(Screen[None]):
    """Lists the runs in a folder, or those of others that are watched, above a dashboard on the run in `store`."""

    NAME = "runs"
    TITLE_TEXT = "Runs"
    INTRODUCTION = RUNS
    CSS_PATH = "screen.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (140, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall"), (44, "-high")]
    BINDINGS: ClassVar[list[BindingType]] = [
        bind("toggle", "mark", label="Mark"),
        bind("filter"),
        bind("compare"),
        bind("tag"),
        bind("note"),
        bind("order"),
        bind("rename"),
        bind("delete"),
        bind("reverse"),
    ]

    def __init__(self, store: Store, runs: Path | WatchedRuns) -> None:
        """Take the folder of finetui's own runs, or what is watched."""
        super().__init__()
        self._store = store
        self._place = clean(str(runs if isinstance(runs, Path) else runs.title))
        self._reader = reader_of(runs) if isinstance(runs, Path) else runs
        self._watched = None if isinstance(runs, Path) else runs
        self._runs: list[RunSummary] = []
        self._query = RunQuery()
        self._marked: set[str] = set()
        self._looks = False
        self._said = "Reading the runs…"
        self._reasons: tuple[str, ...] = ()  # why keys cannot be used
        self._housekeeping = Housekeeping(self, store, watched=self._watched is not None)

    def compose(self) -> ComposeResult:
        """A title, the filter, the list below its heading, and what is known of the run under the cursor."""
        if self._watched is None or self._store.view.name:  # else no run is shown below
            yield StatusBar(self._store)
        yield StyledLine(id="runs-title")
        with Horizontal(id="runs-bar"):
            yield FilterInput("runs-filter", "/ filter: lr>0.01 model:resnet18 best>98% tag:keep")
        yield Static(id="runs-problem")
        with Horizontal(id="runs-body"):
            with Vertical(id="runs-main"):
                yield StyledLine(id="runs-heading")
                yield RunList()
                yield Static(self._said, id="runs-message")
            yield Preview(self._watched)
        yield KeyBar()

    def on_mount(self) -> None:
        """Read the runs, and look again now and then."""
        self.set_focus(self.run_list)
        self.add_class("-message")
        self.set_interval(_POLL_SECONDS, self._poll)
        self.look()

    @property
    def run_list(self) -> RunList:
        """The list of runs."""
        return self.query_one(RunList)

    # -- what is listed -------------------------------------------------------------------------------------

    def _poll(self) -> None:
        if self.is_current:
            self.look()

    def look(self) -> None:
        """Read what has changed, in a thread; one look at a time."""
        if not self._looks:
            self._looks = True
            self._look()

    @work(group="look", exit_on_error=False)
    async def _look(self) -> None:
        reader = self._reader
        before = self._runs
        try:
            self._runs = await asyncio.to_thread(reader.read, self._tell_progress)
        except BadInput as error:
            self._say(str(error))
            return
        finally:
            self._looks = False
        if self._said or self._runs != before:
            await self._arranged()

    def _tell_progress(self, done: int, total: int) -> None:
        """Say how far the first look is; called in its thread."""
        if done % 50 == 0 and not self._runs and self.stands:
            self.app.call_from_thread(self._say, f"Reading the runs… {done} of {total}")

    @work(group="arrange", exclusive=True, exit_on_error=False)
    async def _arrange(self) -> None:
        await self._arranged()

    async def _arranged(self) -> None:
        """Show the runs that are known by now, as they are asked for by now."""
        runs, query = self._runs, self._query
        table, best = await asyncio.to_thread(lambda: (arrange(runs, query), best_of_each(runs)))
        if self.stands and query is self._query:
            self._show(table, best)

    def _show(self, table: RunTable, best: frozenset[str]) -> None:
        self._marked &= {run.path for run in self._runs}
        if not self._runs:
            self._say(f"No runs yet in {self._place}.")
        elif not table.runs:
            self._say("No matching runs. Esc clears the filter.")
        else:
            self._say("")
        self.run_list.show_table(table, self._marked, best)
        self._show_title()
        self._refresh_keys()

    def _say(self, text: str) -> None:
        if text == self._said or not self.stands:
            return
        self._said = text
        self.set_class(bool(text), "-message")
        self.query_one("#runs-message", Static).update(Content(text))
        if not text and self.focused is None:
            self.call_after_refresh(self.run_list.focus)  # what is hidden cannot keep the focus

    def _show_title(self) -> None:
        shown, live = self.run_list.count, sum(run.live for run in self._runs)
        counted = f"{shown} of {len(self._runs)}" if shown != len(self._runs) else str(shown)
        self.query_one("#runs-title", StyledLine).show(
            Content.assemble(
                (" Runs", "bold $accent"),
                f"  {counted}",
                (f"  ·  {live} live" if live else "", "$success"),
                (f"  ·  {len(self._marked)} marked" if self._marked else "", "$accent"),
                (f"  ·  by {self._query.order}" if self._query.order else "", "$muted"),
                (f"  ·  {self._place}", "$muted"),
                *((f"  ·  {clean(note)}", "$warning") for note in (self._watched.notes if self._watched else ())),
            )
        )

    def on_run_list_laid(self) -> None:
        """Put the headings above their columns."""
        parts: list[str | tuple[str, str]] = [" " * GUTTER]
        for name, cells in self.run_list.columns.items():
            ordered = name == self._query.order
            text = COLUMNS[name].heading
            if ordered:
                text = f"{text[: cells - 1]}{'↓' if self._falls() else '↑'}"
            parts += [(padded(text, name, cells), "$accent" if ordered else ""), " " * GAP]
        self.query_one("#runs-heading", StyledLine).show(Content.assemble(*parts[:-1]))

    def _falls(self) -> bool:
        kind = FIELDS[self._query.order].kind
        return (kind in NUMERIC or kind == "date") != self._query.reverse

    def on_run_list_highlighted(self) -> None:
        """Show what is known of the run under the cursor, and what can be done with it."""
        self._refresh_keys()
        if self.has_class("-wide"):
            self.query_one(Preview).show(self.run_list.run, self._runs)

    def on_resize(self) -> None:
        """Tell of the run under the cursor where there has come to be room."""
        self.call_after_refresh(self.on_run_list_highlighted)

    # -- filter and order -----------------------------------------------------------------------------------

    def action_filter(self) -> None:
        """Let a filter be typed."""
        self.set_focus(self.query_one(FilterInput))  # at once: what is typed next belongs there

    def on_input_changed(self, message: Input.Changed) -> None:
        """Filter as it is typed; what is wrong with it is said, and what was listed stays."""
        message.stop()
        try:
            parse_filter(message.value)
        except BadInput as error:
            self._complain(str(error))
            return
        self._complain("")
        if not _begins_a_field(message.value):
            self._ask(msgspec.structs.replace(self._query, filter=message.value))

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Filter by all that was typed, unless something is wrong with it, and go back to the list."""
        message.stop()
        if not self.has_class("-problem"):
            self._ask(msgspec.structs.replace(self._query, filter=message.value))
        self.set_focus(self.run_list)

    def _complain(self, text: str) -> None:
        self.set_class(bool(text), "-problem")
        self.query_one("#runs-problem", Static).update(Content(text))

    def _ask(self, query: RunQuery) -> None:
        if query != self._query:
            self._query = query
            self.on_run_list_laid()
            self._arrange()

    def action_order(self) -> None:
        """Order by the next column that is shown; after the last, as a tree again."""
        orders = ["", *(name for name in self.run_list.columns if name in FIELDS)]
        at = orders.index(self._query.order) if self._query.order in orders else 0
        self._ask(RunQuery(self._query.filter, orders[(at + 1) % len(orders)]))

    def action_reverse(self) -> None:
        """Turn the order round."""
        self._ask(msgspec.structs.replace(self._query, reverse=not self._query.reverse))

    def on_click(self, event: events.Click) -> None:
        """Order by the column whose heading is clicked; clicked again, turn the order round."""
        heading = self.query_one("#runs-heading")
        if event.widget is not heading:
            return
        start = GUTTER
        for name, cells in self.run_list.columns.items():
            if start <= event.screen_x - heading.region.x < start + cells + GAP and name in FIELDS:
                same = name == self._query.order
                self._ask(RunQuery(self._query.filter, name, same and not self._query.reverse))
            start += cells + GAP

    # -- what is done with runs -----------------------------------------------------------------------------

    def chosen(self) -> list[RunSummary]:
        """Return the marked runs; where none is marked, the one under the cursor."""
        marked = [run for run in self._runs if run.path in self._marked]
        run = self.run_list.run
        return marked or ([] if run is None else [run])

    def action_mark(self) -> None:
        """Mark the run under the cursor, or not any more."""
        run = self.run_list.run
        if run is not None:
            self._marked ^= {run.path}
            self._marks_changed()

    def _marks_changed(self) -> None:
        self.run_list.repaint()
        self._show_title()
        self._refresh_keys()

    def on_run_list_chosen(self) -> None:
        """Show the run; the one that this dashboard is on is below."""
        run = self.run_list.run
        if run is not None and run.path == self._store.view.path:
            self.dismiss(None)
        elif run is not None:
            self.post_message(RunChosen(Path(run.path)))

    def copyable(self) -> str:
        """Return the command that opens the run under the cursor; empty where there is none."""
        if self._watched is not None:
            return self._watched.command
        run = self.run_list.run if self.query(RunList) else None
        if run is None:
            return ""
        return f"finetui {'attach' if run.live else 'open'} {RunFolder(Path(run.path)).argument}"

    def action_tag(self) -> None:
        """Ask for the tags of the chosen runs."""
        self._housekeeping.tag(self.chosen())

    def action_note(self) -> None:
        """Ask for a note on the run under the cursor."""
        if (run := self.run_list.run) is not None:
            self._housekeeping.note(run)

    def action_rename(self) -> None:
        """Ask for another name of the run under the cursor."""
        if (run := self.run_list.run) is not None:
            self._housekeeping.rename(run)

    def action_delete(self) -> None:
        """Delete the chosen runs, after a question."""
        self._housekeeping.delete(self.chosen())

    def _compared(self) -> set[str]:
        """Return the paths of the runs that are meant: those that are marked; of one, also that under the cursor."""
        run = self.run_list.run
        with_cursor = len(self._marked) == 1 and run is not None
        return self._marked | ({run.path} if with_cursor and run is not None else set())

    def why_not(self, action: str, parameters: tuple[object, ...]) -> str:
        """Runs of others, and those that are in use, are left as they are; a comparison takes some runs."""
        if not self.query(RunList):
            return ""  # all is still put together
        if action == "compare" and not _FEWEST <= (count := len(self._compared())) <= _MOST:
            how = f"{count} {'is' if count == 1 else 'are'} marked" if count else "mark them with space"
            return f"comparing takes {_FEWEST} to {_MOST} runs: {how}"
        if action in _CHANGES:
            return self._housekeeping.why_not(action, self.run_list.run, self.chosen())
        return super().why_not(action, parameters)

    def _refresh_keys(self) -> None:
        """Show which keys can be used now, where that is another."""
        reasons = tuple(self.why_not(action, ()) for action in ("compare", *_CHANGES))
        if reasons != self._reasons:
            self._reasons = reasons
            self.refresh_bindings()

    def action_compare(self) -> None:
        """Show the marked runs side by side; with one marked, that one beside the one under the cursor."""
        from finetui.tui.screens.runs.compared.screen import ComparedScreen  # with plots, it takes a while to import

        paths = self._compared()
        self.app.push_screen(
            ComparedScreen(self._store, [one for one in self._runs if one.path in paths], self._watched)
        )

    # -- the rest -------------------------------------------------------------------------------------------

    def action_back(self) -> None:
        """Clear the filter; without one, the marks; without any, go back to the screen below."""
        field = self.query_one(FilterInput)
        if field.value:
            field.value = ""
            self.set_focus(self.run_list)
        elif self._marked:
            self._marked.clear()
            self._marks_changed()
        else:
            self.dismiss(None)


def _begins_a_field(text: str) -> bool:
    """Tell whether the last word of a filter may become the name of a field: nobody means it as a word yet."""
    word = text.rpartition(" ")[2].lower().removeprefix("-")
    return bool(word) and any(name.startswith(word) for name in FIELDS)
