"""The dashboard's door for text from outside: a journal, or an engine, may be somebody else's."""

import copy
from typing import Any, TypeVar

import msgspec

from finetui.engine.protocol.events import Event
from finetui.engine.text import clean

_E = TypeVar("_E", bound=Event)
_LIMIT = 4096  # the longest path


def scrub(event: _E) -> _E:
    """Return `event` with every text in it made harmless (see `finetui.engine.text.clean`)."""
    cleaned: _E = _scrub(event)
    return cleaned


def _scrub(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value, _LIMIT)
    if isinstance(value, msgspec.Struct):
        found = {name: getattr(value, name) for name in value.__struct_fields__}
        changed = {name: new for name, old in found.items() if (new := _scrub(old)) != old}
        return _with(value, changed) if changed else value
    if isinstance(value, dict):
        return {_scrub(key): _scrub(item) for key, item in value.items()}
    if isinstance(value, tuple) and value and isinstance(value[0], (str, msgspec.Struct)):
        return tuple(map(_scrub, value))
    return value


def _with(value: msgspec.Struct, changed: dict[str, Any]) -> msgspec.Struct:
    """Return a copy that is not checked again: the path of a person's code may be none any more once it is harmless."""
    copied = copy.copy(value)
    for name, new in changed.items():
        msgspec.structs.force_setattr(copied, name, new)
    return copied
