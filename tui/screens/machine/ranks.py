"""The ranks that train a run together, a row each: where their time goes, and which one the others wait for."""

import time
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content

from finetui.engine.protocol.events import JobFound, RanksSeen
from finetui.engine.protocol.ranks import RankRow, slowest
from finetui.tui.keys import move
from finetui.tui.state.machine import share
from finetui.tui.state.numbers import clock, duration, gigabytes, percent, size_in_gigabytes
from finetui.tui.state.view import View
from finetui.tui.widgets.compound import Compound
from finetui.tui.widgets.fitting import Part, fitting
from finetui.tui.widgets.lines_view import LinesView
from finetui.tui.widgets.styled_line import StyledLine

_SILENT = 30.0  # seconds without a sign of life that are shown in the colour of a warning
_NEARLY_FULL = 0.95
_LONGEST = 24  # cells of a name
_GAP = 2
_MOST_HEIGHT = 0.35  # of the screen: the machine's own figures stay in sight


class _Column(NamedTuple):
    """A column: its title and cell, what is missed least (the highest) goes where there is no room."""

    title: str
    cell: Callable[[RankRow], Content]
    rank: int
    left: bool = False


class Table(NamedTuple):
    """Rows as they are shown: their columns with the width of each, and which rank the others wait for."""

    columns: tuple[tuple[_Column, int], ...]
    slow: RankRow | None

    def heading(self) -> Content:
        """Return the titles of the columns."""
        return Content.styled(self._joined([Content(column.title) for column, _ in self.columns]).plain, "$muted")

    def line(self, row: RankRow) -> Content:
        """Return the line of `row`."""
        cells = [column.cell(row) for column, _ in self.columns]
        slow = self.slow is not None and row.rank == self.slow.rank
        line = self._joined(cells)
        return Content.assemble(line.stylize("bold"), ("  slowest", "bold $warning")) if slow else line

    def _joined(self, cells: Sequence[Content]) -> Content:
        padded = []
        for cell, (column, width) in zip(cells, self.columns, strict=True):
            space = " " * max(width - cell.cell_length, 0)
            padded.append(Content.assemble(cell, space) if column.left else Content.assemble(space, cell))
        return Content.assemble(" ", Content(" " * _GAP).join(padded))


def table(seen: RanksSeen, width: int, older: float | None) -> Table:
    """Lay the ranks out in `width` cells; what was `seen` is `older` seconds old (None: nothing is to be heard)."""
    several = len({row.node for row in seen.rows}) > 1
    columns = [
        _Column("rank", lambda row: Content(str(row.rank)), 0),
        _Column("node", lambda row: _name(row.node), 2 if several else 8, left=True),
        _Column("device", lambda row: _name(row.device), 9, left=True),
        _Column("step", lambda row: Content(f"{row.step:,}"), 3),
        _Column("img/s", lambda row: Content(_count(row.samples_per_second)), 4),
        _Column("waiting", lambda row: Content(percent(row.waiting)), 1),
        _Column("computing", lambda row: Content(percent(row.computing)), 1),
        _Column("communicating", lambda row: Content(percent(row.communicating)), 1),
        _Column("memory", _memory, 5),
        _Column("heartbeat", lambda row: _heard(seen, row, older), 6),
    ]
    slow = slowest(seen.rows)
    room = width - 2 - (len("  slowest") if slow is not None else 0)
    sized = [(column, _width(column, seen.rows)) for column in columns]
    while len(sized) > 1 and sum(size + _GAP for _, size in sized) - _GAP > room:
        sized.remove(max(reversed(sized), key=lambda one: one[0].rank))
    return Table(tuple(sized), slow)


def _width(column: _Column, rows: Sequence[RankRow]) -> int:
    return max(len(column.title), *(column.cell(row).cell_length for row in rows))


def _name(text: str) -> Content:
    return Content(text).truncate(_LONGEST, ellipsis=True) if cell_len(text) > _LONGEST else Content(text)


