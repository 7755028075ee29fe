"""The keys of a screen, in its last line."""

from collections.abc import Callable, Container, Mapping, Sequence
from typing import NamedTuple

from textual import events
from textual.binding import ActiveBinding
from textual.content import Content
from textual.screen import Screen

from finetui.tui.keys import NAMES
from finetui.tui.widgets.styled_line import StyledLine

_HOVER = " on $button-hover"
_ROOMY = 100  # cells, below which the key of the palette has no label: what the screen can do needs the room


class _Key(NamedTuple):
    """One key as it is shown: what is simulated when it is clicked, how it is written, and what it does."""

    key: str
    face: str
    label: str
    enabled: bool


class KeyBar(StyledLine):
    """Shows the keys that the screen and its focused widget have now; a click presses one.

    Textual's own footer is taken apart and built again, from a widget for each key, whenever the focus moves: 25 ms,
    which is more than all else that a key does.
    """

    DEFAULT_CSS = """
    KeyBar { dock: bottom; background: $surface; }
    """

    def __init__(
        self,
        *,
        palette: bool = False,
        unshown: Callable[[], Container[str]] = tuple,
        first: Sequence[str] = (),
        labels: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """With `palette` the key of the command palette stands at the right; actions in `unshown()` have no use now.

        The keys called `first` in the key map come first, in that order, but for those of the focused widget.
        Actions in `labels()` are called that now.
        """
        super().__init__()
        self._labels = labels
        self._order = {name: place for place, name in enumerate(first)}
        self._with_palette = palette
        self._unshown = unshown
        self._keys: tuple[_Key, ...] = ()
        self._fitting: tuple[_Key, ...] = ()
        self._palette: _Key | None = None
        self._pointed: _Key | None = None
        self._end = 0  # where the palette's key begins
        self._gap = " "  # behind a key; where there is little room, none

    def on_mount(self) -> None:
        """Hear when the keys change."""
        self.screen.bindings_updated_signal.subscribe(self, self._on_bindings)

    def on_unmount(self) -> None:
        """Hear no more."""
        self.screen.bindings_updated_signal.unsubscribe(self)

    def _on_bindings(self, screen: Screen[object]) -> None:
        if not (screen.app.app_focus and self.is_attached and screen is self.screen):
            return
        keys: dict[str, _Key] = {}
        palette = None
        unshown, labels = self._unshown(), self._labels()
        for _, binding, enabled, _ in sorted(screen.active_bindings.values(), key=self._place):
            label = labels.get(binding.action, binding.description)
            key = _Key(binding.key, self.app.get_key_display(binding), label, enabled)
            if binding.key == self.app.COMMAND_PALETTE_BINDING:
                palette = key if self._with_palette else None
            elif binding.show and binding.action not in unshown:
                keys.setdefault(binding.action, key)
        self._keys, self._palette = tuple(keys.values()), palette
        self._draw()

    def _place(self, active: ActiveBinding) -> int:
        """Return where a key comes: those of a focused widget before all, and the rest behind the ordered ones."""
        if active.node is not self.screen and active.node is not self.app:
            return -1
        return self._order.get(NAMES.get(active.binding.key, ""), len(self._order))

    def on_resize(self) -> None:
        """Use the new width."""
        self._draw()

    def _draw(self) -> None:
        self._gap = " "
        end = Content("")
        if self._palette is not None:
            end = Content.assemble(("│", "$frame"), self._part(self._palette))
        room = self.size.width - end.cell_length
        if sum(self._part(key).cell_length for key in self._keys) > room:
            self._gap = ""
        parts: list[Content] = []
        for key in self._keys:  # whole ones only; the help has them all
            part = self._part(key)
            if part.cell_length > room:
                break
            room -= part.cell_length
            parts.append(part)
        self._fitting = self._keys[: len(parts)]
        self._end = self.size.width - end.cell_length
        self.show(Content.assemble(*parts, " " * max(room, 0), end))

    def _part(self, key: _Key) -> Content:
        hover = _HOVER if key == self._pointed else ""
        face, label = ("bold $accent", "$foreground") if key.enabled else ("$disabled", "$disabled")
        text = "" if key is self._palette and self.size.width < _ROOMY else f"{key.label}{self._gap}"
        return Content.assemble((f" {key.face} ", face + hover), (text, label + hover))

    def _key_at(self, x: int) -> _Key | None:
        if self._palette is not None and x >= self._end:
            return self._palette
        for key in self._fitting:
            x -= self._part(key).cell_length
            if x < 0:
                return key
        return None

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Mark the key below the pointer."""
        self._point(self._key_at(event.x))

    def on_leave(self) -> None:
        """Mark none."""
        self._point(None)

    def _point(self, key: _Key | None) -> None:
        if key != self._pointed:
            self._pointed = key
            self._draw()

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Press the key below the pointer."""
        key = self._key_at(event.x)
        if key is None:
            return
        self.app.simulate_key(key.key)  # a disabled one says why
        if not key.enabled:
            self.app.bell()
