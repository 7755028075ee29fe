"""The dashboard's door for text from outside: a journal, or an engine, may be somebody else's."""

from typing import Any, TypeVar

import msgspec

from engine.config import RunConfig
from engine.events import Event
from engine.text import clean

_E = TypeVar("_E", bound=Event)
_LIMIT = 4096  # the longest path


def scrub(event: _E) -> _E:
    """Return `event` with every text in it made harmless (see `engine.text.clean`)."""
    cleaned: _E = _scrub(event)
    return cleaned


def _scrub(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value, _LIMIT)
    if isinstance(value, msgspec.Struct) and not isinstance(value, RunConfig):  # a configuration checks itself
        found = {name: getattr(value, name) for name in value.__struct_fields__}
        changed = {name: new for name, old in found.items() if (new := _scrub(old)) != old}
        return msgspec.structs.replace(value, **changed) if changed else value
    if isinstance(value, dict):
        return {_scrub(key): _scrub(item) for key, item in value.items()}
    if isinstance(value, tuple) and value and isinstance(value[0], (str, msgspec.Struct)):
        return tuple(map(_scrub, value))
    return value
