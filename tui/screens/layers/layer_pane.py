"""The pane of the chosen layer: its filters, feature maps, weights or activations."""

import numpy as np
import numpy.typing as npt
from textual import events
from textual.app import ComposeResult
from textual.containers import Container, Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from finetui.engine.predictions.images import pixels
from finetui.engine.protocol.commands import LAYER_VIEWS, ViewLayer
from finetui.engine.protocol.events import CommandRefused, LayerView
from finetui.engine.text import clean
from finetui.tui.queries.asker import Reply
from finetui.tui.queries.layer_queries import AuditQuery, Look
from finetui.tui.screens.layers.audit_rows import AuditRows
from finetui.tui.screens.layers.histogram import Histogram
from finetui.tui.screens.layers.image_chooser import ImageChooser
from finetui.tui.screens.layers.text import fitting, statistics
from finetui.tui.widgets.action_button import ActionButton
from finetui.tui.widgets.compound import Compound
from finetui.tui.widgets.picture import Picture
from finetui.tui.widgets.styled_line import StyledLine
from finetui.tui.widgets.thumbnail_grid import SIZES, ThumbnailGrid, Tile

ASKING = "Loading…"
AUDIT = "audit"
VIEWS = (*LAYER_VIEWS, AUDIT)
_LABELS = dict(zip(VIEWS, ("Filters", "Feature maps", "Weights", "Activations", "Audit"), strict=True))


class _Images(ThumbnailGrid):
    """The images of a layer, as large as all of them fit, until somebody wants another size."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._size_is_chosen = False

    def fit(self) -> None:
        """Take the largest size in which all are in sight, else the smallest."""
        if not self._size_is_chosen:
            self.size_name = next((name for name in reversed(SIZES) if self.fits(name)), next(iter(SIZES)))

    def on_resize(self) -> None:
        """Use the new room."""
        super().on_resize()
        self.fit()

    def action_resize(self, by: int) -> None:
        """Keep the size from now on."""
        self._size_is_chosen = True
        super().action_resize(by)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is nothing to mark images for."""
        return False if action == "mark" else super().check_action(action, parameters)


