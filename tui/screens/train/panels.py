"""Brings the widgets of the Train screen up to date, those that change all the time at a rate of their own."""

import time

from textual.screen import Screen

from finetui.tui.screens.status_bar import StatusBar
from finetui.tui.screens.train.banner import Banner
from finetui.tui.screens.train.controls import Controls
from finetui.tui.screens.train.layer_list import LayerList
from finetui.tui.screens.train.log_panel import LogPanel
from finetui.tui.screens.train.per_class_table import PerClassTable
from finetui.tui.screens.train.plots import Plots
from finetui.tui.screens.train.refresh import RefreshRate
from finetui.tui.screens.train.settings_panel import SettingsPanel
from finetui.tui.screens.train.titles import Titles
from finetui.tui.state.store import Store
from finetui.tui.state.view import View

_PLOT_SECONDS = 0.75
_RATE_SECONDS = 1.0  # a learning rate that a schedule moves at every step
# What a train point changes: that is for the lines at the top, the plots and the learning rate's field alone.
_MOVES = {"point", "step", "epoch", "learning_rate", "speed", "phase"}
_STAYS = [name for name in View.__struct_fields__ if name not in _MOVES]


class Panels:
    """Draws what `store` knows on `screen`; `behind` tells whether what is shown is older than that."""

    def __init__(self, screen: Screen[None], store: Store) -> None:
        self.behind = False
        self._screen = screen
        self._store = store
        self._shown: View | None = None
        self._titles = Titles(screen)
        self._refresh_rate = RefreshRate()
        self._plots_at = self._rate_at = 0.0

    def due(self, *, unheard: bool) -> bool:
        """Whether it is time to show what is not shown yet, which is more than the store knows if some is `unheard`."""
        calm = self._shown is not None and self._shown.state == "running"
        return (unheard or (self.behind and not self._covered)) and (not calm or self._refresh_rate.due())

    @property
    def _covered(self) -> bool:
        return self._screen.app.screen is not self._screen

    def show(self) -> None:
        """Draw what has changed, as far as it is time for it."""
        view = self._store.view
        if view is self._shown and not (self.behind and self._refresh_rate.due()):
            return
        if self._covered and self._shown is not None and view.state == self._shown.state:
            # What shines through below a dialog would be sent whole for each cell of it that changes.
            self.behind = True
            return
        find = self._screen.query_one
        now = time.monotonic()
        before, self._shown = self._shown, view
        calm = before is not None and view.state == before.state == "running"
        due = not calm or self._refresh_rate.due()
        if due:
            self._refresh_rate.drawn()
            self.show_lines()
        evaluated = before is None or view.evaluation is not before.evaluation
        # Together with the numbers: each frame costs more than what is in it.
        plots = evaluated or (due and (not calm or now - self._plots_at >= self._refresh_rate.stretched(_PLOT_SECONDS)))
        if plots:
            self._plots_at = now
            find(Plots).show(self._store)
        self.behind = not (due and plots)
        controls = ("state", "pending", "rate_factor")
        steered = before is None or any(getattr(view, name) != getattr(before, name) for name in controls)
        if steered or not calm or now - self._rate_at >= _RATE_SECONDS:
            self._rate_at = now
            find(Controls).show(view)
        if before is not None and all(getattr(view, name) is getattr(before, name) for name in _STAYS):
            return
        find(Banner).show(view)
        find(LayerList).show(view)
        find(SettingsPanel).show_view(view)
        self._titles.show(view)
        find(PerClassTable).show(view)
        find(LogPanel).show(view.log)

    def hurry(self) -> None:
        """Have what is known by now be drawn at the next look, whatever the rate."""
        self._refresh_rate.hurry()
        self._plots_at, self.behind = 0.0, True

    def resized(self) -> None:
        """Use the new width of the screen."""
        self.show_lines()
        self._titles.show(self._store.view)

    def show_lines(self) -> None:
        """Draw the lines at the top."""
        self._screen.query_one(StatusBar).show()
