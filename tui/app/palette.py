"""What the command palette offers: every action that a key stands for, with that key, and the themes."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from textual.app import App, SystemCommand
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.dom import DOMNode
from textual.screen import Screen
from textual.theme import ThemeProvider

from finetui.tui.keys import KEYS, NAMES, parts
from finetui.tui.state.actions import ACTIONS
from finetui.tui.unavailable import why_not

_FACE, _LABEL = 6, 16  # cells
# What a key does where the cursor is, or to the palette itself, has no meaning from here.
_NOT_HERE = frozenset(("back", "commands", "confirm", "toggle", "tab_number"))


class ThemesHere(ThemeProvider):
    """The themes that one can choose here: the present one, then finetui's own, then the others by name."""

    @property
    def commands(self) -> list[tuple[str, Callable[[], None]]]:
        """Each theme's name, and what puts it on."""
        app = self.app
        names = sorted(app.available_themes, key=lambda name: (name != app.theme, not name.startswith("finetui"), name))
        return [(name, partial(setattr, app, "theme", name)) for name in names]


class NotNow(SystemCommand):
    """A command that makes no sense now; its help says why."""


class Commands(Provider):
    """The app's commands, each in one line: its key, its name, what it does."""

    async def discover(self) -> Hits:
        """Yield all of them, in their order."""
        for command in self.app.get_system_commands(self.screen):
            yield DiscoveryHit(_line(command, Content(command.title)), command.callback, text=command.title)

    async def search(self, query: str) -> Hits:
        """Yield those whose name, or else whose explanation, has the letters of `query`."""
        matcher = self.matcher(query)
        for command in self.app.get_system_commands(self.screen):
            score = matcher.match(command.title)
            told = 0.0 if score or query.lower() not in command.help.lower() else 0.01
            if score or told:
                title = matcher.highlight(command.title) if score else Content(command.title)
                yield Hit(score or told, _line(command, title), command.callback, text=command.title)


def _line(command: SystemCommand, title: Content) -> Content:
    keys = {key.label: key.shown for key in KEYS.values()} | {action.label: action.key for action in ACTIONS}
    key = keys.get(command.title, "")
    gap = " " * max(_LABEL - title.cell_length, 1)
    if isinstance(command, NotNow):
        return Content.assemble(f"{key:>{_FACE}}  ", title, gap, command.help).stylize("$disabled")
    return Content.assemble((f"{key:>{_FACE}}  ", "bold $accent"), title, gap, (command.help, "not bold $muted"))


def command_of(app: App[Any], title: str, told: str, action: str, node: DOMNode) -> SystemCommand:
    """Return the command called `title` that does `action` of `node`; it says what it does, or why it cannot now."""
    kind, reason = (NotNow, found) if (found := why_not(app, action, node)) else (SystemCommand, told)
    return kind(title, reason, partial(app.run_action, action, node))


def key_commands(app: App[Any], *screens: Screen[Any]) -> Iterator[SystemCommand]:
    """Yield what the keys do on each of `screens`, and in `app`; of the same key, what it does on the first."""
    found: dict[str, tuple[str, DOMNode]] = {}
    for screen in dict.fromkeys(screens):
        for node in _nodes(screen, app):
            for key, bindings in node._bindings.key_to_bindings.items():
                name = NAMES.get(key, "")
                ours = name not in _NOT_HERE and bindings[0].tooltip  # a text field has keys of its own
                action = bindings[0].action
                if name and ours and (app._check_action_state(action, node) or why_not(app, action, node)):
                    found.setdefault(name, (action, node))
    for name in sorted(KEYS, key=parts()["Everywhere"].__contains__):
        if name in found:
            action, node = found[name]
            yield command_of(app, KEYS[name].label, KEYS[name].help, action, node)


def _nodes(screen: Screen[Any], app: App[Any]) -> Iterable[DOMNode]:
    """Return what keys go to while `screen` is in front."""
    within = screen.focused.ancestors_with_self[:-2] if screen.focused is not None else []
    return (*within, screen, app)
