"""The layer table: groups that open to their layers, with a freeze toggle each."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Region
from textual.message import Message

from finetui.engine.protocol.commands import SetFrozen
from finetui.tui.state.store import View
from finetui.tui.widgets.lines_view import LinesView
from finetui.tui.widgets.styled_line import StyledLine

_MARKS = 3  # cells before the name: open or closed, frozen or not
_COUNT, _STATUS = 11, 12  # widths of the columns
_MIN_NAME, _MAX_NAME = 8, 34


class LayerRow(NamedTuple):
    """A visible row: a group, or a layer of an open group (`depth` 1)."""

    name: str
    shown: str
    depth: int
    opened: bool | None  # None: nothing to open
    parameters: int
    frozen: bool
    partly: bool
    in_use: bool
    waiting: bool | None  # what was asked for and not answered yet
    cursor: bool


def layer_rows(view: View, opened: frozenset[str], cursor: tuple[int, str]) -> tuple[LayerRow, ...]:
    """Return the rows for `view`, of which `opened` names the open groups."""
    asked = [command for command in view.pending.values() if isinstance(command, SetFrozen)]
    waiting = {name: command.frozen for command in asked for name in command.groups}
    waiting_layers = {name: command.frozen for command in asked for name in command.layers}
    rows: list[LayerRow] = []
    for group in view.layers:
        several = len(group.layers) > 1
        is_open = group.name in opened
        rows.append(
            LayerRow(
                name=group.name,
                shown=group.name,
                depth=0,
                opened=is_open if several else None,
                parameters=group.parameters,
                frozen=group.frozen,
                partly=not group.frozen and any(layer.frozen for layer in group.layers),
                in_use=group.in_use,
                waiting=waiting.get(group.name),
                cursor=cursor == (0, group.name),
            )
        )
        for layer in group.layers if is_open and several else ():
            rows.append(
                LayerRow(
                    name=layer.name,
                    shown=layer.name.removeprefix(f"{group.name}."),
                    depth=1,
                    opened=None,
                    parameters=layer.parameters,
                    frozen=layer.frozen,
                    partly=False,
                    in_use=group.in_use,
                    waiting=waiting_layers.get(layer.name),
                    cursor=cursor == (1, layer.name),
                )
            )
    return tuple(rows)


def _name_width(width: int, longest: int) -> int:
    return max(_MIN_NAME, min(longest + 1, width - _MARKS - _COUNT - _STATUS, _MAX_NAME))


class LayerRows(LinesView[LayerRow]):
    """The rows and the cursor in them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space,enter", "freeze", "Freeze", key_display="␣"),
        Binding("a", "toggle_side(-1)", "All above"),
        Binding("b", "toggle_side(1)", "All below"),
        Binding("right,left", "open", "Open", key_display="→"),
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "move(-10)", "Page up", show=False),
        Binding("pagedown", "move(10)", "Page down", show=False),
        Binding("home", "move(-100000)", "First", show=False),
        Binding("end", "move(100000)", "Last", show=False),
    ]
    longest = 0

    def content_of(self, row: LayerRow, width: int) -> Content:
        """Return name, parameters and state."""
        name_width = _name_width(width, self.longest)
        sign, word, style = _state(row)
        mark = " " if row.opened is None else "▾" if row.opened else "▸"
        muted = "" if row.in_use else "$muted"
        name = f"{'  ' * row.depth}{_shortened(row.shown, name_width - 1 - 2 * row.depth)}".ljust(name_width)
        pieces: list[tuple[str, str]] = [
            (mark, "$muted"),
            (f"{sign} ", style),
            (name, muted),
            (f"{row.parameters:>{_COUNT},}", muted),
            (f"  {word:<{_STATUS - 2}}", style),
        ]
        content = Content.assemble(*pieces)
        if row.cursor and self.has_focus:
            return content.truncate(width, pad=True).stylize("on $accent 30%").stylize("bold")
        return content

    def heading(self) -> str:
        """Return the line above the rows."""
        name_width = _name_width(self.scrollable_content_region.width, self.longest)
        return f"{'':{_MARKS}}{'layers':<{name_width}}{'parameters':>{_COUNT}}{'':{_STATUS}}"

    def on_focus(self) -> None:
        """Show the cursor."""
        self.refresh()

    def on_blur(self) -> None:
        """Hide the cursor."""
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """Toggle the row, or open the group whose mark was hit."""
        index = event.y + self.scroll_offset.y
        if not 0 <= index < len(self._rows):
            return
        event.stop()
        self.post_message(LayerList.CursorMoved((self._rows[index].depth, self._rows[index].name)))
        if event.x == 0 and self._rows[index].opened is not None:
            self.post_message(LayerList.Opened(self._rows[index].name))
        else:
            self._ask((self._rows[index],))

    def _cursor(self) -> int:
        return next((index for index, row in enumerate(self._rows) if row.cursor), 0)

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        if self._rows:
            index = min(max(self._cursor() + by, 0), len(self._rows) - 1)
            self.scroll_to_region(Region(0, index, 1, 1), animate=False, force=True)
            self.post_message(LayerList.CursorMoved((self._rows[index].depth, self._rows[index].name)))

    def action_freeze(self) -> None:
        """Freeze or unfreeze the row."""
        if self._rows:
            self._ask((self._rows[self._cursor()],))

    def action_toggle_side(self, side: int) -> None:
        """Freeze everything above or below the cursor; unfreeze it where all of it is frozen."""
        here = self._cursor()
        rows = self._rows[:here] if side < 0 else self._rows[here + 1 :]
        # A group above the cursor whose layers are listed stands for them, but the cursor's own group does not.
        own = next((row.name for row in reversed(self._rows[: here + 1]) if row.depth == 0), "")
        self._ask([row for row in rows if row.in_use and row.name != own])

    def _ask(self, rows: Sequence[LayerRow]) -> None:
        if rows:
            frozen = not all(row.frozen for row in rows)
            groups, layers = (tuple(row.name for row in rows if row.depth == depth) for depth in (0, 1))
            self.post_message(LayerList.Toggled(groups, layers, frozen))

    def action_open(self) -> None:
        """Show or hide the layers of the group."""
        here = self._cursor()
        for row in reversed(self._rows[: here + 1]):
            if row.depth == 0:
                if row.opened is not None:
                    self.post_message(LayerList.Opened(row.name))
                return


