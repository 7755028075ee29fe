"""The layer table: groups that open to their layers, with a freeze toggle each."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message

from finetui.engine.protocol.commands import SetFrozen, StartFinetune
from finetui.tui.keys import KEYS, move
from finetui.tui.state.empty import no_layers
from finetui.tui.state.layer_tree import Freeze
from finetui.tui.state.view import View
from finetui.tui.widgets.action_button import ActionButton
from finetui.tui.widgets.freeze_tree import SIGNS, FreezeRows, FreezeTree

_MARK = 2  # cells before the name: open or closed
_COUNT, _STATUS = 11, 15  # widths of the columns
# What stands before the word, as on a form: ticked is frozen.
_BOXES: Mapping[Freeze, str] = {"trains": "[ ]", "frozen": "[x]", "partly": "[-]", "freezing": "[x]", "thawing": "[ ]"}
_MIN_NAME, _MAX_NAME = 8, 34


class LayerRow(NamedTuple):
    """A row: a group, or a layer of one (`depth` 1)."""

    key: str
    name: str
    shown: str
    depth: int
    is_parent: bool
    parameters: int
    frozen: bool
    in_use: bool
    state: Freeze


def layer_rows(view: View) -> tuple[LayerRow, ...]:
    """Return the rows for `view`, those of every group's layers included where it has several."""
    asked = [command for command in view.pending.values() if isinstance(command, SetFrozen)]
    waiting = {name: command.frozen for command in asked for name in command.groups}
    waiting_layers = {name: command.frozen for command in asked for name in command.layers}
    rows: list[LayerRow] = []
    for group in view.layers:
        several = len(group.layers) > 1
        partly = any(layer.frozen for layer in group.layers)
        rows.append(
            LayerRow(
                key=group.name,
                name=group.name,
                shown=group.name,
                depth=0,
                is_parent=several,
                parameters=group.parameters,
                frozen=group.frozen,
                in_use=group.in_use,
                state=_state(waiting.get(group.name), group.in_use, group.frozen, partly),
            )
        )
        for layer in group.layers if several else ():
            rows.append(
                LayerRow(
                    key=f"{group.name}.{layer.name}",
                    name=layer.name,
                    shown=layer.name.removeprefix(f"{group.name}."),
                    depth=1,
                    is_parent=False,
                    parameters=layer.parameters,
                    frozen=layer.frozen,
                    in_use=group.in_use,
                    state=_state(waiting_layers.get(layer.name), group.in_use, layer.frozen),
                )
            )
    return tuple(rows)


def _state(waiting: bool | None, in_use: bool, frozen: bool, partly: bool = False) -> Freeze:
    """Return what a row says; `waiting` is what was asked for and not answered yet."""
    if waiting is not None:
        return "freezing" if waiting else "thawing"
    if not in_use:
        return "bypassed"
    return "frozen" if frozen else "partly" if partly else "trains"


class LayerRows(FreezeRows[LayerRow]):
    """The rows: groups, all closed at first."""

    BINDINGS: ClassVar[list[BindingType]] = [move("right,left", "open", "Open")]

    def folded_at_first(self, rows: Sequence[LayerRow]) -> set[str]:
        """Return the keys of the groups that can be opened, and could not before."""
        return {row.key for row in rows if row.is_parent} - {row.key for row in self._all if row.is_parent}

    def page_size(self) -> int:
        """Return the same for every height: few rows are in sight."""
        return 10

    def _name_width(self, width: int) -> int:
        longest = max((len(row.shown) + 2 * row.depth for row in self._rows), default=_MIN_NAME)
        return max(_MIN_NAME, min(longest + 1, width - _MARK - _COUNT - _STATUS, _MAX_NAME))

    def line_of(self, row: LayerRow, width: int) -> Content:
        """Return name, parameters and state."""
        name_width = self._name_width(width)
        _, word, style = SIGNS[row.state]
        word = f"{word}…" if row.state in ("freezing", "thawing") else word
        frozen = row.state in ("frozen", "freezing")
        mark = " " if not row.is_parent else "▸" if row.key in self._folded else "▾"
        look = style if frozen else "" if row.in_use else "$muted"
        name = f"{'  ' * row.depth}{_shortened(row.shown, name_width - 1 - 2 * row.depth)}".ljust(name_width)
        pieces: list[tuple[str, str]] = [
            (f"{mark:<{_MARK}}", "$muted"),
            (name, look),
            (f"{row.parameters:>{_COUNT},} ", look),
            (f"{_BOXES.get(row.state, '   ')} {word}".ljust(_STATUS - 1), f"{style} bold" if frozen else style),
        ]
        return Content.assemble(*pieces)

    def heading(self) -> str:
        """Return the line above the rows: what can be done with them."""
        titled = self.parent is not None and bool(self.parent.styles.border_top[0])  # by its frame
        if not self._rows:
            return "" if titled else "Layers"
        words = f"{KEYS['freeze_layers'].shown} to go here, {KEYS['toggle'].shown} to freeze"
        return words if titled else f"Layers: {words}"

    def hit(self, row: LayerRow, x: int) -> str:
        """Return "mark" for that of a group which opens; all else is about its state."""
        return "mark" if x == 0 and row.is_parent else "state"

    def action_open(self) -> None:
        """Show or hide the layers of the group."""
        group = self._group()
        if group is not None and group.is_parent:
            self.turn(group)

    def _group(self) -> LayerRow | None:
        """Return the group that the cursor is in."""
        return next((row for row in reversed(self._rows[: self._index() + 1]) if row.depth == 0), None)

    def action_freeze(self) -> None:
        """Freeze or unfreeze the row."""
        if self.chosen is not None:
            self._ask((self.chosen,))

    def action_freeze_side(self, side: int) -> None:
        """Freeze everything above or below the cursor; unfreeze it where all of it is frozen."""
        here, own = self._index(), self._group()
        rows = self._rows[:here] if side < 0 else self._rows[here + 1 :]
        # A group above the cursor whose layers are listed stands for them, but the cursor's own group does not.
        self._ask([row for row in rows if row.in_use and (own is None or row.name != own.name)])

    def _ask(self, rows: Sequence[LayerRow]) -> None:
        if rows:
            frozen = not all(row.frozen for row in rows)
            groups, layers = (tuple(row.name for row in rows if row.depth == depth) for depth in (0, 1))
            self.post_message(LayerList.Toggled(groups, layers, frozen))


