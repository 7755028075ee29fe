"""What every event has."""

import msgspec

from finetui.engine.text import snake_case


class Event(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    tag=snake_case,
):
    """Base of all events."""

    seq: int = -1
    time: float = 0.0
    step: int = 0
