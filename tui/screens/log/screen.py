"""The Log screen: the whole journal, readable and searchable, and what the engine and its libraries printed."""

import asyncio
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Input, Static

from finetui.engine.errors import BadInput
from finetui.engine.runs.folder import RunFolder
from finetui.engine.text import clean
from finetui.tui.keys import KEYS, bind, bind_tabs
from finetui.tui.screens.base import Screen
from finetui.tui.screens.log.help import INTRODUCTION
from finetui.tui.screens.log.log_view import JournalView, LogView, OutputView
from finetui.tui.screens.status_bar import StatusBar
from finetui.tui.state.log_lines import LogLine, Undone, clock
from finetui.tui.state.run_log import MOST_LINES, JournalLines, OutputTail, after, of_session, put_between
from finetui.tui.state.store import Store
from finetui.tui.widgets.action_button import ActionButton
from finetui.tui.widgets.key_bar import KeyBar
from finetui.tui.widgets.styled_line import StyledLine

_POLL_SECONDS = 0.25
_OUTPUT_SECONDS = 0.5
_DAY = "%Y-%m-%d"


class _FilterInput(Input):
    BINDINGS: ClassVar[list[BindingType]] = [
        bind("confirm", "submit", label="Done"),
        bind("back", "clear", label="Clear"),
    ]

    def __init__(self) -> None:
        super().__init__(id="log-filter", compact=True, placeholder="/ filter", select_on_focus=False, max_length=200)
        self.cursor_blink = False

    def action_clear(self) -> None:
        """Take the filter away and go back to the lines."""
        self.value = ""
        self.post_message(self.Submitted(self, "", None))


