"""The confusion matrix and the most confused pairs: which classes are taken for which."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static
from textual.widgets.option_list import Option

from finetui.engine.predictions.selection import Pair, most_confused
from finetui.engine.protocol.values import Part
from finetui.tui.keys import bind, move
from finetui.tui.screens.base import ModalScreen
from finetui.tui.screens.errors.heat_map import HeatMap
from finetui.tui.screens.status_bar import StatusBar
from finetui.tui.widgets.key_bar import KeyBar
from finetui.tui.widgets.option_list import ImagePairs

_MOST_PAIRS = 200
_COUNT, _SHARE = 6, 7  # cells


class ConfusionScreen(ModalScreen[tuple[int, int] | None]):
    """Shows `confusion`, int64 `[true, predicted]`; is dismissed with a cell, in which -1 stands for all classes."""

    TITLE_TEXT = "Confusion matrix"
    INTRODUCTION = "Rows are true classes, columns predicted classes. Enter lists a cell's images."
    CSS_PATH = "confusion.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-roomy")]
    BINDINGS: ClassVar[list[BindingType]] = [
        bind("close", show=False),
        bind("confusion", "close", show=False),
        bind("counts"),
        move("tab", "other", "Matrix or pairs", show=True, priority=True),
    ]

    def __init__(
        self,
        confusion: npt.NDArray[np.int64],
        classes: tuple[str, ...],
        part: Part = "test",
        *,
        at: tuple[int, int] | None = None,
    ) -> None:
        """Say that the images are those of `part`, and begin `at` a cell, by default at the most confused pair."""
        super().__init__()
        self._confusion = confusion
        self._labels = classes
        self._part = part
        self._pairs = most_confused(confusion)
        self._at = at or ((self._pairs[0].true, self._pairs[0].predicted) if self._pairs else (0, 0))

    def compose(self) -> ComposeResult:
        """The matrix beside the pairs, and a line about the cell under the cursor."""
        yield from StatusBar.like_below(self.app)
        with Vertical(id="box"):
            total, right = int(self._confusion.sum()), int(np.trace(self._confusion))
            yield Static(
                Content.assemble(
                    ("Confusion matrix", "bold $accent"),
                    f"  {total - right:,} of {total:,} {self._part} images wrong",
                ),
                id="title",
            )
            with Horizontal(id="columns"):
                yield HeatMap(self._confusion, self._labels, self._at)
                with Vertical(id="most"):
                    yield Static(Content.styled(f"{'images':>{_COUNT}}{'share':>{_SHARE}}  true → predicted", "$muted"))
                    options = (self._option(pair) for pair in self._pairs[:_MOST_PAIRS])
                    yield ImagePairs(*options, id="pairs", compact=True)
            yield Static(id="words")
        yield KeyBar()

    def _option(self, pair: Pair) -> Option:
        true, predicted = self._labels[pair.true], self._labels[pair.predicted]
        share = pair.count / max(int(self._confusion[pair.true].sum()), 1)
        figures = (f"{pair.count:>{_COUNT},}", "bold"), (f"{share:>{_SHARE}.1%}", "$muted")
        return Option(Content.assemble(*figures, f"  {true}", (" → ", "$muted"), (predicted, "$error")))

    def on_mount(self) -> None:
        """Begin in the matrix."""
        self.query_one(HeatMap).focus()
        self._describe()

    def on_heat_map_moved(self) -> None:
        """Say what the cell is."""
        self._describe()

    def _describe(self) -> None:
        row, column = self.query_one(HeatMap).cursor
        names = self._labels
        if row < 0:
            count = int(self._confusion[:, column].sum())
            words = f"{count:,} predicted as {names[column]}, {int(self._confusion[column, column]):,} of them correct"
        elif column < 0:
            size, hits = int(self._confusion[row].sum()), int(self._confusion[row, row])
            words = f"{names[row]}: {hits:,} of {size:,} correct ({hits / max(size, 1):.1%})"
        else:
            count, size = int(self._confusion[row, column]), int(self._confusion[row].sum())
            share = f"({count / max(size, 1):.1%})"
            if row == column:
                words = f"{names[row]}: {count:,} of {size:,} correct {share}"
            else:
                words = f"{count:,} of {size:,}: {names[row]} predicted as {names[column]} {share}"
        self.query_one("#words", Static).update(Content(words))

    def action_counts(self) -> None:
        """Show shares instead of counts, or the other way round."""
        self.query_one(HeatMap).switch()

    def action_other(self) -> None:
        """Go from the matrix to the pairs, or back."""
        pairs = self.query_one(ImagePairs)
        to_pairs = not pairs.has_focus
        self.set_class(to_pairs, "-pairs")
        if to_pairs and self._pairs:
            pairs.highlighted = pairs.highlighted or 0
            self.call_after_refresh(pairs.focus)
        else:
            self.call_after_refresh(self.query_one(HeatMap).focus)

    def on_heat_map_chosen(self, message: HeatMap.Chosen) -> None:
        """List the images of the cell."""
        message.stop()
        self.dismiss((message.true, message.predicted))

    def on_option_list_option_selected(self, message: ImagePairs.OptionSelected) -> None:
        """List the images of the pair."""
        message.stop()
        pair = self._pairs[message.option_index]
        self.dismiss((pair.true, pair.predicted))
