"""The Errors screen: the images that the network got wrong, and why."""

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static

from finetui.engine.predictions.criteria import Choose
from finetui.engine.protocol.events import CommandRefused
from finetui.engine.protocol.values import AnyPart
from finetui.engine.text import clean
from finetui.tui.keys import bind, bind_tabs, move
from finetui.tui.queries.asker import Asker
from finetui.tui.queries.image_cache import ImageCache
from finetui.tui.queries.image_detail import ImageDetail
from finetui.tui.screens.errors.detail_pane import DetailPane
from finetui.tui.screens.errors.help import INTRODUCTION
from finetui.tui.screens.errors.listing_screen import ListingScreen
from finetui.tui.screens.errors.tabs import Tabs
from finetui.tui.screens.errors.text import (
    after_tabs,
    before_tabs,
    brief_details,
    caption,
    caption_widths,
    details,
    legend,
    loading,
    tab_words,
    title,
)
from finetui.tui.screens.run_chosen import Differing
from finetui.tui.screens.status_bar import StatusBar
from finetui.tui.screens.toast import ShowToast
from finetui.tui.state.listing import image_name
from finetui.tui.state.store import Store
from finetui.tui.widgets.key_bar import KeyBar
from finetui.tui.widgets.picture import image_mode
from finetui.tui.widgets.styled_line import StyledLine
from finetui.tui.widgets.thumbnail_grid import ThumbnailGrid, Tile

METHODS = {
    "grad-cam": "Grad-CAM",
    "integrated-gradients": "Integrated gradients",
    "occlusion": "Occlusion",
}
# Cells that the image under the cursor has at least, by how wide the terminal is.
_LEAST_DETAIL = {160: 64, 100: 44, 0: 30}
_REST_SECONDS = 0.15  # how long the cursor stays on an image before more than its thumbnail is asked for
_THUMBNAIL = 64  # pixels
_ROOMY = 100  # cells
# What there is nothing to do with before there are predictions.
_OF_IMAGES = frozenset(("enlarge", "filter", "confusion", "explain", "compare", "scores", "export"))


