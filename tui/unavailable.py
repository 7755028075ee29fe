"""What cannot be done now, and why: told in the same words by footer, palette, help, and the key when it is pressed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from textual.actions import ActionParseResult
from textual.app import App
from textual.dom import DOMNode

if TYPE_CHECKING:
    _Base = DOMNode
else:
    _Base = object


class SaysWhyNot(_Base):
    """A widget, screen or app that knows why an action of its own makes no sense now; its key is shown as disabled."""

    def why_not(self, action: str, parameters: tuple[object, ...]) -> str:
        """Return in a clause why `action` cannot be done now; empty where it can."""
        return ""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What cannot be done now is shown as disabled."""
        return None if self.why_not(action, parameters) else super().check_action(action, parameters)


def why_not(
    app: App[Any],
    action: "str | ActionParseResult",
    node: DOMNode,
    namespaces: Mapping[str, DOMNode] | None = None,
) -> str:
    """Return in a sentence without its full stop why `action` of `node` cannot be done now; empty where it can."""
    target, name, parameters = app._parse_action(action, node, namespaces)
    if not isinstance(target, SaysWhyNot):
        return ""
    text = target.why_not(name, parameters)
    return text[:1].upper() + text[1:]
