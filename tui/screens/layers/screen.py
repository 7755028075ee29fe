"""The Layers screen: the module tree, live during training, and looks into its layers."""

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.content import Content
from textual.timer import Timer

from finetui.engine.protocol.commands import AnyCommand, AuditParameters, DescribeModel, SetFrozen, SetFrozenNorm
from finetui.engine.protocol.events import CommandRefused, LayersMeasured, ModelDescribed
from finetui.tui.keys import bind, bind_tabs
from finetui.tui.queries.asker import Asker, Reply
from finetui.tui.queries.image_cache import ImageCache
from finetui.tui.queries.layer_queries import AuditQuery, LayerQueries, Look, MeasureLoop
from finetui.tui.screens.base import Screen
from finetui.tui.screens.layers.columns import Figures
from finetui.tui.screens.layers.help import INTRODUCTION
from finetui.tui.screens.layers.histogram import Histogram
from finetui.tui.screens.layers.image_chooser import ImageChooser
from finetui.tui.screens.layers.layer_pane import ASKING, AUDIT, VIEWS, LayerPane
from finetui.tui.screens.layers.module_tree import ModuleRows, ModuleTree
from finetui.tui.screens.layers.text import not_to_be_seen, notes, title, title_of, totals, tree_of
from finetui.tui.screens.status_bar import StatusBar
from finetui.tui.screens.toast import ShowToast
from finetui.tui.state.empty import no_layers
from finetui.tui.state.layer_tree import LayerStates, layer_names, rate_factors
from finetui.tui.state.store import Store
from finetui.tui.state.view import View
from finetui.tui.widgets.key_bar import KeyBar
from finetui.tui.widgets.styled_line import StyledLine
from finetui.tui.widgets.thumbnail_grid import ThumbnailGrid

_POLL_SECONDS = 0.25
_REST_SECONDS = 0.15  # how long the cursor stays on a module before the engine is asked about it
_IMAGE_SIDE = 64  # pixels of the test image
_OF_IMAGE = ("feature-maps", "activations")
# Textual takes them away one after the other, and none of them is the last for sure.
_ALL = "#layers-title, #layers-totals, #layers-notes, #module-rows, #view-numbers"


