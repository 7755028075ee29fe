"""The Errors screen: the test images that the network got wrong, and why."""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Footer, Static

from engine.commands import Evaluate, FindDuplicates
from engine.criteria import CHANGES, SHOWS, SORTS, Selection
from engine.errors import BadInput, FinetuiError
from engine.events import CommandRefused, DuplicatesFound, Evaluated
from engine.text import clean
from tui.asking import Asker, Reply
from tui.browsing import Listing, brief_details, caption, details, filter_line, open_listing, title
from tui.closer_look import CloserLook
from tui.export import Target, export
from tui.image_cache import ImageCache, fetch_all
from tui.screens.errors_help import errors_help
from tui.store import Store, View
from tui.tight_compositor import TightCompositor
from tui.widgets.detail_pane import DetailPane
from tui.widgets.styled_line import StyledLine
from tui.widgets.thumbnail_grid import ThumbnailGrid, Tile

_POLL_SECONDS = 0.25
_REST_SECONDS = 0.15  # how long the cursor stays on an image before more than its thumbnail is asked for
_THUMBNAIL = 64  # pixels
_MOST_COMPARED = 200_000  # images among which duplicates are looked for without being asked


def _with_duplicates(listing: Listing, pairs: Collection[tuple[int, int]], marked: Collection[int]) -> Listing:
    """Return the list anew, now that it is known which images are in the training set."""
    return listing.with_duplicates(pairs).select(listing.selection, marked)


def _waiting(view: View) -> str:
    """Return why there is nothing to list yet."""
    if view.refusal is not None and isinstance(view.refusal.command, Evaluate):
        return view.refusal.reason
    if view.phase is not None:
        share = f" {view.phase.done:,} of {view.phase.total:,}" if view.phase.total else " …"
        return f"{view.phase.name}{share}"
    return "There are no predictions yet: they come with the first evaluation."