class ErrorsScreen(ListingScreen):
    """Browses the predictions of the run in `store`; questions about its images go to `asker`."""

    NAME = "errors"
    TITLE_TEXT = "Errors"
    INTRODUCTION = INTRODUCTION
    CSS_PATH = "screen.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (_ROOMY, "-roomy"), (160, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]
    BINDINGS: ClassVar[list[BindingType]] = [
        bind("confirm", "enlarge", label="Enlarge"),
        bind("show"),
        bind("order"),
        bind("filter"),
        bind("confusion"),
        bind("explain"),
        bind("compare"),
        bind("part"),
        bind("scores"),
        bind("export"),
        bind("reverse", show=False),
        bind("label_errors", show=False),
        bind("duplicates", "toggle_flag('duplicates')", show=False),
        bind("marked", "toggle_flag('marked')", show=False),
        bind("newest", show=False),
        bind("evaluate", show=False),
        *bind_tabs("tab(0)", "tab(1)", "tab(2)", "tab(3)"),
        bind("previous_image", "step(-1)", show=False),
        bind("next_image", "step(1)", show=False),
        move("left,up", "step(-1)", "Previous image"),
        move("right,down", "step(1)", "Next image"),
    ]

    def __init__(
        self, store: Store, asker: Asker, choose: Choose, part: AnyPart = "", differing: Differing | None = None
    ) -> None:
        """Begin with what `choose` lists of `part`, by default of that which is evaluated while training.

        With `differing`, begin with what these two are not equally right about.
        """
        super().__init__(store, asker, choose, part, differing)
        self._thumbnails = ImageCache(self._asker, _THUMBNAIL, self._show_tiles)
        self._said = ""
        self._row = -1
        self._waits = False  # for the image under the cursor
        self._detail = ImageDetail(self._asker, self._show_detail)
        self._rest: Timer | None = None
        self._places: dict[int, int] = {}  # of the page in sight: where each image is

    def compose(self) -> ComposeResult:
        """Two lines on top, the grid, and the pane for the image under the cursor."""
        yield StatusBar(self._store)
        yield StyledLine(id="errors-title")
        yield Tabs(id="errors-filter")
        yield Static(id="errors-message")
        with Horizontal(id="errors-body"):
            yield ThumbnailGrid(id="errors-grid")
            yield DetailPane(id="errors-detail")
        other = self._store.view.other_part(self._part)
        yield KeyBar(unshown=lambda: () if other is not None else ("part",))

    def on_mount(self) -> None:
        """Open the newest predictions."""
        self.query_one(ThumbnailGrid).focus()
        self.follow_evaluations()

    def on_resize(self) -> None:
        """Lay title and words out anew, unless they are not there for now, and give the grid no column too much."""
        if not self.has_class("-message"):
            self.call_after_refresh(self._show_lines)
            self.call_after_refresh(self._show_detail)  # in fewer words where it has become low
        self.call_after_refresh(self._share_width)

    def on_thumbnail_grid_resized(self, message: ThumbnailGrid.Resized) -> None:
        """Let the detail pane have what the columns leave over."""
        message.stop()
        self._share_width()

    def _share_width(self) -> None:
        least = next(cells for width, cells in _LEAST_DETAIL.items() if self.size.width >= width)
        grid = self.query_one(ThumbnailGrid)
        room = self.query_one("#errors-body").content_size.width - least
        if room > 0:
            grid.styles.width = grid.width_for(room)

    # -- what is listed -------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        if text == self._said:
            return
        self._said = text
        self.set_class(True, "-message")
        self.query_one("#errors-title", StyledLine).show(Content.styled(" Misclassified images", "bold $accent"))
        self.query_one("#errors-message", Static).update(Content(text))

    def _hint(self, text: str) -> None:
        if not self.stands:
            return
        line = Content.styled(f" {clean(text, 300)}", "$warning")
        if line.cell_length <= self.size.width:
            self.query_one(Tabs).say(line)
        else:  # a toast has as many lines as it takes
            self.app.post_message(ShowToast(text[:1].upper() + text[1:], "hint", warns=True))

    def why_not(self, action: str, parameters: tuple[object, ...]) -> str:
        """What is done with images waits until there are some."""
        if self._listing is None and action in _OF_IMAGES:
            return "no images are listed yet"
        return super().why_not(action, parameters)

    def _listing_changed(self, *, same_rows: bool) -> None:
        assert self._listing is not None
        self._said = ""
        self.set_class(False, "-message")
        self._places = {}
        grid = self.query_one(ThumbnailGrid)
        widest, longest = caption_widths(self._listing)
        grid.set_count(len(self._listing.rows), keep_cursor=same_rows, widest=widest, longest=longest)
        self._show_lines()
        self._highlight(grid.cursor)
        self.refresh_bindings()

    def _show_lines(self) -> None:
        listing = self._listing
        if listing is None:
            return
        self.query_one("#errors-title", StyledLine).show(title(listing, len(self._marked), self.size.width))
        self.query_one(Tabs).show_tabs(
            before_tabs(listing),
            [tab_words(tab) for tab in listing.tabs],
            lambda room: after_tabs(listing, room, clears=self.is_narrowed),
        )

    def on_tabs_chosen(self, message: Tabs.Chosen) -> None:
        """List another kind of image."""
        message.stop()
        self.action_tab(message.number)

    def _part_changed(self, part: AnyPart) -> None:
        self._thumbnails.of(part)
        self._detail.of(part)

    # -- the grid -------------------------------------------------------------------------------------------

    def on_thumbnail_grid_needed(self, message: ThumbnailGrid.Needed) -> None:
        """Fetch the images of the page that is in sight."""
        message.stop()
        if self._listing is not None:
            rows = self._listing.rows[message.first : message.last + 1]
            indices = self._listing.predictions.index[rows].tolist()
            self._places = {index: message.first + place for place, index in enumerate(indices)}
            self._show_positions(self._places.values())
            self._thumbnails.need(indices)

    def _show_tiles(self, indices: list[int]) -> None:
        """Show the images `indices` that have just arrived, where they are on the page that was asked for last."""
        if self._listing is None or not self.stands:
            return
        self._look_for_duplicates()  # only now: that takes longer, and the images are waited for
        self._show_positions([self._places[index] for index in indices if index in self._places])
        if self._row >= 0 and self._listing.predictions.index[self._row] in indices:
            self._show_detail()

    def _show_positions(self, positions: Iterable[int]) -> None:
        assert self._listing is not None
        tiles = {position: self._tile(int(self._listing.rows[position])) for position in positions}
        self.query_one(ThumbnailGrid).set_tiles(tiles)

    def _tile(self, row: int) -> Tile:
        assert self._listing is not None
        found = self._thumbnails.get(int(self._listing.predictions.index[row]))
        lines, folded = caption(self._listing, row)
        return Tile(
            image=None if isinstance(found, str) else found,
            lines=lines,
            folded=folded,
            marked=row in self._marked,
            problem=found if isinstance(found, str) else "",
        )

    def on_thumbnail_grid_highlighted(self, message: ThumbnailGrid.Highlighted) -> None:
        """Show the image under the cursor in full."""
        message.stop()
        self._highlight(message.position)

    def on_thumbnail_grid_chosen(self, message: ThumbnailGrid.Chosen) -> None:
        """Give the image the whole screen."""
        message.stop()
        self.action_enlarge()

    def on_thumbnail_grid_mark_toggled(self, message: ThumbnailGrid.MarkToggled) -> None:
        """Mark the image, or not any more."""
        message.stop()
        if self._listing is not None and message.position < len(self._listing.rows):
            self._marked ^= {int(self._listing.rows[message.position])}
            self._show_positions([message.position])
            self._show_lines()
            self._show_detail()

    def _highlight(self, position: int) -> None:
        assert self._listing is not None
        rows = self._listing.rows
        self._row = int(rows[position]) if position < len(rows) else -1
        self._show_detail()
        if self._rest is not None:
            self._rest.stop()
        self._rest = self.set_timer(_REST_SECONDS, self._ask_more)

    # -- the image under the cursor -------------------------------------------------------------------------

    def _show_detail(self) -> None:
        """Bring the pane up to date with what is known by now."""
        if not self.stands:
            return
        pane, listing, row = self.query_one(DetailPane), self._listing, self._row
        self._waits = False
        if listing is None or row < 0:
            pane.show(None, None, "no image matches the filter", lambda _width: [])
            return
        index = int(listing.predictions.index[row])
        small, large = self._thumbnails.get(index), self._detail.image(index)
        image = small if large is None else large
        words = self._explanation(index)
        self._waits = image is None

        def describe(width: int) -> list[Content]:  # for the room that there is when it is laid out
            said = brief_details if self.has_class("-short") and not self.has_class("-large") else details
            return said(listing, row, width, marked=row in self._marked, explained=words)

        pane.show(
            None if isinstance(image, str) else image,
            self._detail.overlay(index),
            image if isinstance(image, str) else loading(self._store.view),
            describe,
        )

    def _explanation(self, index: int) -> tuple[Content, ...]:
        """Return what the colours upon the image say, or why there are none."""
        assert self._listing is not None
        if not self._detail.method:
            return ()
        name = METHODS[self._detail.method]
        found = self._detail.explained(index)
        if isinstance(found, CommandRefused):
            return (Content.styled(clean(found.reason, 300), "$warning"),)
        if found is None:
            return (Content.styled(f"{name}: computing…  esc cancels", "$accent"),)
        place = f" at {found.layer}" if found.layer else ""
        target = self._listing.predictions.classes[found.target]
        where = f"{place}: {target} ({found.probability:.1%}) at step {found.step:,}"
        return legend(name, where, target, shades=image_mode(self) == "ascii")

    def _look_for_newer(self) -> None:
        super()._look_for_newer()
        if self._waits:  # what the engine does meanwhile may be another thing by now
            self._show_detail()

    def _ask_more(self) -> None:
        """Ask for what takes longer, now that the cursor rests."""
        if self._listing is None or self._row < 0:
            return
        found = self._listing.predictions
        index = int(found.index[self._row])
        small = self._thumbnails.get(index)
        # An image that was not reduced is there in full already.
        whole = isinstance(small, np.ndarray) and max(small.shape[:2]) < _THUMBNAIL / 2
        self._detail.ask(index, int(found.predicted[self._row]), in_full=not whole)

    def action_explain(self) -> None:
        """Show where the network looked, by the next method; after the last, nothing."""
        self._detail.next_method()
        self._show_detail()
        self._ask_more()

    def action_enlarge(self) -> None:
        """Give the image the whole screen, or the grid its place back."""
        large = not self.has_class("-large")
        self.set_class(large, "-large")
        self.query_one(DetailPane).set_class(large, "-beside")
        self._show_detail()
        if not large:
            self.query_one(ThumbnailGrid).focus()

    def action_step(self, by: int) -> None:
        """Go to the next image, or the one before."""
        self.query_one(ThumbnailGrid).move_cursor(by)

    # -- the rest -------------------------------------------------------------------------------------------

    def copyable(self) -> str | None:
        """Return where the image under the cursor is, or what it is called where it has no file of its own."""
        if self._listing is None or self._row < 0:
            return None
        found = self._listing.predictions
        return found.files.path(self._row) or image_name(found, self._row)

    def action_back(self) -> None:
        """Go back one level: an explanation, the large image, what narrows the list, and at last the screen."""
        if self._detail.end_explaining():
            self._show_detail()
        elif self.has_class("-large"):
            self.action_enlarge()
        elif not self.widen():
            self.dismiss(None)
