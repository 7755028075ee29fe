"""Runs as a table: its columns, what is in them, and which of them a width has room for."""

from collections.abc import Callable, Sequence

import msgspec
from rich.cells import cell_len, set_cell_size

from finetui.engine.predictions.interval import wilson
from finetui.engine.runs.run_fields import FIELDS
from finetui.engine.runs.summaries import RunSummary
from finetui.tui.state.numbers import duration, in_bytes

NONE = "-"
GAP = 2  # cells between two columns
LEAST_NOTE = 16  # cells: with less of it a note says nothing


class Column(msgspec.Struct, frozen=True):
    """A column; the lower its `rank`, the longer it stays on a terminal that becomes narrow (0: by request only)."""

    heading: str
    rank: int
    cell: Callable[[RunSummary], str]
    right: bool = False


def _share(value: float | None) -> str:
    return NONE if value is None else f"{value:.2%}"


def _best(run: RunSummary) -> str:
    return NONE if run.best_accuracy is None else f"{run.best_accuracy:.2%} {run.part}"


def _interval(run: RunSummary) -> str:
    if run.accuracy is None or not run.evaluated_on:
        return NONE
    low, high = wilson(run.accuracy, run.evaluated_on)
    return f"{100 * low:.2f}-{high:.2%}"


def _text(run: RunSummary, field: str) -> str:
    return str(FIELDS[field].of(run) or NONE)


def _epoch(run: RunSummary) -> str:
    """Return the epoch, of how many; what somebody else's loop does not tell is left out."""
    if not run.epochs:
        return str(run.epoch) if run.epoch else NONE
    return f"{run.epoch}/{run.epochs}"


COLUMNS = {
    "name": Column("name", 1, lambda run: run.name),
    "state": Column("state", 2, lambda run: run.state),
    "best": Column("best on", 3, _best, right=True),
    "epoch": Column("epoch", 4, _epoch, right=True),
    "lr": Column("LR", 5, lambda run: NONE if run.lr is None else f"{run.lr:g}", right=True),
    "recipe": Column("recipe", 9, lambda run: run.recipe or NONE),
    "model": Column("model", 6, lambda run: run.model or NONE),
    "data": Column("data", 7, lambda run: run.data),
    "started": Column("started", 8, lambda run: run.started[:16].replace("T", " ") or NONE),
    "took": Column("took", 10, lambda run: duration(run.took) if run.took or run.started else "", right=True),
    "test": Column("test", 12, lambda run: _share(run.test_accuracy), right=True),
    "last": Column("last", 14, lambda run: _share(run.accuracy), right=True),
    "interval": Column("95% CI", 15, _interval, right=True),
    "step": Column("step", 16, lambda run: str(run.step), right=True),
    "optimizer": Column("optimizer", 0, lambda run: run.optimizer or NONE),
    "schedule": Column("schedule", 0, lambda run: run.schedule or NONE),
    "batch": Column("batch", 0, lambda run: str(run.batch_size or NONE), right=True),
    "seed": Column("seed", 0, lambda run: str(run.seed), right=True),
    "size": Column("size", 0, lambda run: in_bytes(run.size), right=True),
    "parent": Column("parent", 17, lambda run: run.parent or NONE),
    "commit": Column("commit", 0, lambda run: _text(run, "commit")),
    "command": Column("command", 0, lambda run: _text(run, "command")),
    "tag": Column("tags", 11, lambda run: " ".join(run.tags) or NONE),
    "note": Column("note", 13, lambda run: run.note or NONE),
}


class RunTable:
    """What the columns say of runs, as a tree: a list of texts for each, and the cells that the longest of it takes."""

    def __init__(self, tree: Sequence[tuple[str, RunSummary]]) -> None:
        """Take runs with what is drawn before their names (see `run_tree`)."""
        self.runs = [run for _, run in tree]
        self.cells = {
            name: [(prefix if name == "name" else "") + column.cell(run) for prefix, run in tree]
            for name, column in COLUMNS.items()
        }
        self.widths = {name: max(map(cell_len, (COLUMNS[name].heading, *cells))) for name, cells in self.cells.items()}
        self.telling = [name for name, cells in self.cells.items() if COLUMNS[name].rank and set(cells) != {NONE}]

    def fitting(self, width: int | None, longest_name: int | None = None, last: str | None = None) -> list[str]:
        """Return the columns that say something of any run, as many as `width` cells have room for (None: all).

        Names are cut to `longest_name` cells, if that is given; none comes that has less rank than the column `last`.
        """
        if width is None:
            return self.telling
        room, chosen = width + GAP, set[str]()
        most = {"note": LEAST_NOTE, "name": longest_name or width}
        for name in sorted(self.telling, key=lambda name: COLUMNS[name].rank):
            if last is not None and COLUMNS[name].rank > COLUMNS[last].rank:
                break
            needed = min(self.widths[name], most.get(name, width)) + GAP
            # What a run is called, and what became of it, is always there.
            if needed <= room or COLUMNS[name].rank <= 2:
                chosen.add(name)
                room -= needed
        return [name for name in self.telling if name in chosen]

    def laid_out(self, names: Sequence[str], width: int, longest_name: int | None = None) -> dict[str, int]:
        """Return how many of `width` cells each of the columns `names` gets; a note takes all that is left."""
        found = {name: self.widths[name] for name in names}
        if longest_name is not None and "name" in found:
            found["name"] = min(found["name"], longest_name)
        if "note" in found:
            others = sum(cells + GAP for name, cells in found.items() if name != "note")
            found["note"] = max(width - others, LEAST_NOTE)
        return found


def cut(text: str, width: int) -> str:
    """Return as much of `text` as `width` cells hold."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"
