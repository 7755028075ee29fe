"""What an evaluation amounts to: its scores, a reliability diagram, and every class against the rest."""

import asyncio
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from finetui.engine.predictions.file import Predictions
from finetui.engine.predictions.metrics import Scores, scores_of
from finetui.tui.keys import bind
from finetui.tui.screens.base import ModalScreen
from finetui.tui.screens.status_bar import StatusBar
from finetui.tui.state.scores import HEADING, NAME_WIDTH, class_rows, diagram, facts
from finetui.tui.widgets.key_bar import KeyBar
from finetui.tui.widgets.lines_view import LinesView

_LABEL, _NUMBERS = 13, (8, 10, 8, 8, 8, 8, 8)  # cells
_DIAGRAM = 70
_MOST_LAID_OUT = 100  # classes; more of them are drawn only where they are in sight


class _ClassRows(LinesView[list[str]]):
    def content_of(self, row: list[str], width: int) -> Content:
        """Return the row's label and numbers."""
        return _line(row).truncate(width)


class ScoresScreen(ModalScreen[None]):
    """Shows the scores of `found`. It is there before they are: keys pressed meanwhile are its own."""

    TITLE_TEXT = "Scores"
    INTRODUCTION = "The evaluation in numbers: overall scores, calibration, and scores per class."
    CSS_PATH = "scores.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (158, "-roomy")]
    BINDINGS: ClassVar[list[BindingType]] = [
        bind("close", show=False),
        bind("scores", "close", show=False),
    ]

    def __init__(self, found: Predictions) -> None:
        super().__init__()
        self._found = found

    def compose(self) -> ComposeResult:
        """The facts beside the diagram where there is room, and a row for each class below."""
        yield from StatusBar.like_below(self.app)
        with VerticalScroll(id="box"):
            yield Static(Content.styled("Scores", "bold $accent"))
            with Horizontal(id="columns"):
                yield Static(Content.styled("Computing…", "$muted"), id="facts")
                yield Static(id="diagram")
            yield Static(id="rows")
            yield _ClassRows(id="many-rows")
        yield KeyBar()

    def on_mount(self) -> None:
        """Let the keys scroll, and begin."""
        self.query_one("#box").focus()
        self.query_one(_ClassRows).display = False
        self._compute()

    @work
    async def _compute(self) -> None:
        scores = await asyncio.to_thread(scores_of, self._found)  # the longer, the more images and classes there are
        if not self.stands:
            return
        self.query_one("#facts", Static).update(self._facts(scores))
        self.query_one("#diagram", Static).update(_diagram(scores))
        many = len(scores.per_class) > _MOST_LAID_OUT
        lines = [_line(HEADING).stylize("$muted"), *map(_line, () if many else class_rows(scores))]
        self.query_one("#rows", Static).update(Content("\n").join(lines))
        if many:
            rows = self.query_one(_ClassRows)
            rows.display = True
            rows.show(list(class_rows(scores)))

    def _facts(self, scores: Scores) -> Content:
        told = facts(scores, self._found.origin.part, self._found.origin.temperature)
        return Content("\n").join(Content.assemble((f"{name:<{NAME_WIDTH}}", "$muted"), words) for name, words in told)


def _diagram(scores: Scores) -> Content:
    bins = [found for found in scores.calibration if found.count]
    head, *lines = diagram(bins, _DIAGRAM)
    return Content("\n").join([Content.styled(head, "$muted"), *map(Content, lines)])


def _line(cells: tuple[str, ...] | list[str]) -> Content:
    """Return a label and its numbers in columns."""
    label, *numbers = cells
    name = Content(label).truncate(_LABEL, ellipsis=True, pad=True)
    return Content.assemble(name, "".join(number.rjust(width) for number, width in zip(numbers, _NUMBERS, strict=True)))
