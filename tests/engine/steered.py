"""Sessions that are steered by a script: commands that take effect after exactly so many steps."""

from collections.abc import Callable

from engine.commands import AnyCommand

Script = Callable[[int], AnyCommand | None]


def at(*lines: tuple[int, AnyCommand]) -> Script:
    """Return a script that gives each command once, as soon as its step was taken."""
    waiting = list(lines)

    def script(step: int) -> AnyCommand | None:
        return waiting.pop(0)[1] if waiting and step >= waiting[0][0] else None

    return script