class ErrorsScreen(Screen[None]):
    """Browses the predictions of the run in `store`; questions about its images go to `asker`."""

    CSS_PATH = "errors.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-roomy"), (160, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "leave", "Back", key_display="esc"),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("v", "cycle_show", "Show"),
        Binding("o", "cycle_order", "Order"),
        Binding("O", "reverse", "Reverse", show=False),
        Binding("f", "filter", "Filter"),
        Binding("c", "clear", "Clear", show=False),
        Binding("m", "confusion", "Matrix"),
        Binding("e", "explain", "Explain"),
        Binding("d", "compare", "Compare"),
        Binding("enter", "enlarge", "Enlarge", show=False),
        Binding("l", "toggle_flag('label_errors')", "Likely wrong labels", show=False),
        Binding("u", "toggle_flag('duplicates')", "Training images", show=False),
        Binding("k", "toggle_flag('marked')", "Marked only", show=False),
        Binding("x", "export", "Export"),
        Binding("n", "newest", "Newest", show=False),
        Binding("left,up", "step(-1)", "Previous", show=False),
        Binding("right,down", "step(1)", "Next", show=False),
    ]

    def __init__(self, store: Store, asker: Asker, selection: Selection | None = None) -> None:
        """Begin with what `selection` lists (default: the mistakes, highest loss first)."""
        super().__init__()
        self._compositor = TightCompositor()
        self._store = store
        self._asker = asker
        self._selection = selection or Selection()
        self._thumbnails = ImageCache(asker, _THUMBNAIL, self._show_tiles)
        self._listing: Listing | None = None
        self._evaluation: Evaluated | None = None  # the one that is shown
        self._marked: set[int] = set()
        self._said = ""
        self._row = -1
        self._closer = CloserLook(asker, self._show_detail)
        self._rest: Timer | None = None
        self._places: dict[int, int] = {}  # of the page in sight: where each test image is
        self._pairs: tuple[tuple[int, int], ...] | None = None

    def compose(self) -> ComposeResult:
        """Two lines on top, the grid, and the pane for the image under the cursor."""
        yield StyledLine(id="errors-title")
        yield StyledLine(id="errors-filter")
        yield Static(id="errors-message")
        with Horizontal(id="errors-body"):
            yield ThumbnailGrid(id="errors-grid")
            yield DetailPane(id="errors-detail")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Open the newest predictions."""
        self.query_one(ThumbnailGrid).focus()
        self.set_interval(_POLL_SECONDS, self._look_for_newer)
        self.action_newest()

    # -- what is listed -------------------------------------------------------------------------------------

    def action_newest(self) -> None:
        """Show the predictions of the newest evaluation."""
        view = self._store.view
        self._evaluation = view.evaluation
        if view.evaluation is None:
            self._say(_waiting(view))
        elif not view.evaluation.predictions:
            name = view.name or "RUN"
            self._say(f"The predictions of this evaluation were not kept; `finetui errors --from {name}` makes them.")
        else:
            path = Path(view.path) / view.evaluation.predictions
            self._relist(lambda: self._opened(path))

    def _opened(self, path: Path) -> Listing:
        selection = msgspec.structs.replace(self._selection, change="", marked=False)
        listing = open_listing(path, selection)
        return listing if self._pairs is None else _with_duplicates(listing, self._pairs, ())

    def _look_for_newer(self) -> None:
        view = self._store.view
        if self._evaluation is None:
            self.action_newest()
        elif view.evaluation is not self._evaluation and self._listing is not None:
            self._hint("a newer evaluation is there: n shows it")

    @work(thread=True, exclusive=True, group="list", exit_on_error=False)
    def _relist(self, make: Callable[[], Listing]) -> None:
        """Work out a listing away from the screen, and show it."""
        try:
            listing = make()
        except BadInput as error:
            self.app.call_from_thread(self._refused, str(error))
        else:
            self.app.call_from_thread(self._show_listing, listing)

    def _refused(self, reason: str) -> None:
        if self._listing is None:
            self._say(reason)
        else:
            self._hint(reason)

    def _say(self, text: str) -> None:
        """Show `text` in place of a list."""
        if text == self._said:
            return
        self._said = text
        self.set_class(True, "-message")
        self.query_one("#errors-title", StyledLine).show(Content.styled(" Errors", "bold $accent"))
        self.query_one("#errors-message", Static).update(Content(text))

    def _hint(self, text: str) -> None:
        self.query_one("#errors-filter", StyledLine).show(Content.styled(f" {clean(text, 300)}", "$warning"))

    def _show_listing(self, listing: Listing) -> None:
        same_rows = self._listing is not None and self._listing.rows is listing.rows
        fresh = self._listing is None or self._listing.predictions is not listing.predictions
        if fresh:
            self._marked.clear()
            if self._pairs is None and len(listing.predictions) <= _MOST_COMPARED:
                self._asker.ask(FindDuplicates(), self._duplicates_found)
        self._listing = listing
        self._selection = listing.selection
        self.set_class(False, "-message")
        self._places = {}
        grid = self.query_one(ThumbnailGrid)
        grid.set_count(len(listing.rows), keep_cursor=same_rows)
        self._show_lines()
        self._highlight(grid.cursor)

    def _show_lines(self) -> None:
        if self._listing is not None:
            self.query_one("#errors-title", StyledLine).show(title(self._listing, len(self._marked)))
            self.query_one("#errors-filter", StyledLine).show(filter_line(self._listing))

    def _choose(self, **changes: object) -> None:
        """List what the present selection with `changes` lists."""
        listing = self._listing
        if listing is not None:
            selection = msgspec.structs.replace(listing.selection, **changes)
            marked = frozenset(self._marked)
            self._relist(lambda: listing.select(selection, marked))

    def _duplicates_found(self, reply: Reply) -> None:
        listing = self._listing
        if isinstance(reply, DuplicatesFound) and listing is not None:
            self._pairs = pairs = reply.pairs
            marked = frozenset(self._marked)
            known = listing.selection.duplicates
            self._relist(lambda: _with_duplicates(listing, pairs, marked) if known else listing.with_duplicates(pairs))
        elif isinstance(reply, CommandRefused):
            self._hint(f"training images among these were not looked for: {reply.reason}")

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
        if self._listing is None or not self.is_attached:
            return
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
        return Tile(
            image=None if isinstance(found, str) else found,
            lines=caption(self._listing, row),
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
        if not self.is_attached:
            return
        pane, listing, row = self.query_one(DetailPane), self._listing, self._row
        if listing is None or row < 0:
            pane.show(None, None, "no image fits the filter", lambda _width: [])
            return
        index = int(listing.predictions.index[row])
        small, large = self._thumbnails.get(index), self._closer.image(index)
        image = small if large is None else large
        overlay, words = self._closer.overlay(index, listing.predictions.classes)
        describe = brief_details if self.has_class("-short") else details
        pane.show(
            None if isinstance(image, str) else image,
            overlay,
            image if isinstance(image, str) else "…",
            lambda width: describe(listing, row, width, marked=row in self._marked, explained=words),
        )

    def _ask_more(self) -> None:
        """Ask for what takes longer, now that the cursor rests."""
        if self._listing is None or self._row < 0:
            return
        found = self._listing.predictions
        index = int(found.index[self._row])
        small = self._thumbnails.get(index)
        # An image that was not reduced is there in full already.
        whole = isinstance(small, np.ndarray) and max(small.shape[:2]) < _THUMBNAIL / 2
        self._closer.ask(index, int(found.predicted[self._row]), in_full=not whole)

    def action_explain(self) -> None:
        """Show where the network looked, by the next method; after the last, nothing."""
        self._closer.next_method()
        self._show_detail()
        self._ask_more()

    def action_enlarge(self) -> None:
        """Give the image the whole screen, or the grid its place back."""
        self.toggle_class("-large")
        if not self.has_class("-large"):
            self.query_one(ThumbnailGrid).focus()

    def action_step(self, by: int) -> None:
        """Go to the next image, or the one before, while the grid is hidden."""
        if self.has_class("-large"):
            self.query_one(ThumbnailGrid).move_cursor(by)

    # -- choosing what is listed ----------------------------------------------------------------------------

    def action_cycle_show(self) -> None:
        """List mistakes, then right but unsure ones, right ones, all."""
        shown = self._selection
        if shown.change:
            self._choose(change=CHANGES[CHANGES.index(shown.change) % (len(CHANGES) - 1) + 1])
        else:
            self._choose(show=SHOWS[(SHOWS.index(shown.show) + 1) % len(SHOWS)])

    def action_cycle_order(self) -> None:
        """Order by loss, then by confidence, margin, place."""
        self._choose(sort=SORTS[(SORTS.index(self._selection.sort) + 1) % len(SORTS)], reverse=False)

    def action_reverse(self) -> None:
        """Turn the order round."""
        self._choose(reverse=not self._selection.reverse)

    def action_toggle_flag(self, flag: str) -> None:
        """List only what has `flag`, or all again."""
        if flag == "duplicates" and self._pairs is None:
            self._hint("looking for training images among these …")
            self._asker.ask(FindDuplicates(), self._duplicates_found)
        self._choose(**{flag: not getattr(self._selection, flag)})

    def action_clear(self) -> None:
        """Take all filters away."""
        if self._listing is not None:
            listing, marked = self._listing, frozenset(self._marked)
            self._relist(lambda: listing.select(listing.selection.unfiltered, marked))

    @work
    async def action_filter(self) -> None:
        """Ask what is to be listed."""
        from tui.screens.errors_filter import FilterForm

        listing = self._listing
        if listing is None:
            return
        form = FilterForm(
            listing.selection,
            listing.predictions.classes,
            has_files=len(listing.predictions.files) > 0,
            can_compare=listing.flags.other is not None,
        )
        chosen = await self.app.push_screen_wait(form)
        if chosen is not None:
            marked = frozenset(self._marked)
            self._relist(lambda: listing.select(chosen, marked))

    @work
    async def action_confusion(self) -> None:
        """Show which classes are taken for which, and list the images of a cell."""
        from tui.screens.confusion import ConfusionScreen

        if self._listing is None:
            return
        found = self._listing.predictions
        chosen = await self.app.push_screen_wait(ConfusionScreen(found.confusion(), found.classes))
        if chosen is not None:
            true, predicted = (None if label < 0 else label for label in chosen)
            show = "all" if true == predicted else "wrong"
            self._choose(show=show, true=true, predicted=predicted, change="")

    @work
    async def action_compare(self) -> None:
        """Compare with another run's or evaluation's predictions; again: end the comparison."""
        from tui.screens.compare import CompareScreen

        listing = self._listing
        if listing is None:
            return
        if listing.selection.change:
            self._choose(change="")
            return
        view = self._store.view
        own = Path(view.path)
        path = await self.app.push_screen_wait(CompareScreen(own.parent, own))
        if path is not None:
            name = f"{path.parent.name} {path.stem}"
            marked = frozenset(self._marked)
            self._relist(lambda: listing.compare(path, name, "broken", marked))

    # -- the rest -------------------------------------------------------------------------------------------

    @work
    async def action_export(self) -> None:
        """Write what is listed, or marked, to a file."""
        from tui.screens.export_form import ExportForm

        listing = self._listing
        if listing is None:
            return
        marked = sorted(self._marked)
        request = await self.app.push_screen_wait(ExportForm(len(listing.rows), len(marked), Path("errors.csv")))
        if request is not None:
            rows = marked if request.marked_only else listing.rows.tolist()
            self._hint("exporting …")
            self._export(request.target, listing, rows)

    @work(thread=True, exclusive=True, group="export", exit_on_error=False)
    def _export(self, target: Target, listing: Listing, rows: list[int]) -> None:
        """Write away from the screen; images are asked for as everywhere."""
        try:
            words = export(target, listing, rows, lambda indices: fetch_all(self.app, self._asker, indices))
        except FinetuiError as error:
            words = str(error)
        self.app.call_from_thread(self._hint, words)

    def action_help(self) -> None:
        """Explain the screen."""
        self.app.push_screen(errors_help())

    def action_leave(self) -> None:
        """Go back: from the large image to the grid, from the grid to the screen below."""
        if self.has_class("-large"):
            self.action_enlarge()
        else:
            self.dismiss(None)