class LogScreen(Screen[None]):
    """Shows the log of the run in `store`: its journal from the beginning, then what comes."""

    NAME = "log"
    TITLE_TEXT = "Log"
    INTRODUCTION = INTRODUCTION
    CSS_PATH = "screen.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]
    AUTO_FOCUS = ""  # `action_show` says where: Textual would let the filter be typed
    BINDINGS: ClassVar[list[BindingType]] = [
        bind("filter"),
        bind("warnings"),
        *bind_tabs("show('journal')", "show('output')"),
    ]

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store
        self._path: str | None = None  # of the run that is shown; empty before it has a folder
        self._lines: list[LogLine] = []  # of the journal, all of them
        self._last_seq = -1
        self._heard: tuple[LogLine, ...] = ()  # the store's log when it was looked at last
        self._journal: JournalLines | None = None
        self._reading = False
        self._problem = ""  # why the journal could not be read
        self._output: list[str] = []
        self._unfinished = ""  # its last line, as far as it goes
        self._output_problem = ""
        self._bad = 0  # warnings and errors among the lines
        self._only_bad = False
        self._filter = ""

    def compose(self) -> ComposeResult:
        """A line about the log, the two logs' names, the filter, and the lines."""
        yield StatusBar(self._store)
        yield StyledLine(id="log-title")
        with Horizontal(id="log-bar"):
            yield ActionButton("journal", "1", "Journal", id="tab-journal")
            yield ActionButton("output", "2", "Engine output", id="tab-output")
            yield ActionButton("warnings", KEYS["warnings"].shown, "All lines", id="tab-level")
            yield _FilterInput()
        yield JournalView(id="log-journal")
        yield OutputView(id="log-output")
        yield Static(id="log-message")
        yield KeyBar()

    def on_mount(self) -> None:
        """Show what there is, and look for more."""
        self.action_show("journal")
        self.set_interval(_POLL_SECONDS, self._poll)
        self._poll()

    def on_resize(self) -> None:
        """Lay the title out anew."""
        self.call_after_refresh(self._show_title)

    # -- the journal ----------------------------------------------------------------------------------------

    def _poll(self) -> None:
        """Take over what has come since the last time."""
        view = self._store.view
        path = "" if view.only_files else view.path
        if path != self._path:
            self._begin(path)
        if self._reading or view.log is self._heard:
            return
        before, self._heard = self._heard, view.log
        if not self._path:
            self._lines = list(view.log)
            self._show_all()
            return
        new = after(view.log, before[-1] if before else None)
        if new is None and not self._problem:
            self._read()  # more has come than the store keeps
        else:
            found = view.log if new is None else new
            self._add([line for line in found if line.seq < 0 or line.seq > self._last_seq])

    def _begin(self, path: str) -> None:
        """Show the run in the folder `path`, from its beginning."""
        self._path = path
        self._lines, self._last_seq, self._heard, self._problem = [], -1, (), ""
        self._output, self._unfinished, self._output_problem = [], "", ""
        self._journal = JournalLines(RunFolder(Path(path)).journal) if path else None
        self._reading = False
        self._follow_output()
        if path:
            self._read()

    def _read(self) -> None:
        """Read the journal; until that is done, what the store hears waits."""
        assert self._journal is not None, "a run with a folder has a journal"
        self._reading = True
        self._show_title()
        self._read_on(self._journal)

    @work(exclusive=True, group="journal")
    async def _read_on(self, journal: JournalLines) -> None:
        """Read in a thread, for it may be long; then go on with what the store has heard."""
        new: list[LogLine] = []
        try:
            new = await asyncio.to_thread(journal.read)
        except BadInput as error:
            self._problem = str(error)
        self._reading = False
        # What the dashboard itself said meanwhile is in no journal, and what was written last may not be read yet.
        self._heard = self._store.view.log
        own = of_session(self._heard)
        since = self._lines[-1].time if self._lines else new[0].time if new else 0.0
        put_between(new, [line for line in own if line.seq < 0 and line.time > since])
        self._last_seq = max(self._last_seq, journal.last_seq)
        self._lines += [*new, *(line for line in own if line.seq > self._last_seq)]
        self._show_all()

    def _add(self, lines: Sequence[LogLine]) -> None:
        """Add `lines` at the end."""
        if not lines:
            return
        self._lines += lines
        self._last_seq = max([self._last_seq, *(line.seq for line in lines)])
        width = self._view.head_width
        self._show_columns()
        if width != self._view.head_width or any(line.undoes >= 0 for line in lines):
            self._show_all()
        else:
            self._bad += sum(line.level != "info" for line in lines)
            self._view.extend([line for line in lines if self._fits(line)])
            self._show_title()

    @property
    def _view(self) -> JournalView:
        return self.query_one(JournalView)

    def _show_columns(self) -> None:
        """Show dates where it was not all today, and leave room for the steps."""
        ends = [line.time for line in (*self._lines[:1], *self._lines[-1:])]
        days = {clock(at, _DAY) for at in (*ends, time.time())}
        highest = max((line.step for line in self._lines[-1000:]), default=0)
        self._view.show_columns(dated=len(days) > 1, highest_step=highest)

    def _show_all(self) -> None:
        view = self._view
        view.undone = Undone(line for line in self._lines if line.undoes >= 0)
        self._bad = sum(line.level != "info" for line in self._lines)
        self._show_columns()
        view.show(filter(self._fits, self._lines), self._pattern)
        self._show_title()

    # -- the engine's output --------------------------------------------------------------------------------

    @work(exclusive=True, group="output")
    async def _follow_output(self) -> None:
        """Read what is printed, in a thread, for as long as somebody looks."""
        view = self.query_one(OutputView)
        view.show([])
        if not self._path:
            self._output_problem = "The engine's output is saved in the run's folder once training starts."
            self._show_title()
            return
        tail = OutputTail(RunFolder(Path(self._path)).log)
        while True:
            if self.has_class("-output"):
                try:
                    new = await asyncio.to_thread(tail.read)
                    self._output_problem = ""
                except BadInput as error:
                    new, self._output_problem = [], str(error)
                self._add_output(new, tail.unfinished)
            await asyncio.sleep(_OUTPUT_SECONDS)

    def _add_output(self, new: Sequence[str], unfinished: str) -> None:
        """Add the `new` whole lines, and show in place of the last `unfinished` one how far that is now."""
        if not new and unfinished == self._unfinished:
            self._show_title()
            return
        view = self.query_one(OutputView)
        if self._unfinished and self._fits(self._unfinished):
            view.drop_last()
        self._unfinished = unfinished
        self._output += new
        surplus = max(len(self._output) - MOST_LINES, 0)
        gone = sum(map(self._fits, self._output[:surplus]))
        del self._output[:surplus]
        view.extend([line for line in (*new, *self._last_output) if self._fits(line)])
        if gone:
            view.drop_first(gone)
        self._show_title()

    @property
    def _last_output(self) -> tuple[str, ...]:
        return (self._unfinished,) if self._unfinished else ()

    # -- choosing what is shown -----------------------------------------------------------------------------

    @property
    def _pattern(self) -> re.Pattern[str] | None:
        return re.compile(re.escape(self._filter), re.IGNORECASE) if self._filter else None

    def _fits(self, line: LogLine | str) -> bool:
        """Tell whether `line` is among what is to be shown."""
        text = line if isinstance(line, str) else line.text
        if self._only_bad and not isinstance(line, str) and line.level == "info":
            return False
        return not self._filter or self._filter.lower() in text.lower()

    def on_input_changed(self, message: Input.Changed) -> None:
        """Filter as it is typed."""
        message.stop()
        self._filter = message.value
        self._show_all()
        printed = (*self._output, *self._last_output)
        self.query_one(OutputView).show(filter(self._fits, printed), self._pattern)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Go back to the lines; the filter stays."""
        message.stop()
        self._shown_view.focus()

    def on_action_button_pressed(self, message: ActionButton.Pressed) -> None:
        """Do what the button says."""
        message.stop()
        if message.action == "warnings":
            self.action_warnings()
        else:
            self.action_show(message.action)

    def action_filter(self) -> None:
        """Let a filter be typed."""
        self.query_one(_FilterInput).focus()

    def action_warnings(self) -> None:
        """Show warnings and errors only, or everything again."""
        self._only_bad = not self._only_bad
        self._show_all()

    def action_show(self, log: str) -> None:
        """Show the log of this name."""
        for name in ("journal", "output"):
            self.set_class(name == log, f"-{name}")
            self.query_one(f"#tab-{name}").set_class(name == log, "-chosen")
        self.query_one("#tab-level").display = log == "journal"
        # What is only about to be shown cannot be focused yet.
        self.call_after_refresh(self._focus_shown, self._typing)
        self._show_title()
        self.refresh_bindings()

    @property
    def _typing(self) -> bool:
        return isinstance(self.focused, _FilterInput)

    def _focus_shown(self, was_typing: bool) -> None:
        """Focus the log that is shown, unless the filter has been gone to since: keys may be typed ahead."""
        if was_typing or not self._typing:
            self._shown_view.focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What was printed has no levels; where the filter is typed, its key is a character like others."""
        if action == "filter":
            return not self._typing
        if action == "warnings" and self.has_class("-output"):
            return False
        return super().check_action(action, parameters)

    @property
    def _shown_view(self) -> LogView[LogLine] | LogView[str]:
        return self.query_one(OutputView) if self.has_class("-output") else self._view

    # -- the title ------------------------------------------------------------------------------------------

    def on_log_view_followed(self, message: LogView.Followed) -> None:
        """Say whether the end is followed."""
        message.stop()
        self._show_title()

    def _show_title(self) -> None:
        if not self.stands:
            return
        is_output = self.has_class("-output")
        view = self._shown_view
        total = len(self._output) + len(self._last_output) if is_output else len(self._lines)
        shown = len(view.rows)
        counted = f"{shown:,} of {total:,} lines" if shown != total else f"{total:,} lines"
        bad = 0 if is_output else self._bad
        left = Content.assemble(
            (" Log", "bold $accent"),
            f"  {self._store.view.name or 'new run'}",
            (f"  ·  {counted}", "$muted"),
            (f"  ·  {bad:,} {'warnings and errors' if bad > 1 else 'warning or error'}" if bad else "", "$warning"),
            (f"  ·  incomplete: {self._problem}" if self._problem and total else "", "$error"),
        )
        right = Content.styled(
            "● follows " if view.following else "‖ end: follow ", "$success" if view.following else "$warning"
        )
        left = left.truncate(max(self.size.width - right.cell_length - 1, 0), ellipsis=True)
        gap = max(self.size.width - left.cell_length - right.cell_length, 1)
        self.query_one("#log-title", StyledLine).show(Content.assemble(left, " " * gap, right))
        level = self.query_one("#tab-level", ActionButton)
        level.set_class(self._only_bad, "-chosen")
        label = "Warnings only" if self._only_bad else "All lines"
        level.show("warnings", KEYS["warnings"].shown, label, available=True, pending=False)
        self._show_message()

    def _show_message(self) -> None:
        """Say why there is nothing to see, where there is nothing."""
        if self.has_class("-output"):
            nothing = self._output_problem or "The engine and its libraries have printed nothing."
        elif self._reading and not self._lines:
            nothing = "Reading the journal…"
        else:
            nothing = self._problem or "No events yet."
        if (self._output or self._unfinished) if self.has_class("-output") else self._lines:
            nothing = "" if self._shown_view.rows else "No matching lines. Esc clears the filter."
        if nothing and not self._typing:
            self.set_focus(None)  # what is hidden loses it: Textual would give it to the filter
        elif self.has_class("-message") and not nothing and self.focused is None:
            self.call_after_refresh(self._focus_shown, False)
        self.set_class(bool(nothing), "-message")
        self.query_one("#log-message", Static).update(Content(clean(nothing, 400)))

    # -- the rest -------------------------------------------------------------------------------------------

    def action_back(self) -> None:
        """Clear the filters; without any, go back to the screen below."""
        if self._filter or self._only_bad:
            self._only_bad = False
            self.query_one(_FilterInput).value = ""
            self._show_all()
        else:
            self.dismiss(None)
