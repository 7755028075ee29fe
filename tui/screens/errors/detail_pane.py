"""The detail pane: one image as large as fits, and everything that is known about its prediction."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from finetui.tui.widgets.compound import Compound
from finetui.tui.widgets.picture import Picture

_PICTURE = 14  # lines that are left to it, while there is more text than fits
_LEAST_LINES = 3


class _Words(Static):
    def on_resize(self) -> None:
        """Lay the text out for the new width."""
        assert isinstance(self.parent, DetailPane)
        self.parent.show_lines()


class DetailPane(Compound, Vertical):
    """Shows an image, and below or beside it lines of text, which are laid out anew for another width."""

    DEFAULT_CSS = """
    DetailPane {
        Picture { height: 1fr; min-height: 4; }
        #detail-text { width: 1fr; height: auto; margin-top: 1; }

        &.-beside { layout: horizontal; }
        &.-beside #detail-text { width: 40; height: 1fr; margin: 0 0 0 2; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._lines: Callable[[int], list[Content]] = lambda _width: []
        self._words = Content("")

    def compose(self) -> ComposeResult:
        """The image, and the text."""
        yield Picture()
        yield _Words(id="detail-text")

    def show(
        self,
        image: npt.NDArray[np.uint8] | None,
        overlay: npt.NDArray[np.float32] | None,
        note: str,
        lines: Callable[[int], list[Content]],
    ) -> None:
        """Show `image`, or why there is none; `lines(width)` returns the text in so many cells, the first ones first.

        The last lines are left out where they would leave the image less than `_PICTURE` lines.
        """
        self.query_one(Picture).show(image, overlay=overlay, note=note)
        self._lines = lines
        self.show_lines()

    def on_resize(self) -> None:
        """Lay the text out for the new height."""
        self.show_lines()

    def show_lines(self) -> None:
        """Lay the text out for the room that there is."""
        text = self.query_one("#detail-text", Static)
        width = text.size.width
        if width <= 0:
            return
        height = self.content_size.height
        room = height if self.has_class("-beside") else max(height - _PICTURE - text.styles.margin.top, _LEAST_LINES)
        words = Content("\n").join(self._lines(width)[:room])
        if not words.is_same(self._words):  # or the whole screen would be laid out at each look for an image
            self._words = words
            text.update(words)