class LayerPane(Compound, Vertical):
    """Shows one `Look` into a layer; says so where there is nothing to see."""

    DEFAULT_CSS = """
    LayerPane {
        #view-choices { layout: horizontal; height: 1; }
        #view-tabs { width: 63; height: 1; }
        #view-tabs ActionButton { width: auto; min-width: 4; }
        #view-body { height: 1fr; }
        #view-image { display: none; width: 30; height: 1fr; margin-right: 2; }
        ThumbnailGrid, Histogram, AuditRows { width: 1fr; height: 1fr; }
        #view-message { width: 1fr; height: 1fr; content-align: center middle; text-align: center; color: $muted; }
    }
    """

    class ViewChosen(Message):
        """Somebody wants the `view`, one of `LAYER_VIEWS`."""

        def __init__(self, view: str) -> None:
            super().__init__()
            self.view = view

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._shown: Look | None = None  # of the answer on the screen
        self._answer: LayerView | None = None
        self._total = 0  # images in it
        self._audit: tuple[AuditQuery, str] | None = None  # the last that was shown, and of which module
        self._begins = False  # whether the next page is the first of a look

    def compose(self) -> ComposeResult:
        """The layer, the views, what is seen, and its statistics."""
        yield StyledLine(id="view-title")
        with Container(id="view-choices"):
            with Horizontal(id="view-tabs"):
                for number, view in enumerate(VIEWS, 1):
                    yield ActionButton(view, str(number), _LABELS[view], id=f"view-{view}")
            yield ImageChooser()
        with Horizontal(id="view-body"):
            yield Picture(id="view-image")
            yield _Images(id="view-grid")
            yield Histogram(id="view-histogram")
            yield AuditRows(id="view-audits")
            yield Static(id="view-message")
        yield StyledLine(id="view-numbers")

    def on_mount(self) -> None:
        """Begin with nothing."""
        self.say("")

    # -- what can be chosen ---------------------------------------------------------------------------------

    def show_layer(self, title: Content) -> None:
        """Say which layer it is."""
        self.query_one("#view-title", StyledLine).show(title)

    def show_views(self, chosen: str, possible: tuple[str, ...], pending: tuple[str, ...] = ()) -> None:
        """Show that `chosen` is the view, which are `possible`, and which are asked for."""
        for number, view in enumerate(VIEWS, 1):
            button = self.query_one(f"#view-{view}", ActionButton)
            button.show(view, str(number), _LABELS[view], available=view in possible, pending=view in pending)
            button.set_class(view == chosen, "-chosen")
        self.query_one(ImageChooser).visible = chosen in ("feature-maps", "activations")

    def show_index(self, index: int) -> None:
        """Show that image `index` is meant."""
        self.query_one(ImageChooser).show(index)

    def name_part(self, part: str) -> None:
        """Say of which part the images are."""
        self.query_one(ImageChooser).name_part(part)

    def on_action_button_pressed(self, message: ActionButton.Pressed) -> None:
        """Ask for another view."""
        message.stop()
        self.post_message(self.ViewChosen(message.action))

    # -- what is seen ---------------------------------------------------------------------------------------

    @property
    def shows_image(self) -> bool:
        """Whether there is room for the image."""
        return bool(self.query_one("#view-image").display)

    def show_image(self, image: npt.NDArray[np.uint8] | None, note: str) -> None:
        """Show the image itself, where there is room beside its feature maps."""
        self.query_one("#view-image", Picture).show(image, note=note)

    def say(self, text: str) -> None:
        """Show `text` in place of a picture."""
        self._shown = None
        self._show_only("view-message")
        self.query_one("#view-message", Static).update(Content(text))
        self.query_one("#view-numbers", StyledLine).show(Content(""))

    def show_audit(self, audits: AuditQuery, path: str) -> None:
        """Show what the last audit says of the module at `path`, or why there is none."""
        self._audit = audits, path
        answer = audits.answer
        said = f"Watching until step {audits.until:,}…" if audits.is_waiting else audits.problem
        if answer is None:
            self.say(said)
            return
        self._shown = None
        self._show_only("view-audits")
        self.query_one(AuditRows).fill(answer.audit, path)
        style = "$error" if answer.audit.wrong else "$muted"
        again, step = f"{VIEWS.index(AUDIT) + 1} repeats it", f"step {answer.step:,}"
        told = said or fitting((answer.audit.verdict(), step, again), self.content_size.width, "  ")
        self.query_one("#view-numbers", StyledLine).show(Content.styled(told, "$warning" if said else style))

    def focus_look(self) -> None:
        """Let keys go to what is seen."""
        audits = self.query_one(AuditRows)
        (audits if audits.display else self.query_one(ThumbnailGrid)).focus()

    def wait_for(self, look: Look) -> None:
        """Say that the engine was asked; a picture of the same view of the same layer stays meanwhile."""
        self._begins = True
        if self._shown is None or self._shown[:2] != look[:2]:
            self.say(ASKING)
        else:
            self.query_one("#view-numbers", StyledLine).show(Content.styled(ASKING, "$muted"))

    def show_reply(self, look: Look, reply: Reply) -> None:
        """Show what the engine answered."""
        if isinstance(reply, CommandRefused):
            self._show_refusal(look, reply)
        if not isinstance(reply, LayerView):
            return
        before, self._shown, self._answer = self._shown, look, reply
        self._show_numbers()
        if not look.is_paged:
            self._show_only("view-histogram")
            self.query_one(Histogram).show(reply.edges, reply.counts)
        elif not self._begins:
            self.query_one(ThumbnailGrid).set_tiles(_tiles(reply))
        else:
            self._begins, self._total = False, reply.total
            self._show_only("view-grid")
            keep = before is not None and before[:2] == look[:2]
            # Out of sight the grid has no size, by which it lays its tiles out.
            self.call_after_refresh(self._fill, look, reply, keep)

    def _fill(self, look: Look, page: LayerView, keep_cursor: bool) -> None:
        for grid in self.query(_Images) if self._shown == look else ():  # it may be gone, once all is drawn
            grid.set_count(page.total, keep_cursor=keep_cursor)
            grid.fit()
            grid.set_tiles(_tiles(page))

    def _show_refusal(self, look: Look, refused: CommandRefused) -> None:
        asked = refused.command
        if self._shown == look and look.is_paged and isinstance(asked, ViewLayer):
            # The pages that are there stay.
            problem = Tile(image=None, problem="unavailable")
            missing = range(asked.first, min(asked.first + asked.count, self._total))
            self.query_one(ThumbnailGrid).set_tiles(dict.fromkeys(missing, problem))
            self.query_one("#view-numbers", StyledLine).show(Content.styled(refused.reason, "$warning"))
        else:
            self.say(refused.reason)

    def on_click(self, event: events.Click) -> None:
        """A click on the histogram does what its key does."""
        if isinstance(event.widget, Histogram):
            event.widget.toggle_log()

    def on_resize(self) -> None:
        """Lay the numbers out for another width."""
        self._show_numbers()
        if self._audit is not None and self.query_one("#view-audits").display:
            self.show_audit(*self._audit)

    def _show_numbers(self) -> None:
        if self._shown is not None and self._answer is not None:
            self.query_one("#view-numbers", StyledLine).show(statistics(self._answer, self.content_size.width))

    def _show_only(self, name: str) -> None:
        for other in ("view-grid", "view-histogram", "view-audits", "view-message"):
            self.query_one(f"#{other}").display = other == name


def _tiles(page: LayerView) -> dict[int, Tile]:
    tiles = {}
    for picture in page.pictures:
        caption = Content.styled(clean(picture.name) or str(picture.index), "$muted")
        tiles[picture.index] = Tile(image=pixels(picture), lines=(caption,), problem=picture.problem)
    return tiles
