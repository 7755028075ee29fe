"""The dashboard's door for text from outside: a journal, or an engine, may be somebody else's."""

from typing import Any, TypeVar

import msgspec

from finetui.engine.errors import BadInput
from finetui.engine.protocol.events import Event
from finetui.engine.text import clean

_E = TypeVar("_E", bound=Event)
_LIMIT = 4096  # the longest path


def sanitized(event: _E) -> _E:
    """Return `event` with every text in it made harmless (see `finetui.engine.text.clean`)."""
    cleaned: _E = _sanitized(event)
    return cleaned


def _sanitized(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value, _LIMIT)
    if isinstance(value, msgspec.Struct):
        found = {name: getattr(value, name) for name in value.__struct_fields__}
        harmless = {name: _sanitized(old) for name, old in found.items()}
        return value if harmless == found else _made(type(value), harmless)
    if isinstance(value, dict):
        return {_sanitized(key): _sanitized(item) for key, item in value.items()}
    if isinstance(value, tuple) and value and isinstance(value[0], (str, msgspec.Struct)):
        return tuple(map(_sanitized, value))
    return value


def _made(kind: type[msgspec.Struct], fields: dict[str, Any]) -> msgspec.Struct:
    try:
        return kind(**fields)
    except BadInput:
        # What names a folder, or a person's code, may name none any more once it is harmless. A configuration does not
        # look for code, only for the form of its name: this has it.
        return kind(**fields | {"name": f"{fields['name']}:_"})
