"""What a source of events can do besides showing: an engine all, a file nothing, somebody's own loop a part."""

from collections.abc import Iterable

import msgspec


class Capabilities(msgspec.Struct, frozen=True):
    """The `commands` that are obeyed, by the names of their classes, and `why_no_others`: a clause for a person.

    Stays in the journals of runs: later versions may know commands that this one does not.
    """

    commands: tuple[str, ...] = ()
    why_no_others: str = ""

    def refusal(self, command: type[msgspec.Struct]) -> str | None:
        """Return why `command` is never obeyed here, as a phrase; None where it is."""
        return None if command.__name__ in self.commands else self.why_no_others


def narrowed(found: Capabilities | None, kinds: Iterable[type[msgspec.Struct]], why_no_others: str) -> Capabilities:
    """Return what is left of `found` (None: all) where only commands of `kinds` get through."""
    names = (kind.__name__ for kind in kinds)
    return Capabilities(tuple(name for name in names if found is None or name in found.commands), why_no_others)
