"""The layer groups with a freeze toggle each."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from engine.commands import SetFrozen
from engine.events import LayerGroup
from tui.store import View
from tui.widgets.styled_line import StyledLine

_NAME_WIDTH = 11


class _Options(OptionList):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("space", "select", "Freeze or unfreeze", show=False)]


class LayerList(Vertical):
    """Shows each layer group, its parameters, and whether it trains; Enter, Space or a click toggles it."""

    DEFAULT_CSS = """
    LayerList {
        height: 1fr;
        min-height: 3;
        #layer-heading { color: $muted; text-style: bold; }
        _Options {
            height: 1fr;
            border: none;
            padding: 0;
            background: transparent;
            scrollbar-size-vertical: 1;
            & > .option-list--option-highlighted { background: transparent; text-style: none; color: $foreground; }
            & > .option-list--option { padding: 0; }
        }
        _Options:focus {
            border: none;
            & > .option-list--option-highlighted { background: $accent 30%; text-style: bold; color: $foreground; }
        }
    }
    """

    class Toggled(Message):
        """Somebody wants the group `name` to be frozen or not."""

        def __init__(self, name: str, frozen: bool) -> None:
            super().__init__()
            self.name = name
            self.frozen = frozen

    def __init__(self) -> None:
        super().__init__(id="layers")
        self._layers: tuple[LayerGroup, ...] = ()
        self._waiting: dict[str, bool] = {}

    def compose(self) -> ComposeResult:
        """A heading and the list."""
        heading = f"   {'layers':<{_NAME_WIDTH}}{'parameters':>11}"
        yield StyledLine(Content(heading), id="layer-heading")
        yield _Options(id="layer-options")

    def show(self, view: View) -> None:
        """Bring the list up to date with `view`."""
        waiting = {
            name: command.frozen
            for command in view.pending.values()
            if isinstance(command, SetFrozen)
            for name in command.groups
        }
        if (view.layers, waiting) == (self._layers, self._waiting):
            return
        options = self.query_one(_Options)
        same_names = [layer.name for layer in view.layers] == [layer.name for layer in self._layers]
        self._layers, self._waiting = view.layers, waiting
        if same_names:
            for index, layer in enumerate(view.layers):
                options.replace_option_prompt_at_index(index, self._row(layer))
        else:
            options.clear_options()
            options.add_options([Option(self._row(layer)) for layer in view.layers])
            options.highlighted = 0 if view.layers else None

    def _row(self, layer: LayerGroup) -> Content:
        name = Content(layer.name).truncate(_NAME_WIDTH - 1, ellipsis=True, pad=True)
        count = f" {layer.parameters:>11,}  "
        if layer.name in self._waiting:
            word = "freezing …" if self._waiting[layer.name] else "thawing …"
            return Content.assemble(" ◌ ", name, count, (word, "$accent"))
        if not layer.in_use:
            return Content.assemble((" · ", "$muted"), name.stylize("$muted"), (f"{count}bypassed", "$muted"))
        if layer.frozen:
            return Content.assemble(" ■ ", name, count, "frozen")
        return Content.assemble((" □ ", "$accent"), name, count, ("trains", "$accent"))

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        """Ask for the opposite of what is."""
        message.stop()
        layer = self._layers[message.option_index]
        self.post_message(self.Toggled(layer.name, not layer.frozen))
