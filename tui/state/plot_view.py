"""How the plots of a run are looked at: the x axis, what part of it, where the cursor is, how much is smoothed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from finetui.tui.state.run_curves import X_UNITS, XUnit

SMOOTHINGS = (0.0, 0.6, 0.9, 0.97, 0.99, 0.997, 0.999)
_CLOSEST = 1e-3  # of all that there is: the least that can be shown
_LEAST_WIDTH, _LEAST_HEIGHT = 38, 9  # of a plot beside others
_ONE_BELOW = 96  # cells: in a narrower place there is one plot, with tabs
_SHAPE = 4.5  # width to height, in cells, that a plot had best

Window = tuple[float, float | None]


@dataclass(frozen=True)
class PlotView:
    """A look at the plots; `cursor` and `window` are in `unit`, a window without an end goes on with the run."""

    unit: XUnit = "epoch"
    smoothing: float = 0.9
    cursor: float | None = None
    window: Window | None = None

    def smoother(self, by: int) -> "PlotView":
        """Return one that smooths more (`by` 1) or less (-1)."""
        place = SMOOTHINGS.index(self.smoothing) + by
        return replace(self, smoothing=SMOOTHINGS[min(max(place, 0), len(SMOOTHINGS) - 1)])

    def next_unit(self, units: Sequence[XUnit] = X_UNITS) -> XUnit:
        """Return the one of `units` after this one."""
        return units[(units.index(self.unit) + 1) % len(units)] if self.unit in units else units[0]

    def zoomed(self, last: float, direction: int, at: float | None = None) -> "PlotView":
        """Return one that shows half as much (`direction` 1) or twice as much (-1), of 0 to `last`.

        What is at `at`, or else at the cursor, stays where it is; without both the end does.
        """
        low, high = self._shown(last)
        factor = 0.5 if direction > 0 else 2.0
        centre = self.cursor if at is None else at
        if high - low <= 0 or (direction > 0 and high - low < _CLOSEST * last):
            return self
        if centre is None or not low <= centre <= high:
            return self._clipped(high - (high - low) * factor, high, last)
        return self._clipped(centre - (centre - low) * factor, centre + (high - centre) * factor, last)

    def panned(self, last: float, share: float) -> "PlotView":
        """Return one that shows what lies a `share` of the window further to the right, as far as there is anything."""
        if self.window is None:
            return self
        low, high = self._shown(last)
        shift = min(max(share * (high - low), -low), last - high)
        return self._clipped(low + shift, high + shift, last)

    def _shown(self, last: float) -> tuple[float, float]:
        low, high = self.window or (0.0, None)
        return low, last if high is None else high

    def _clipped(self, low: float, high: float, last: float) -> "PlotView":
        low, end = max(low, 0.0), None if high >= last * (1 - 1e-9) else high
        return replace(self, window=None if low == 0 and end is None else (low, end))


def grid(width: int, height: int, count: int) -> tuple[int, int]:
    """Return the columns and rows in which up to `count` plots are best shown in so many cells; (1, 1): one of them."""
    if width < _ONE_BELOW or height < _LEAST_HEIGHT:
        return 1, 1
    most_rows, most_columns = height // _LEAST_HEIGHT, width // _LEAST_WIDTH
    shown = min(count, most_rows * most_columns)
    shapes = [(math.ceil(shown / rows), rows) for rows in range(1, most_rows + 1) if rows <= shown]
    fitting = [(columns, rows) for columns, rows in shapes if columns <= most_columns and columns * (rows - 1) < shown]
    return min(fitting, key=lambda shape: abs(math.log(width / shape[0] * shape[1] / height / _SHAPE)))
