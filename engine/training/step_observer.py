"""What looks at training steps, for as long as somebody asks."""

from typing import Protocol


class StepObserver(Protocol):
    """Is told of each step `before` its update and `after` it, and to `restart` where weights changed otherwise."""

    def before(self) -> None: ...  # noqa: D102

    def after(self) -> object: ...  # noqa: D102

    def restart(self) -> None: ...  # noqa: D102
