"""The picture of a plot: characters and whose they are, and the part of it with the axes."""

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len
from textual.geometry import Region

from finetui.tui.widgets import plot_geometry
from finetui.tui.widgets.plot_geometry import Range

MOST_SERIES = 8
# Who owns a cell; the mean of series n (from 0) is SERIES + n, what lies around that BAND + n.
BLANK, TITLE, AXIS, MARK, SERIES = 0, 1, 2, 3, 4
BAND = SERIES + MOST_SERIES


class Picture:
    """A grid of characters and of who owns each, `[height, width]`; what does not fit is cut off."""

    def __init__(self, width: int, height: int) -> None:
        self.chars: plot_geometry.Chars = np.full((height, width), " ", dtype="<U1")
        self.owners: npt.NDArray[np.uint8] = np.zeros((height, width), dtype=np.uint8)

    @property
    def size(self) -> tuple[int, int]:
        """The width and height in cells."""
        height, width = self.chars.shape
        return width, height

    def put(self, column: int, row: int, text: str, owner: int) -> int:
        """Write `text` and return the column after it; the second cell of a wide character holds no character."""
        width, height = self.size
        if text.isascii() and text.isprintable():  # much faster than one by one, and nearly every text
            text = text[: max(width - column, 0)] if 0 <= row < height else ""
            self.chars[row : row + 1, column : column + len(text)] = list(text)
            self.owners[row : row + 1, column : column + len(text)] = owner
            return column + len(text)
        for char in text:
            cells = cell_len(char)
            if not char.isprintable() or not cells:
                continue
            if not (0 <= row < height and 0 <= column <= width - cells):
                break
            self.chars[row, column] = char
            self.chars[row, column + 1 : column + cells] = ""
            self.owners[row, column : column + cells] = owner
            column += cells
        return column

    def fill(self, columns: slice, rows: slice, char: str, owner: int) -> None:
        """Fill a part with one character, one cell wide."""
        self.chars[rows, columns] = char
        self.owners[rows, columns] = owner

    def changed(self, old: "Picture") -> list[Region]:
        """Return for each row that differs from an `old` picture of the same size the region that does."""
        differs = (self.chars != old.chars) | (self.owners != old.owners)
        regions = []
        for row in np.flatnonzero(differs.any(axis=1)).tolist():
            columns = np.flatnonzero(differs[row])
            regions.append(Region(int(columns[0]), row, int(columns[-1] - columns[0]) + 1, 1))
        return regions

    def runs(self, row: int) -> list[tuple[str, int]]:
        """Return the row as pieces of text, each with its owner."""
        owners = self.owners[row]
        edges = [0, *(np.flatnonzero(np.diff(owners)) + 1).tolist(), len(owners)]
        chars = self.chars[row].tolist()
        return [
            ("".join(chars[start:end]), int(owners[start])) for start, end in itertools.pairwise(edges) if end > start
        ]


class Frame:
    """The part of a picture with the axes: a canvas of `rows` below the title, from column `left` on."""

    def __init__(self, picture: Picture, left: int, rows: int, x_axis: Range, y_axis: Range) -> None:
        self._picture = picture
        self._left = left
        self.rows = rows
        self.columns = picture.size[0] - left
        self.x_axis = x_axis
        self.y_axis = y_axis

    def _column(self, x: float) -> int:
        dot = int(self.x_axis.dots(np.array([x]), self.columns * plot_geometry.DOTS_ACROSS)[0])
        return self._left + dot // plot_geometry.DOTS_ACROSS

    def draw_y_axis(self, ticks: Sequence[tuple[float, str]]) -> None:
        """Draw the axis with its labels, right-aligned."""
        put = self._picture.put
        self._picture.fill(slice(self._left - 1, self._left), slice(1, self.rows + 1), "│", AXIS)
        for value, label in ticks:
            dot = int(self.y_axis.dots(np.array([value]), self.rows * plot_geometry.DOTS_DOWN)[0])
            row = self.rows - dot // plot_geometry.DOTS_DOWN
            put(0, row, label.rjust(self._left - 2), AXIS)
            put(self._left - 1, row, "┤", AXIS)

    def draw_x_axis(self, label: str, *, own_row: bool) -> None:
        """Draw the labels below the canvas, each centred below its value; with `own_row`, a line above them."""
        put, width = self._picture.put, self._picture.size[0]
        row = self.rows + 1 + own_row
        if own_row:
            self._picture.fill(slice(self._left, None), slice(row - 1, row), "─", AXIS)
            put(self._left - 1, row - 1, "└", AXIS)
        free = put(0, row, label, AXIS) + 1
        for tick, label in plot_geometry.x_ticks(self.x_axis, self.columns):
            column = self._column(tick)
            start = min(max(column - (len(label) - 1) // 2, free), width - len(label))
            free = put(start, row, label, AXIS) + 1
            if own_row:
                put(column, row - 1, "┬", AXIS)

    def draw_marks(self, marks: Sequence[float]) -> None:
        """Draw a vertical line at each of `marks` that is in range."""
        for mark in marks:
            if self.x_axis.low <= mark <= self.x_axis.high:
                column = self._column(mark)
                self._picture.fill(slice(column, column + 1), slice(1, self.rows + 1), "┊", MARK)

    def draw_canvas(self, chars: plot_geometry.Chars, owner: int) -> None:
        """Lay a curve over what is there; of curves that share a cell all dots stay."""
        window = np.s_[1 : self.rows + 1, self._left :]
        below, owners, drawn = self._picture.chars[window], self._picture.owners[window], chars != " "
        shared = drawn & (owners >= SERIES) & (owners < BAND) if owner < BAND else np.zeros_like(drawn)
        both = plot_geometry.merged(below[shared], chars[shared])
        np.copyto(below, chars, where=drawn)
        below[shared] = both
        owners[drawn] = owner

    def draw_points(self, cells: Sequence[tuple[int, int]], glyph: str, owner: int) -> None:
        """Draw a glyph in each of `cells` of the canvas."""
        for column, row in cells:
            self._picture.put(self._left + column, 1 + row, glyph, owner)

    def draw_note(self, text: str) -> None:
        """Write a note in the middle of the canvas."""
        column = self._left + max(self.columns - len(text), 0) // 2
        self._picture.put(column, 1 + (self.rows - 1) // 2, text, AXIS)