def _state(row: LayerRow) -> tuple[str, str, str]:
    """Return sign, word and style."""
    if row.waiting is not None:
        return "◌", "freezing …" if row.waiting else "thawing …", "$accent"
    if not row.in_use:
        return "·", "bypassed", "$muted"
    if row.frozen:
        return "■", "frozen", ""
    return ("◧", "partly", "$accent") if row.partly else ("□", "trains", "$accent")


def _shortened(name: str, width: int) -> str:
    """Return `name` in at most `width` characters; its end tells more than its beginning."""
    return name if len(name) <= width else f"…{name[len(name) - width + 1 :]}"


class LayerList(Vertical):
    """Shows each layer group and whether it trains; Enter, Space or a click toggles it, → opens it."""

    DEFAULT_CSS = """
    LayerList {
        height: 1fr;
        min-height: 3;
        #layer-heading { color: $muted; text-style: bold; }
    }
    """

    class Toggled(Message):
        """Somebody wants `groups` and `layers` to be frozen or not."""

        def __init__(self, groups: tuple[str, ...], layers: tuple[str, ...], frozen: bool) -> None:
            super().__init__()
            self.groups = groups
            self.layers = layers
            self.frozen = frozen

    class Opened(Message):
        """Somebody wants to see, or no longer see, the layers of the group `name`."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    class CursorMoved(Message):
        """The cursor goes to the row `place`: its depth and its name."""

        def __init__(self, place: tuple[int, str]) -> None:
            super().__init__()
            self.place = place

    def __init__(self) -> None:
        super().__init__(id="layers")
        self._view = View()
        self._opened: frozenset[str] = frozenset()
        self._cursor = (0, "")

    def compose(self) -> ComposeResult:
        """A heading and the rows."""
        yield StyledLine(id="layer-heading")
        yield LayerRows(id="layer-options")

    def on_resize(self) -> None:
        """Lay the columns out anew."""
        self._update()

    def show(self, view: View) -> None:
        """Bring the table up to date with `view`."""
        if view.layers is self._view.layers and view.pending is self._view.pending:
            return
        names = {group.name for group in view.layers}
        if view.layers and not names & {group.name for group in self._view.layers}:
            self._opened, self._cursor = frozenset(), (0, view.layers[0].name)
        if view.layers and not self._cursor[1]:
            self._cursor = (0, view.layers[0].name)
        self._view = view
        self._update()

    def _update(self) -> None:
        rows = self.query_one(LayerRows)
        found = layer_rows(self._view, self._opened, self._cursor)
        rows.longest = max((len(row.shown) + 2 * row.depth for row in found), default=_MIN_NAME)
        if found != rows._rows:
            rows.show(found)
        self.query_one("#layer-heading", StyledLine).show(Content(rows.heading()))

    def on_layer_list_opened(self, message: Opened) -> None:
        """Open or close a group."""
        message.stop()
        self._opened ^= {message.name}
        # The cursor stays on something that can be seen.
        if self._cursor[0] == 1 and message.name not in self._opened:
            self._cursor = (0, message.name)
        self._update()

    def on_layer_list_cursor_moved(self, message: CursorMoved) -> None:
        """Move the cursor."""
        message.stop()
        self._cursor = message.place
        self._update()
