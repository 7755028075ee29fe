"""The detail pane: one image as large as fits, and everything that is known about its prediction."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from finetui.tui.widgets.picture import Picture


class DetailPane(Vertical):
    """Shows an image and lines of text, which are laid out anew for another width."""

    DEFAULT_CSS = """
    DetailPane {
        Picture { height: 1fr; min-height: 4; }
        #detail-text { height: auto; margin-top: 1; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._lines: Callable[[int], list[Content]] = lambda _width: []

    def compose(self) -> ComposeResult:
        """The image above the text."""
        yield Picture()
        yield Static(id="detail-text")

    def show(
        self,
        image: npt.NDArray[np.uint8] | None,
        overlay: npt.NDArray[np.float32] | None,
        note: str,
        lines: Callable[[int], list[Content]],
    ) -> None:
        """Show `image`, or why there is none; `lines(width)` returns the text in so many cells."""
        self.query_one(Picture).show(image, overlay=overlay, note=note)
        self._lines = lines
        self._show_lines()

    def on_resize(self) -> None:
        """Lay the text out for the new width."""
        self._show_lines()

    def _show_lines(self) -> None:
        width = self.content_size.width
        if width > 0:
            self.query_one("#detail-text", Static).update(Content("\n").join(self._lines(width)))