def _shortened(name: str, width: int) -> str:
    """Return `name` in at most `width` characters; its end tells more than its beginning."""
    return name if len(name) <= width else f"…{name[len(name) - width + 1 :]}"


class LayerList(FreezeTree):
    """Shows each layer group and whether it trains; Space or a click toggles it, Enter or → opens it.

    Below stand the two buttons that go with it: freeze the one under the cursor, and start a finetune.
    """

    DEFAULT_CSS = """
    LayerList {
        height: 1fr;
        min-height: 3;
        #layer-buttons { height: 1; }
        #freeze { width: 1fr; }
        #finetune { width: 14; margin-left: 1; }
    }
    """

    class Toggled(Message):
        """Somebody wants `groups` and `layers` to be frozen or not."""

        def __init__(self, groups: tuple[str, ...], layers: tuple[str, ...], frozen: bool) -> None:
            super().__init__()
            self.groups = groups
            self.layers = layers
            self.frozen = frozen

    def __init__(self) -> None:
        self.rows = LayerRows(id="layer-options")
        super().__init__(self.rows, id="layers")
        self._view = View()

    def compose(self) -> ComposeResult:
        """The heading and the rows, and below them the buttons."""
        yield from super().compose()
        with Horizontal(id="layer-buttons"):
            yield ActionButton("freeze", KEYS["freeze_layers"].shown, "Freeze", id="freeze")
            yield ActionButton("finetune", KEYS["finetune"].shown, "Finetune", id="finetune")

    def show(self, view: View) -> None:
        """Bring the table up to date with `view`."""
        before, self._view = self._view, view
        if view.layers is not before.layers or view.pending is not before.pending:
            self.rows.show_tree(layer_rows(view))
        self.rows.refusal = view.refusal_of(SetFrozen) or ""
        self.rows.say(no_layers(view))
        self._show_buttons()

    def _show_buttons(self) -> None:
        row = self.rows.chosen
        words = "Freeze" if row is None else f"{'Unfreeze' if row.frozen else 'Freeze'} {row.name}"
        possible = row is not None and row.in_use and not self.rows.refusal
        freeze, finetune = self.query_one("#freeze", ActionButton), self.query_one("#finetune", ActionButton)
        freeze.show("freeze", KEYS["freeze_layers"].shown, words, available=possible, pending=False)
        can, asked = self._view.refusal_of(StartFinetune) is None, self._view.pending.values()
        pending = any(isinstance(command, StartFinetune) for command in asked)
        finetune.show("finetune", KEYS["finetune"].shown, "Finetune", available=can, pending=pending)

    def on_freeze_rows_highlighted(self, message: FreezeRows.Highlighted) -> None:
        """Name the layer under the cursor on the button."""
        message.stop()
        self._show_buttons()

    def on_action_button_pressed(self, message: ActionButton.Pressed) -> None:
        """Freeze the layer that the button names; the other button is for the screen."""
        if message.action == "freeze":
            message.stop()
            self.rows.focus()
            self.rows.call_next(self.rows.action_freeze)  # what it posts from in here would not get beyond this list

    def freeze(self) -> None:
        """Go to the list; who is there already freezes the layer under the cursor, or unfreezes it."""
        if self.rows.has_focus:
            self.rows.action_freeze()
        self.rows.focus()
