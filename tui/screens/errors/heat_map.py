"""A confusion matrix as a heat map, of any number of classes: only what is in sight is drawn."""

import math
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from textual import events
from textual.binding import BindingType
from textual.content import Content
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from finetui.tui.colours.palettes import RIGHT_STEPS, WRONG_STEPS
from finetui.tui.keys import bind, move
from finetui.tui.widgets.styled_line import line_strip

_LONGEST_NAME = 16
_WIDEST_CELL = 11
_HEAD = 2  # lines: which way round it is, and the classes


class HeatMap(Widget, can_focus=True):
    """Shows `confusion`, int64 `[true, predicted]`; the cursor may also stand on a heading (-1), for a whole class."""

    DEFAULT_CSS = """
    HeatMap { width: 1fr; height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        move("left", "move(0, -1)"),
        move("right", "move(0, 1)"),
        move("up", "move(-1, 0)"),
        move("down", "move(1, 0)"),
        move("pageup", "move(-10, 0)"),
        move("pagedown", "move(10, 0)"),
        move("home", "move(0, -100000)"),
        move("end", "move(0, 100000)"),
        bind("confirm", "choose", label="Images"),
    ]

    class Moved(Message):
        """The cursor is at another cell now."""

    class Chosen(Message):
        """Somebody wants the images of class `true` taken for `predicted`; -1 stands for all."""

        def __init__(self, true: int, predicted: int) -> None:
            super().__init__()
            self.true = true
            self.predicted = predicted

    def __init__(
        self, confusion: npt.NDArray[np.int64], classes: tuple[str, ...], at: tuple[int, int] = (0, 0)
    ) -> None:
        """Put the cursor on the cell `at`."""
        super().__init__()
        self._confusion = confusion
        self._labels = classes
        self._sizes = np.maximum(confusion.sum(1), 1)
        off = confusion.copy()
        np.fill_diagonal(off, 0)
        self._most_wrong = max(int(off.max(initial=0)), 1)
        self.normalised = False
        self.cursor = at
        self._first = (0, 0)  # row and column that are in sight first
        self._names = max(4, min(_LONGEST_NAME, max((Content(name).cell_length for name in classes), default=0)))

    @property
    def _cell(self) -> int:
        """Width of a cell: a number and a space, and where there is room as much as the longest name and more."""
        least = 5 if self.normalised else max(len(f"{int(self._confusion.max(initial=0)):,}"), 3) + 1
        room = (self.size.width - self._names - 1) // max(len(self._labels), 1)
        return min(max(least, room), max(_WIDEST_CELL, least))

    @property
    def _high(self) -> int:
        """Height of a cell: two to four lines where all of them fit, so that it looks like a map."""
        room = (self.size.height - _HEAD) // max(len(self._labels), 1)
        return min(max(room, 1), 4)

    @property
    def _room(self) -> tuple[int, int]:
        """Rows and columns that fit."""
        rows = (self.size.height - _HEAD) // self._high
        return max(rows, 1), max((self.size.width - self._names - 1) // self._cell, 1)

    @property
    def _start(self) -> tuple[int, int]:
        """Row and column that are in sight first: no room is left empty, whatever the size was when they were set."""
        row, column = (min(at, max(len(self._labels) - of, 0)) for at, of in zip(self._first, self._room, strict=True))
        return row, column

    def switch(self) -> None:
        """Show shares of the true class instead of counts, or the other way round."""
        self.normalised = not self.normalised
        self._keep_in_sight()
        self.refresh()

    def move_to(self, row: int, column: int) -> None:
        """Put the cursor on a cell, or as near as there is one."""
        last = len(self._labels) - 1
        row, column = min(max(row, -1), last), min(max(column, -1), last)
        if (row, column) == (-1, -1) or (row, column) == self.cursor:
            return
        self.cursor = (row, column)
        self._keep_in_sight()
        self.refresh()
        self.post_message(self.Moved())

    def _keep_in_sight(self) -> None:
        first = []
        for place, start, room in zip(self.cursor, self._first, self._room, strict=True):
            start = min(start, max(place, 0), max(len(self._labels) - room, 0))
            first.append(max(start, place - room + 1, 0))
        self._first = (first[0], first[1])

    def on_resize(self) -> None:
        """Keep the cursor in sight."""
        self._keep_in_sight()

    def on_focus(self) -> None:
        """Show the cursor."""
        self.refresh()

    def on_blur(self) -> None:
        """Hide the cursor."""
        self.refresh()

    def action_move(self, down: int, right: int) -> None:
        """Move the cursor."""
        self.move_to(self.cursor[0] + down, self.cursor[1] + right)

    def action_choose(self) -> None:
        """Ask for the images of the cell."""
        self.post_message(self.Chosen(*self.cursor))

    def on_click(self, event: events.Click) -> None:
        """Put the cursor on a cell; a click on the cursor chooses it."""
        event.stop()
        self.focus()
        column = (event.x - self._names - 1) // self._cell + self._start[1] if event.x > self._names else -1
        row = (event.y - _HEAD) // self._high + self._start[0] if event.y >= _HEAD else -1
        if max(row, column) >= len(self._labels):
            return
        if (row, column) == self.cursor:
            self.action_choose()
        self.move_to(row, column)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Show later rows, or with shift later columns."""
        self._scroll(event, 3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Show earlier rows, or with shift earlier columns."""
        self._scroll(event, -3)

    def _scroll(self, event: events.MouseEvent, by: int) -> None:
        event.stop()
        count, room = len(self._labels), self._room
        row, column = self._start
        if event.shift:
            column = min(max(column + by, 0), max(count - room[1], 0))
        else:
            row = min(max(row + by, 0), max(count - room[0], 0))
        self._first = (row, column)
        self.refresh()

    # -- rendering ------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """Render the heading, or one row."""
        width = self.size.width
        first = self._start[1]
        columns = range(first, min(first + self._room[1], len(self._labels)))
        row, line = divmod(y - _HEAD, self._high)
        row += self._start[0]
        middle = line == self._high // 2
        if y == 0:
            # The heading of a narrow column is cut, and here it is whole.
            whole = self._labels[self.cursor[1]] if self.cursor[1] >= 0 and self._labels else ""
            parts = [Content.styled("true ↓".ljust(self._names + 1) + " predicted → ", "$muted"), Content(whole)]
        elif y < _HEAD:
            parts = [Content(" " * (self._names + 1)), *(self._heading(column) for column in columns)]
        elif row < len(self._labels):
            name = Content(self._labels[row] if middle else "").truncate(self._names, ellipsis=True, pad=True)
            cells = (self._number(row, column, shown=middle) for column in columns)
            parts = [self._marked(name, (row, -1)) if middle else name, Content(" "), *cells]
        else:
            parts = []
        return line_strip(self, Content("").join(parts), width)

    def _heading(self, column: int) -> Content:
        room = self._cell - 1
        name = Content(self._labels[column]).truncate(room, ellipsis=True)
        left = (self._cell - name.cell_length + 1) // 2 if self._high > 1 else self._cell - name.cell_length
        right = " " * (self._cell - left - name.cell_length)
        return Content.assemble(" " * left, self._marked(name.stylize("bold"), (-1, column)), right)

    def _placed(self, text: str) -> str:
        """Return `text` at the right of a cell, as numbers below each other stand, or in the middle of a high one."""
        if self._high == 1:
            return text.rjust(self._cell)
        return text.rjust((self._cell + len(text) + 1) // 2).ljust(self._cell)

    def _marked(self, content: Content, place: tuple[int, int]) -> Content:
        return content.stylize("reverse") if place == self.cursor and self.has_focus else content

    def _number(self, row: int, column: int, *, shown: bool) -> Content:
        """Return a line of a cell: bare where nothing happened, shaded by how often it did; with its number if so."""
        count = int(self._confusion[row, column])
        share = count / int(self._sizes[row])
        percent = f"{share:.0%}" if share >= 0.005 else "<1%"
        text = (percent if self.normalised else f"{count:,}") if count else "·"
        content = Content(self._placed(text if shown else ""))
        if (row, column) == self.cursor and self.has_focus:
            return content.stylize("reverse")
        if not count:
            return content.stylize("$frame")
        if row == column:
            return content.stylize(_step("right", share, RIGHT_STEPS))
        # By the logarithm: one mistake among a thousand images is to be seen beside a hundred.
        weight = math.log1p(count) / math.log1p(self._most_wrong)
        return content.stylize(f"bold {_step('wrong', weight, WRONG_STEPS)}")


def _step(name: str, share: float, steps: int) -> str:
    """Return the style of a share of 1, of which `name` has so many."""
    step = min(int(share * steps), steps - 1) + 1
    return f"$on-{name}-{step} on ${name}-{step}"
