"""The help: what a screen shows, and its keys."""

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.dom import DOMNode
from textual.geometry import Size
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from finetui.tui.keys import KEYS, MOVES, NAMES, bind, parts
from finetui.tui.screens.base import ModalScreen
from finetui.tui.unavailable import why_not

_COMMON = ("Everywhere", "Screens")  # told last
_KEYS = 10  # cells, for the key before each line
_Line = tuple[str, str]  # a key as it is written, and what it does; without a key: a heading


class _Column(Widget):
    """Shows `lines`, keys on the left, as one widget: to style and lay out two for each takes 0.2 s."""

    def __init__(self, lines: Sequence[_Line]) -> None:
        super().__init__(classes="column")
        self._lines = lines
        self._rendered: tuple[int, Content] = 0, Content("")

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as there are once they are wrapped."""
        return self._in(width).plain.count("\n") + 1

    def render(self) -> Content:
        """Return the lines, wrapped beside their keys."""
        return self._in(self.size.width)

    def _in(self, width: int) -> Content:
        if self._rendered[0] != width:
            told: list[Content] = []
            for key, text in self._lines:
                if not key:
                    told += [Content(""), Content.styled(f"{'':{_KEYS}}{text}", "bold $muted")]
                    continue
                wrapped = wrap(text, max(width - _KEYS, 1), break_on_hyphens=False) or [""]
                told.append(Content.assemble((f"{key:>8}".ljust(_KEYS), "bold $accent"), wrapped[0]))
                told += [Content(f"{'':{_KEYS}}{more}") for more in wrapped[1:]]
            self._rendered = width, Content("\n").join(told)
        return self._rendered[1]


class HelpScreen(ModalScreen[None]):
    """Explains the screen `about`; Escape, Enter, q and its own key close it."""

    CSS_PATH = "box.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-broad")]
    BINDINGS: ClassVar[list[BindingType]] = [
        bind("help", "back", show=False),
        bind("confirm", "back", label="Close"),
        bind("close", show=False),
    ]

    def __init__(self, about: Screen[Any]) -> None:
        super().__init__()
        self._title = getattr(about, "help_title", "") or "Keys"
        self._introduction: str = getattr(about, "INTRODUCTION", "")
        self._lines = told(about)

    def compose(self) -> ComposeResult:
        """A sentence, the keys in one or two columns, and the rest of what there is to say."""
        first, _, rest = self._introduction.partition("\n\n")
        half = -(-len(self._lines) // 2)
        half -= half > 0 and not self._lines[half - 1][0]  # a heading stands above its keys
        with VerticalScroll(id="box"):
            yield Static(Content.styled(self._title, "bold $accent"), id="title")
            if first:
                yield Static(Content(first), id="text")
            with Horizontal(id="keys"):
                yield _Column(self._lines[:half])
                yield _Column(self._lines[half:])
            if rest:
                yield Static(Content(rest), id="more")


def told(about: Screen[Any]) -> list[_Line]:
    """Return how each key that works on the screen `about` is written, and what it does, those of its own first."""
    found, reasons = _bindings(about)
    by_name: dict[str, list[Binding]] = {}
    for key, bindings in found.items():
        if key in NAMES:
            by_name.setdefault(NAMES[key], []).extend(bindings)
    lines = [*_moves(found)]
    for part, names in sorted(parts().items(), key=lambda one: one[0] in _COMMON):
        told_here = [(KEYS[name].shown, _words(name, by_name[name], reasons)) for name in names if name in by_name]
        lines += [("", part), *told_here] if told_here else []
    return lines


def _bindings(about: Screen[Any]) -> tuple[dict[str, list[Binding]], dict[Binding, str]]:
    """Return what each key means on `about`: to what has the focus, or can have it, to the screen, and to the app.

    The second dictionary says of those that cannot be used now why.
    """
    nodes: dict[DOMNode, None] = {}
    for widget in (about.focused, *about.focus_chain, about):
        nodes |= dict.fromkeys(node for node in (widget.ancestors_with_self if widget else ()) if node is not about.app)
    if not about.is_modal:
        nodes[about.app] = None
    found: dict[str, list[Binding]] = {}
    reasons: dict[Binding, str] = {}
    for node in nodes:
        for key, bindings in node._bindings.key_to_bindings.items():
            ours = [one for one in bindings if one.tooltip or key in MOVES]  # a text field has keys of its own
            works = [one for one in ours if about.app._check_action_state(one.action, node) is not False]
            found.setdefault(key, []).extend(works)
            reasons |= {one: reason for one in works if (reason := why_not(about.app, one.action, node))}
    return {key: bindings for key, bindings in found.items() if bindings}, reasons


def _words(name: str, bindings: list[Binding], reasons: Mapping[Binding, str]) -> str:
    """Return what the key `name` does: in words of its own where it does one thing here, else in the table's.

    Where nothing of that can be done now, the reason follows.
    """
    own = {binding.tooltip for binding in bindings}
    words = own.pop() if len(own) == 1 and own != {""} else KEYS[name].help
    refused = all(binding in reasons for binding in bindings)
    # Elsewhere the reason begins with what was asked for, which stands before it here.
    return f"{words}. Not now: {reasons[bindings[0]].removeprefix(f'{KEYS[name].label}: ')}" if refused else words


def _moves(found: dict[str, list[Binding]]) -> Iterator[_Line]:
    """Yield the keys that move the cursor, or do something else where the cursor is."""
    moving = [key for key in MOVES if key in found and len(key) > 1]
    labelled: dict[str, list[str]] = {}
    for key in moving:
        labels = {binding.tooltip for binding in found[key]} - {""}
        for label in labels:
            labelled.setdefault(label, []).append(MOVES[key])
    arrows = [MOVES[key] for key in moving if key in ("up", "down", "left", "right")]
    others = [MOVES[key] for key in moving if key in ("pageup", "pagedown", "home", "end")]
    if arrows or others:
        yield "".join(arrows) or "PgUp", "Move" + (f"; also {', '.join(others)}" if arrows and others else "")
    for label, keys in labelled.items():
        yield " ".join(keys), label
    if "tab" in found:
        yield "Tab", "Next control; shift+Tab for the previous one"
