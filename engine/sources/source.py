"""What each kind of source tells: numbers by the names that their writer gave them, in the order of the file."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from finetui.engine.sources.rows import Row, Rows

Setting = str | int | float | bool


class Back(NamedTuple):
    """The run is again where it was before `step`: what was told of that step and later ones is void."""

    step: int


class Hparams(NamedTuple):
    """Settings of the run, by the names that their writer gave them."""

    values: Mapping[str, Setting]


class Anew(NamedTuple):
    """The files were written anew: all that was told is void, and is told again. `why` is a phrase."""

    why: str


class Note(NamedTuple):
    """Something that a person should know of the files, once: a sentence."""

    message: str


class Changes(NamedTuple):
    """When the files changed before, in Unix seconds, ascending: of those whose rows tell no times."""

    times: Sequence[float]


class Ended(NamedTuple):
    """The source itself says that the training has finished."""


Item = Row | Rows | Back | Hparams | Anew | Note | Changes | Ended


class Source(Protocol):
    """One run as its files tell it. `kind` is what these are called: `TensorBoard`, say."""

    kind: str

    def read(self) -> Iterator[Item]:
        """Yield what the files say by now and was not told yet; raises OSError where they cannot be read just now."""

    def changed(self) -> float:
        """Return when the files last changed, in Unix seconds; 0 where there are none."""

    def unread(self) -> int:
        """Return about how many bytes are still to be read."""
