"""The two lines at the top of every screen, as a widget."""

import time
from collections.abc import Iterator
from typing import Any

from textual.app import App, ComposeResult
from textual.containers import Vertical

from finetui.tui.screens.status_lines import figures_line, run_line
from finetui.tui.state.store import Store
from finetui.tui.widgets.compound import Compound
from finetui.tui.widgets.styled_line import StyledLine

_SECONDS = 1.0  # between two looks


class StatusBar(Compound, Vertical):
    """Tells of the run in `store`, whatever screen one is on."""

    DEFAULT_CSS = """
    StatusBar { dock: top; height: 2; background: $surface; }
    """

    def __init__(self, store: Store, *, cue: str = "", by_itself: bool = True) -> None:
        """Look at the store by itself, or else only when told to; `cue` says how a run that is ready starts."""
        super().__init__(id="status-bar")
        self._store = store
        self._cue = cue
        self._by_itself = by_itself
        self._shown: object = None

    @classmethod
    def like_below(cls, app: App[Any]) -> "Iterator[StatusBar]":
        """Yield lines about the same run as those of the screen below, if it has any: for a box that covers these."""
        for screen in reversed(app.screen_stack):
            for below in screen.query(cls):
                yield cls(below._store)
                return

    def compose(self) -> ComposeResult:
        """The run, and its figures."""
        yield StyledLine(id="run-line")
        yield StyledLine(id="figures-line")

    def on_mount(self) -> None:
        """Show what is known, and look for more."""
        self.show()
        self.set_interval(_SECONDS, self._look)

    def on_resize(self) -> None:
        """Use the new width."""
        self.show()

    def _look(self) -> None:
        if not (self._by_itself or self._store.view.changed):
            return
        age = int(time.time()) if self._store.view.changed else 0  # of files that are watched: it is told
        known = (self._store.view, self._store.machine.latest, age)
        if self.app.screen is self.screen and known != self._shown:
            self._shown = known
            self.show()

    def show(self) -> None:
        """Bring both lines up to date."""
        width = self.app.size.width
        self.query_one("#run-line", StyledLine).show(run_line(self._store, width, self._cue))
        self.query_one("#figures-line", StyledLine).show(figures_line(self._store, width))