class LayersScreen(Screen[None]):
    """Shows the layers of the run in `store`; `send` takes its commands, `asker` its questions."""

    NAME = "layers"
    TITLE_TEXT = "Layers"
    INTRODUCTION = INTRODUCTION
    CSS_PATH = "screen.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-broad"), (160, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (34, "-roomy")]
    BINDINGS: ClassVar[list[BindingType]] = [
        bind("norm"),
        bind("zoom"),
        *bind_tabs(*(f"view('{view}')" for view in VIEWS)),
        bind("previous_image", "step_image(-1)", show=False),
        bind("next_image", "step_image(1)", show=False),
        bind("image", "type_image", show=False),
        bind("log_axis", show=False),
    ]

    def __init__(
        self, store: Store, send: Callable[[AnyCommand], None], asker: Asker, *, can_measure: bool = True
    ) -> None:
        """Without `can_measure` the gradients and updates of a running training are not asked for."""
        super().__init__()
        self._store = store
        self._send = send
        self._asker = asker = asker.heard_while(lambda: self.stands)
        self._can_measure = can_measure
        self._shown: View | None = None
        self._asked: DescribeModel | None = None
        self._described: ModelDescribed | None = None
        self._problem = ""  # why there is no description
        self._measured: LayersMeasured | None = None
        self._measures = MeasureLoop(asker, self._show_measures)
        self._queries = LayerQueries(asker, self._show_look)
        self._audits = AuditQuery(asker, self._show_audit)
        self._look: Look | None = None
        self._view = VIEWS[0]
        self._index = 0
        self._images = ImageCache(asker, _IMAGE_SIDE, lambda _indices: self._show_image())
        self._rest: Timer | None = None
        self._hint = ""
        self._old_refusal = store.view.refusal

    def compose(self) -> ComposeResult:
        """Two lines on top, the tree, the pane for the chosen layer, a line of notes."""
        yield StatusBar(self._store)
        yield StyledLine(id="layers-title")
        yield StyledLine(id="layers-totals")
        with Container(id="layers-body"):
            yield ModuleTree()
            yield LayerPane(id="layers-view")
        yield StyledLine(id="layers-notes")
        yield KeyBar()

    def on_mount(self) -> None:
        """Show what is known, and ask for the rest."""
        self.query_one(ModuleRows).focus()
        self.set_interval(_POLL_SECONDS, self._poll)
        self._poll()

    def on_unmount(self) -> None:
        """Wait for no answers any more."""
        self._measures.stop()
        self._queries.look(None)
        self._forget_description()

    def on_resize(self) -> None:
        """Lay the lines out anew."""
        self.call_after_refresh(self._show_lines)
        self.call_after_refresh(self._show_title_of_layer)
        self.call_after_refresh(self._show_image)

    # -- the modules ----------------------------------------------------------------------------------------

    def _poll(self) -> None:
        self._show()
        if self._can_measure and self._store.view.state == "running" and self.app.screen is self:
            self._measures.tick()

    def _show(self) -> None:
        """Bring everything up to date with the run."""
        view, before = self._store.view, self._shown
        if view is before:
            return
        self._shown = view
        self.query_one(ModuleRows).refusal = view.refusal_of(SetFrozen) or ""
        if before is None or view.refusal_of(SetFrozenNorm) != before.refusal_of(SetFrozenNorm):
            self.refresh_bindings()
        self.query_one(LayerPane).name_part(view.watched)
        if before is None or layer_names(view.layers) != layer_names(before.layers):
            self.refresh_bindings()
            self._forget_description()
            self._show_tree()
        elif self._problem and view.state != before.state:
            self._problem = ""  # it may be answered now
        if self._described is None and self._asked is None and not self._problem and view.state != "preparing":
            self._asked = DescribeModel()
            self._asker.ask(self._asked, self._show_description)
        self._show_figures()
        self._show_lines()

    def _forget_description(self) -> None:
        if self._asked is not None:
            self._asker.forget(self._asked)
        self._asked = self._described = self._measured = None
        self._problem = ""
        self._audits.forget()

    def _show_description(self, reply: Reply) -> None:
        self._asked = None
        if isinstance(reply, ModelDescribed):
            self._described = reply
            self._show_tree()
        elif isinstance(reply, CommandRefused):
            self._problem = reply.reason
            self._choose()
        self._show_lines()

    @property
    def _stands(self) -> bool:
        """Whether the widgets are there: an answer or a timer may come while the screen is taken down."""
        return self.stands and len(self.query(_ALL)) == _ALL.count("#")

    def _show_tree(self) -> None:
        modules = self._described.modules if self._described is not None else ()
        self.query_one(ModuleTree).show_tree(tree_of(self._store.view, modules))

    def _show_measures(self, measured: LayersMeasured) -> None:
        self._measured = measured
        self._show_figures()

    def _show_figures(self) -> None:
        view = self._store.view
        factors = view.point.group_rate_factors if view.point is not None else ()
        states = LayerStates(view.layers, view.pending.values())
        figures = Figures(states, self._measured, rate_factors(view.layers, factors), self._audits.wrong)
        self.query_one(ModuleRows).show_figures(figures)
        self._show_title_of_layer()

    def _show_lines(self) -> None:
        if not self._stands:
            return
        view, width = self._store.view, self.size.width
        self.query_one("#layers-title", StyledLine).show(title(view))
        self.query_one("#layers-totals", StyledLine).show(totals(view, self._described, self._problem, width))
        refused = view.refusal
        said = self._hint
        if not said and refused is not self._old_refusal and refused is not None:
            said = refused.reason if isinstance(refused.command, SetFrozen | SetFrozenNorm) else ""
        self.query_one("#layers-notes", StyledLine).show(notes(view, width, said))

    def _say(self, hint: str) -> None:
        if hint != self._hint:
            self._hint = hint
            self._show_lines()

    # -- freezing -------------------------------------------------------------------------------------------

    def on_module_tree_toggled(self, message: ModuleTree.Toggled) -> None:
        """Freeze or unfreeze at the next step."""
        message.stop()
        command = LayerStates(self._store.view.layers).toggled(message.layers)
        if command is None:
            self._say("nothing here can be frozen: it has no parameters, or the forward pass bypasses it")
        else:
            self._order(command)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The switch for normalisation layers is there where such are."""
        if action == "norm" and not any(group.norm for group in self._store.view.layers):
            return False
        return super().check_action(action, parameters)

    def why_not(self, action: str, parameters: tuple[object, ...]) -> str:
        """What the run does not obey now cannot be asked for."""
        reason = self._store.view.refusal_of(SetFrozenNorm) if action == "norm" else None
        return f"frozen norm: {reason}" if reason is not None else super().why_not(action, parameters)

    def action_norm(self) -> None:
        """Switch what the normalisation layers of frozen layers do."""
        self._order(SetFrozenNorm(trains=not self._store.view.norm_trains))

    def _order(self, command: SetFrozen | SetFrozenNorm) -> None:
        why_not = self._store.view.refusal_of(type(command))
        if why_not is not None:
            self._say("")
            self.app.post_message(ShowToast(f"Not now: {why_not}", "refusal", warns=True))
        else:
            self._old_refusal = self._store.view.refusal
            self._send(command)
            self._show()

    # -- the chosen layer -----------------------------------------------------------------------------------

    def on_freeze_rows_highlighted(self, message: ModuleRows.Highlighted) -> None:
        """Show which layer is chosen; look into it once the cursor rests."""
        message.stop()
        self._say("")
        self._choose()

    def on_layer_pane_view_chosen(self, message: LayerPane.ViewChosen) -> None:
        """Show another view of the layer."""
        message.stop()
        self.action_view(message.view)

    def action_view(self, view: str) -> None:
        """Show `view` of the layer; once more: ask for it anew."""
        if view == self._view:
            self._look = None
        if view == AUDIT and (view == self._view or self._audits.answer is None):
            self._audits.ask(self._store.view.refusal_of(AuditParameters), self._store.view.step)
        self._view = view
        self._say("")
        self._choose()

    def _choose(self) -> None:
        if not self._stands:
            return
        node = self.query_one(ModuleRows).chosen
        pane = self.query_one(LayerPane)
        possible = (*(node.views or ()), AUDIT) if node is not None else ()
        pane.show_views(self._view, possible, (AUDIT,) if self._audits.is_waiting else ())
        self.set_class(self._view in _OF_IMAGE, "-maps")
        self._show_title_of_layer()
        if self._rest is not None:
            self._rest.stop()
        self._rest = self.set_timer(_REST_SECONDS, self._look_into)

    def _show_title_of_layer(self) -> None:
        if not self._stands:
            return
        node = self.query_one(ModuleRows).chosen
        pane = self.query_one(LayerPane)
        width = pane.content_size.width
        pane.show_layer(Content("") if node is None else title_of(node, self._measured, width))

    def _look_into(self) -> None:
        """Ask about the layer that the cursor rests on, unless that was done."""
        if not self._stands:
            return
        node = self.query_one(ModuleRows).chosen
        pane = self.query_one(LayerPane)
        look = None
        if node is None:
            pane.say(no_layers(self._store.view))
        elif self._view == AUDIT:
            pane.show_audit(self._audits, node.path)
        elif node.views is None:
            pane.say(self._problem or ASKING)
        elif self._view not in node.views:
            pane.say(not_to_be_seen(node, self._view))
        else:
            look = Look(node.path, self._view, self._index if self._view in _OF_IMAGE else 0)
        if look is None or look != self._look:
            self._look = look
            self._queries.look(look)
            if look is not None:
                pane.wait_for(look)
        self._show_image()

    def _show_look(self, reply: Reply) -> None:
        if self._look is not None:
            self.query_one(LayerPane).show_reply(self._look, reply)

    def _show_audit(self) -> None:
        self._show_figures()
        self._choose()

    def on_thumbnail_grid_needed(self, message: ThumbnailGrid.Needed) -> None:
        """Fetch the pages that are in sight."""
        message.stop()
        self._queries.need(message.first, message.last)

    def on_thumbnail_grid_chosen(self, message: ThumbnailGrid.Chosen) -> None:
        """Give the images the whole screen, or less again."""
        message.stop()
        self.action_zoom()

    def on_module_tree_opened(self, message: ModuleTree.Opened) -> None:
        """Give the look into the layer the whole screen."""
        message.stop()
        if not self.has_class("-enlarged"):
            self.action_zoom()

    # -- the test image -------------------------------------------------------------------------------------

    def action_step_image(self, by: int) -> None:
        """Take the next or the previous test image."""
        self._take_image(self._index + by)

    def action_type_image(self) -> None:
        """Let the number of a test image be typed."""
        if self._view in _OF_IMAGE:
            self.query_one(ImageChooser).type()
        else:
            self._say_independent()

    def on_image_chooser_stepped(self, message: ImageChooser.Stepped) -> None:
        """Take the image beside."""
        message.stop()
        self.action_step_image(message.by)

    def on_image_chooser_typed(self, message: ImageChooser.Typed) -> None:
        """Take the image that was typed."""
        message.stop()
        self.query_one(ModuleRows).focus()
        self._take_image(message.index)

    def on_image_chooser_left(self, message: ImageChooser.Left) -> None:
        """Give the keys back to the modules."""
        message.stop()
        if self.focused is not None and self.focused.id == "image-number":
            self.query_one(ModuleRows).focus()

    def _take_image(self, index: int) -> None:
        data = self._store.view.data
        part = self._store.view.watched
        count = data.sizes.get(part, 0) if data is not None else 0
        if self._view not in _OF_IMAGE:
            self._say_independent()
        elif not 0 <= index < count:
            self._say(f"there are {count:,} {part} images, numbered from 0")
        else:
            self._index = index
            self._say("")
            self.query_one(LayerPane).show_index(index)
            self._choose()

    def _say_independent(self) -> None:
        part = self._store.view.watched
        self._say(f"filters and weights are the same for every {part} image; views 2 and 4 depend on it")

    def _show_image(self) -> None:
        """Show the test image where there is room for it."""
        if not self._stands:
            return
        pane = self.query_one(LayerPane)
        if self._look is None or self._view not in _OF_IMAGE or not pane.shows_image:
            return
        found = self._images.get(self._index)
        pane.show_image(None if isinstance(found, str) else found, found if isinstance(found, str) else "…")
        if found is None:
            self._images.need((self._index,))

    # -- the screen -----------------------------------------------------------------------------------------

    def action_zoom(self) -> None:
        """Give the look the whole screen, or show the modules again."""
        self.toggle_class("-enlarged")
        if self.has_class("-enlarged"):
            self.query_one(LayerPane).focus_look()
        else:
            self.query_one(ModuleRows).focus()

    def action_log_axis(self) -> None:
        """Switch the heights of the histogram between linear and logarithmic."""
        self.query_one(Histogram).toggle_log()

    def action_back(self) -> None:
        """Go back: to the modules, or to the run."""
        if self.has_class("-enlarged"):
            self.action_zoom()
        else:
            self.dismiss(None)
