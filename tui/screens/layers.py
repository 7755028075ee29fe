"""The layer table on a screen of its own, with all of its columns."""

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Footer, Static

from engine.commands import AnyCommand, SetFrozen, SetFrozenNorm
from tui.store import Store, View
from tui.widgets.layer_list import LayerList

_POLL_SECONDS = 0.25


class LayersScreen(ModalScreen[None]):
    """Shows the layers of the run in `store`; `send` takes its commands."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,g,q", "dismiss", "Back", key_display="esc"),
        Binding("m", "norm", "Norm of frozen layers"),
    ]

    def __init__(self, store: Store, send: Callable[[AnyCommand], None]) -> None:
        super().__init__()
        self._store = store
        self._send = send
        self._shown: View | None = None

    def compose(self) -> ComposeResult:
        """Title, table, switch."""
        with Vertical(id="box"):
            yield Static(id="title")
            yield LayerList()
            yield Static(id="text")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Begin to follow the run."""
        self.query_one("#layer-options").focus()
        self.set_interval(_POLL_SECONDS, self._show)
        self._show()

    def _show(self) -> None:
        view = self._store.view
        if view is self._shown:
            return
        before, self._shown = self._shown, view
        self.query_one(LayerList).show(view)
        if before is not None and before.layers is view.layers and before.effect is view.effect:
            return
        trainable = sum(group.trainable for group in view.layers)
        title = Content.assemble(
            ("Layers", "bold $accent"),
            f"  {trainable:,} of {view.parameters:,} parameters train",
            (_effect(view), "$muted"),
        )
        self.query_one("#title", Static).update(title)
        norm = "go on collecting statistics" if view.norm_trains else "use and keep their running statistics"
        has_norm = any(group.norm for group in view.layers)
        self.query_one("#text", Static).update(
            Content.styled(f"Normalisation layers that are frozen {norm} (m)." if has_norm else "", "$muted")
        )

    def on_layer_list_toggled(self, message: LayerList.Toggled) -> None:
        """Freeze or unfreeze at the next step."""
        message.stop()
        self._send(SetFrozen(groups=message.groups, layers=message.layers, frozen=message.frozen))
        self._show()

    def action_norm(self) -> None:
        """Switch what the normalisation layers of frozen layers do."""
        self._send(SetFrozenNorm(trains=not self._store.view.norm_trains))


def _effect(view: View) -> str:
    """Return what the latest change of layers did to the speed."""
    if view.effect is None:
        return ""
    return f"  ·  {view.effect.speed_before:,.0f} → {view.effect.speed_after:,.0f} img/s"