def _count(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"


def _memory(row: RankRow) -> Content:
    if row.memory is None:
        return Content.styled("–", "$muted")
    total = f"/{size_in_gigabytes(row.memory_total)}" if row.memory_total else ""
    full = (share(row.memory, row.memory_total) or 0.0) >= _NEARLY_FULL
    return Content.styled(f"{gigabytes(row.memory)}{total} GB", "$warning" if full else "")


def _heard(seen: RanksSeen, row: RankRow, older: float | None) -> Content:
    if older is None:
        return Content.styled("–", "$muted")
    silent = max(seen.time - row.heard, 0.0) + older
    return Content.styled(f"{duration(silent)} ago", "$warning" if silent >= _SILENT else "$muted")


def summary(seen: RanksSeen, job: JobFound | None, now: float, width: int) -> Content:
    """Return what there is to say of all ranks in a line; `now` is the time in Unix seconds."""
    nodes = len({row.node for row in seen.rows})
    left_out = f", showing the slowest {len(seen.rows) - 1} and the first" if seen.world > len(seen.rows) else ""
    where = f" on {nodes} nodes" if nodes > 1 else ""
    parts = [Part(Content.assemble((f"{seen.world:,} ranks", "bold"), (f"{where}{left_out}", "$muted")), 0)]
    if seen.differs:
        parts.append(Part(Content.styled(f"weights differ: {seen.differs}", "bold $error"), 0))
    elif seen.alike >= 0:
        parts.append(Part(Content.styled(f"same weights at step {seen.alike:,}", "$success"), 2))
    if job is not None and job.ends:
        left = max(job.ends - now, 0.0)
        parts.append(Part(Content.assemble((f"{job.system} job {job.id} ends in ", "$muted"), clock(left)), 1))
    if job is not None and job.restarts:
        parts.append(Part(Content.styled(f"restarted {job.restarts}×", "$warning"), 3))
    return Content.assemble(" ", fitting(parts, width - 2, "  ·  "))


class _Rows(LinesView[RankRow]):
    BINDINGS: ClassVar[list[BindingType]] = [
        move("up,k", "scroll_up"),
        move("down,j", "scroll_down"),
        move("pageup", "page_up"),
        move("pagedown", "page_down"),
        move("home", "scroll_home"),
        move("end", "scroll_end"),
    ]
    table: Table | None = None

    def content_of(self, row: RankRow, width: int) -> Content:
        return self.table.line(row) if self.table is not None else Content("")


class RanksPanel(Compound, Vertical):
    """Shows the ranks of a run that has several; hides itself for any other."""

    DEFAULT_CSS = """
    RanksPanel {
        height: auto;
        display: none;
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: RanksSeen | None = None
        self._arrived = 0.0

    def compose(self) -> ComposeResult:
        """All ranks in a line, the titles, and a line for each."""
        yield StyledLine(id="ranks-summary")
        yield StyledLine(id="ranks-heading")
        yield _Rows(id="ranks-rows")

    def show(self, view: View) -> None:
        """Show the ranks that train what `view` tells of."""
        seen = view.ranks
        self.display = seen is not None and seen.world > 1
        if seen is None or not self.display:
            return
        if seen is not self._seen:
            self._seen, self._arrived = seen, time.monotonic()
        width = self.app.size.width
        running = view.state == "running"
        shown = table(seen, width, time.monotonic() - self._arrived if running else None)
        self.query_one("#ranks-summary", StyledLine).show(summary(seen, view.job, time.time(), width))
        self.query_one("#ranks-heading", StyledLine).show(shown.heading())
        rows = self.query_one(_Rows)
        rows.table = shown
        rows.styles.height = min(len(seen.rows), max(int(_MOST_HEIGHT * self.app.size.height), 2))
        rows.can_focus = len(seen.rows) > rows.size.height > 0  # else there is nothing to scroll to
        rows.show(seen.rows)
        rows.repaint()
