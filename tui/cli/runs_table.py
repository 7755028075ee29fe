"""The table of `finetui runs`: its columns, what is in them, and which of them a width has room for."""

from collections.abc import Callable, Sequence

import msgspec
from rich.cells import cell_len, set_cell_size

from finetui.engine.errors import BadInput
from finetui.engine.predictions.interval import wilson
from finetui.engine.runs.summaries import RunSummary
from finetui.engine.text import meant
from finetui.tui.state.numbers import duration, scaled

_NONE = "-"
_GAP = 2
_LEAST_NOTE = 16  # cells: with less of it a note says nothing


class Column(msgspec.Struct, frozen=True):
    """A column; the lower its `rank`, the longer it stays on a terminal that becomes narrow (0: by request only)."""

    heading: str
    rank: int
    cell: Callable[[RunSummary], str]
    right: bool = False


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2%}"


def _best(run: RunSummary) -> str:
    return _NONE if run.best_accuracy is None else f"{run.best_accuracy:.2%} {run.part}"


def _interval(run: RunSummary) -> str:
    if run.accuracy is None or not run.evaluated_on:
        return _NONE
    low, high = wilson(run.accuracy, run.evaluated_on)
    return f"{100 * low:.2f}-{high:.2%}"


def _size(run: RunSummary) -> str:
    size, prefix = scaled(run.size)
    return f"{size} {prefix}B"


COLUMNS = {
    "name": Column("NAME", 1, lambda run: run.name),
    "state": Column("STATE", 2, lambda run: run.state),
    "best": Column("BEST ON", 3, _best, right=True),
    "epoch": Column("EPOCH", 4, lambda run: f"{run.epoch}/{run.epochs}", right=True),
    "lr": Column("LR", 5, lambda run: _NONE if run.lr is None else f"{run.lr:g}", right=True),
    "recipe": Column("RECIPE", 9, lambda run: run.recipe or _NONE),
    "model": Column("MODEL", 6, lambda run: run.model),
    "data": Column("DATA", 7, lambda run: run.data),
    "started": Column("STARTED", 8, lambda run: run.started[:16].replace("T", " ") or _NONE),
    "took": Column("TOOK", 10, lambda run: duration(run.took), right=True),
    "test": Column("TEST", 12, lambda run: _share(run.test_accuracy), right=True),
    "last": Column("LAST", 14, lambda run: _share(run.accuracy), right=True),
    "interval": Column("95% CI", 15, _interval, right=True),
    "step": Column("STEP", 16, lambda run: str(run.step), right=True),
    "optimizer": Column("OPTIMIZER", 0, lambda run: run.optimizer),
    "schedule": Column("SCHEDULE", 0, lambda run: run.schedule),
    "batch": Column("BATCH", 0, lambda run: str(run.batch_size), right=True),
    "seed": Column("SEED", 0, lambda run: str(run.seed), right=True),
    "size": Column("SIZE", 0, _size, right=True),
    "parent": Column("PARENT", 17, lambda run: run.parent or _NONE),
    "tag": Column("TAGS", 11, lambda run: " ".join(run.tags) or _NONE),
    "note": Column("NOTE", 13, lambda run: run.note or _NONE),
}


def chosen_columns(text: str) -> tuple[str, ...]:
    """Return the columns that `text` names, separated by commas or spaces; none for an empty one. Raises `BadInput`."""
    names = tuple(text.replace(",", " ").lower().split())
    if names == ("all",):
        return tuple(COLUMNS)
    for name in names:
        if name not in COLUMNS:
            raise BadInput(f"--columns: there is no column {name!r}; {meant(name, COLUMNS, 'there are, among others')}")
    return names


def rows_of(
    tree: Sequence[tuple[str, RunSummary]], wanted: Sequence[str], width: int | None
) -> tuple[list[list[str]], frozenset[int]]:
    """Return the rows of a table of `tree` (see `run_tree`), heading included, and which columns are right-aligned.

    Its columns are those `wanted`, else as many as `width` cells have room for (None: all), without those that say
    nothing of any run. Only a note is ever cut.
    """
    cells = {
        name: [column.heading, *((prefix if name == "name" else "") + column.cell(run) for prefix, run in tree)]
        for name, column in COLUMNS.items()
    }
    names = list(wanted) or _that_fit(cells, width)
    if width is not None and "note" in names:
        others = sum(_width(cells[name]) + _GAP for name in names if name != "note")
        room = max(width - others, _LEAST_NOTE)
        cells["note"] = [_cut(cell, room) for cell in cells["note"]]
    right = frozenset(at for at, name in enumerate(names) if COLUMNS[name].right)
    return [list(row) for row in zip(*(cells[name] for name in names), strict=True)], right


def _that_fit(cells: dict[str, list[str]], width: int | None) -> list[str]:
    telling = [name for name, rows in cells.items() if COLUMNS[name].rank and set(rows[1:]) != {_NONE}]
    if width is None:
        return telling
    room, chosen = width + _GAP, set[str]()
    for name in sorted(telling, key=lambda name: COLUMNS[name].rank):
        needed = min(_width(cells[name]), _LEAST_NOTE if name == "note" else width) + _GAP
        # What a run is called, and what became of it, is always there.
        if needed <= room or COLUMNS[name].rank <= 2:
            chosen.add(name)
            room -= needed
    return [name for name in telling if name in chosen]


def _width(cells: Sequence[str]) -> int:
    return max(map(cell_len, cells))


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"
