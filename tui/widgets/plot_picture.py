"""The picture of a plot: characters and whose they are, and the frame with the axes around its canvas."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len
from textual.geometry import Region

from finetui.tui.widgets import plot_geometry
from finetui.tui.widgets.plot_axes import DOTS_ACROSS, DOTS_DOWN, Range, Ticks, x_ticks

# Who owns a cell; the line of series n (from 0) is SERIES + n, what lies around that BAND + n.
BLANK, TITLE, AXIS, MARK, CURSOR, BEST, KEY, BORDER, SERIES, BAND = 0, 1, 2, 3, 4, 5, 6, 7, 8, 16
MOST_SERIES = BAND - SERIES

Piece = tuple[str, int]  # of a text: what it says, and who owns it


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

    def copy(self) -> "Picture":
        """Return a picture of its own that looks the same."""
        other = Picture(0, 0)
        other.chars, other.owners = self.chars.copy(), self.owners.copy()
        return other

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


def _codes(chars: plot_geometry.Chars) -> npt.NDArray[np.uint32]:
    return np.ascontiguousarray(chars).view(np.uint32)


class Frame:
    """The axes around a canvas of `rows` and `columns`, whose left edge is the column `left` of the picture.

    The frame's lower edge is the x axis; its upper edge is for the title.
    """

    def __init__(self, picture: Picture, left: int, x_axis: Range, y_axis: Range) -> None:
        width, height = picture.size
        self._picture = picture
        self.left = left
        self.rows, self.columns = height - 2, width - 1 - left
        self.x_axis = x_axis
        self.y_axis = y_axis

    def column(self, x: float) -> int:
        """Return the column of the picture in which `x` lies, also where that is outside the canvas."""
        dot = int(self.x_axis.dots(np.array([x]), self.columns * DOTS_ACROSS)[0])
        return self.left + dot // DOTS_ACROSS

    def x_at(self, column: int) -> float:
        """Return the x in the middle of a column of the picture, or at the nearer end of the axis."""
        share = min(max((column - self.left + 0.5) / self.columns, 0.0), 1.0)
        low, high = self.x_axis.low, self.x_axis.high
        return float(low * (high / low) ** share) if self.x_axis.log else low + share * (high - low)

    def draw_border(self) -> None:
        """Draw the four edges."""
        fill, put = self._picture.fill, self._picture.put
        width, height = self._picture.size
        for row, ends in ((0, "╭╮"), (height - 1, "╰╯")):
            fill(slice(1, -1), slice(row, row + 1), "─", BORDER)
            put(0, row, ends[0], BORDER)
            put(width - 1, row, ends[1], BORDER)
        for column in (0, width - 1):
            fill(slice(column, column + 1), slice(1, height - 1), "│", BORDER)

    def draw_y_axis(self, ticks: Ticks) -> None:
        """Draw the labels, right-aligned."""
        for value, label in ticks:
            dot = int(self.y_axis.dots(np.array([value]), self.rows * DOTS_DOWN)[0])
            row = self.rows - dot // DOTS_DOWN
            self._picture.put(1, row, label.rjust(self.left - 2), AXIS)
            self._picture.put(self.left - 1, row, "╶", AXIS)

    def draw_x_axis(self, label: str, cursor: float | None = None) -> None:
        """Draw the labels in the lower edge, each below its value, in front of them that of the cursor.

        The name of the axis stands at the left, close to the corner where the first label needs the room.
        """
        put, row, corner = self._picture.put, self.rows + 1, self._picture.size[0] - 1
        name = f" {label} " if len(label) + 3 <= self.left else f"{label} "
        here = range(0)
        if cursor is not None and self._shows(cursor):
            step = self.x_at(self.left + 1) - self.x_at(self.left)  # as exactly as a column is
            text = f" {cursor:.{min(max(-math.floor(math.log10(step)), 0), 6)}f} "
            start = min(max(self.column(cursor) - len(text) // 2, 1), corner + 1 - len(text))
            here = range(start, put(start, row, text[: corner - start], CURSOR))
        if len(name) < here.start or not here:
            put(1, row, name, AXIS)
        for _, text, place in x_ticks(self.x_axis, self.columns, len(name) + 1 - self.left):
            start = self.left + place - 1
            if start >= here.stop or start + len(text) + 2 <= here.start:
                put(start, row, f" {text} "[: corner - start], AXIS)

    def _shows(self, x: float) -> bool:
        return self.x_axis.low <= x <= self.x_axis.high

    def draw_marks(self, marks: Sequence[tuple[float, str]]) -> None:
        """Draw a vertical line at each of `marks` that is in range."""
        for x, _ in marks:
            if self._shows(x):
                column = self.column(x)
                self._picture.fill(slice(column, column + 1), slice(1, self.rows + 1), "┊", MARK)

    def draw_labels(self, marks: Sequence[tuple[float, str]]) -> None:
        """Write beside each mark what it is, in the highest row where no curve is; nothing where there is none."""
        for x, text in marks:
            width = cell_len(text)
            after = self.column(x) + 1
            if not text or not self._shows(x):
                continue
            for start in (after, after - 1 - width):  # to the right of its line, else to the left
                row = next((row for row in range(1, self.rows + 1) if self._is_free(start, row, width)), 0)
                if row:
                    self._picture.put(start, row, text, AXIS)
                    break

    def _is_free(self, column: int, row: int, width: int) -> bool:
        if column < self.left or column + width > self.left + self.columns:
            return False
        owners = self._picture.owners[row, max(column - 1, self.left) : column + width + 1]
        chars = self._picture.chars[row, column : column + width]
        return bool(((owners == BLANK) | (owners == MARK) | (owners == BORDER)).all() and (chars != "┊").all())

    def draw_cursor(self, x: float) -> None:
        """Draw a vertical line at `x`, behind the curves."""
        if self._shows(x):
            column, window = self.column(x), slice(1, self.rows + 1)
            owners = self._picture.owners[window, column]
            free = (owners == BLANK) | (owners == MARK) | (owners >= BAND)  # no text, no curve
            self._picture.chars[window, column][free] = "│"
            owners[free] = CURSOR

    def draw_canvas(self, chars: plot_geometry.Chars, owner: int) -> None:
        """Lay a curve, or a band, over what is there; a curve in front is not broken by those behind it.

        In a cell that two curves share both keep their dots, in the colour of the one in front: hidden, a curve would
        seem to end there. Bands are hidden.
        """
        window = np.s_[1 : self.rows + 1, self.left : self.left + self.columns]
        there, owners = self._picture.chars[window], self._picture.owners[window]
        drawn = chars != " "
        shared = drawn & (owners >= SERIES) & (owners < BAND) if SERIES <= owner < BAND else None
        if shared is not None and shared.any():
            both = _codes(there[shared]) | _codes(chars[shared])  # dots are bits above U+2800
            chars = chars.copy()
            chars[shared] = both.view("<U1")
        np.copyto(there, chars, where=drawn)
        owners[drawn] = owner

    def draw_points(self, cells: Sequence[tuple[int, int]], glyph: str, owner: int) -> None:
        """Draw a glyph in each of `cells` of the canvas."""
        for column, row in cells:
            self._picture.put(self.left + column, 1 + row, glyph, owner)

    def draw_note(self, text: str, *, lowest: bool = False) -> None:
        """Write a note in the middle of the canvas, or in its lowest row, where no curve is."""
        if lowest:
            places = (self.left, *range(self.left + self.columns - len(text), self.left, -1))
            column, row = next((place for place in places if self._is_free(place, self.rows, len(text))), -1), self.rows
        else:
            column, row = self.left + max(self.columns - len(text), 0) // 2, 1 + (self.rows - 1) // 2
        if column >= 0:
            self._picture.put(column, row, text[: self.columns], AXIS)
