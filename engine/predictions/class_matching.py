"""Which classes of a data set are which of a network's: by name, not by place."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from finetui.engine.errors import BadInput
from finetui.engine.text import clean

_LISTED = 5


@dataclass(frozen=True, eq=False)
class ClassMatch:
    """The classes of some data as a network knows them.

    `places` is the network's class of each class of the data, -1 where it has none: int64 `[len(data)]`. `respelled`
    holds the pairs (name in the data, name in the network) that are written differently.
    """

    network: tuple[str, ...]
    data: tuple[str, ...]
    places: npt.NDArray[np.int64]
    respelled: tuple[tuple[str, str], ...] = ()

    @property
    def known(self) -> int:
        """How many classes of the data the network knows."""
        return int((self.places >= 0).sum())

    @property
    def same_order(self) -> bool:
        """Whether every class has the same number on both sides, and there are as many."""
        return len(self.data) == len(self.network) and bool((self.places == np.arange(len(self.data))).all())

    @property
    def is_permutation(self) -> bool:
        """Whether both sides have the same classes, in whatever order."""
        return len(self.data) == len(self.network) == self.known

    def unknown(self) -> list[str]:
        """Return the classes of the data that the network does not know."""
        return [name for name, place in zip(self.data, self.places, strict=True) if place < 0]

    def lacking(self) -> list[str]:
        """Return the classes of the network that the data does not have."""
        had = set(self.places.tolist())
        return [name for place, name in enumerate(self.network) if place not in had]

    def respelling(self) -> str:
        """Return a sentence on the names that are written differently; empty where there are none."""
        if not self.respelled:
            return ""
        pairs = [f"{data} for {network}" for data, network in self.respelled]
        return f"classes that differ only in spelling are treated as the same: {listed(pairs)}"

    def notices(self, data: str, labels: npt.NDArray[np.int64]) -> list[str]:
        """Return sentences on what has no counterpart, for the scores on the images of `data`.

        `labels` are the classes of the images that are scored, in the data's own numbering: int64 `[N]`.
        """
        said = []
        if self.is_permutation and not self.same_order:
            said.append(f"{data} has the network's classes in another order; they are matched by name")
        if self.respelled:
            said.append(self.respelling())
        if unknown := self.unknown():
            left_out = int((self.places[labels] < 0).sum())
            theirs = "its" if len(unknown) == 1 else "their"
            said.append(
                f"{data} has {_classes(unknown)} that the network does not know, {listed(unknown)}: {theirs} "
                f"{left_out:,} image{'' if left_out == 1 else 's'} are left out of the score"
            )
        if lacking := self.lacking():
            said.append(
                f"{data} lacks {_classes(lacking)} of the network's, {listed(lacking)}: "
                "an image taken for such a class counts as a mistake"
            )
        return said


def match_by_name(network: Sequence[str], data: Sequence[str]) -> ClassMatch:
    """Return the classes of `network` that those of `data` are, by their names.

    The same name is the same class. So are names that differ only in upper and lower case, in underscores and spaces,
    in how Unicode composes a letter (NFC), or, for numbers, in leading zeros, if only one name on each side is so.
    """
    places = np.full(len(data), -1, dtype=np.int64)
    for ours, theirs in _pairs(network, data, str):
        if len(ours) == len(theirs):  # ImageNet has two classes called crane
            places[theirs] = ours
    exact = places >= 0
    respelled = []
    for ours, theirs in _pairs(network, data, _simplified):
        if len(ours) == len(theirs) == 1 and not exact[theirs[0]]:
            places[theirs] = ours
            respelled.append((data[theirs[0]], network[ours[0]]))
    return ClassMatch(tuple(network), tuple(data), places, tuple(respelled))


def match_by_position(network: Sequence[str], data: Sequence[str]) -> ClassMatch:
    """Return a match of the first class with the first, and so on. Raises `BadInput` unless there are as many."""
    if len(network) != len(data):
        raise BadInput(f"--classes-by position: the network has {len(network)} classes, and the data has {len(data)}")
    return ClassMatch(tuple(network), tuple(data), np.arange(len(data), dtype=np.int64))


def require_any(match: ClassMatch, checkpoint: str, data: str) -> None:
    """Raise `BadInput` where the network of `checkpoint` knows none of the classes of `data`."""
    if match.known:
        return
    way_out = (
        "; if they are the same classes in the same order under other names, use --classes-by position"
        if len(match.network) == len(match.data)
        else "; name data with the network's classes"
    )
    raise BadInput(
        f"{checkpoint} has {listed(match.network)}, and {data} has none of these classes, but "
        f"{listed(match.data)}{way_out}"
    )


def listed(names: Iterable[str]) -> str:
    """Return the first of `names`, and how many more there are."""
    names = [clean(name, 60) for name in names]
    if len(names) <= _LISTED:
        return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return f"{', '.join(names[:_LISTED])} and {len(names) - _LISTED:,} more"


def _classes(names: Sequence[str]) -> str:
    return "a class" if len(names) == 1 else f"{len(names):,} classes"


def _pairs(
    network: Sequence[str], data: Sequence[str], key: Callable[[str], str]
) -> Iterable[tuple[list[int], list[int]]]:
    """Yield the places in `network` and in `data` of each key that both have."""
    sides = []
    for names in (network, data):
        found = defaultdict(list)
        for place, name in enumerate(names):
            found[key(name)].append(place)
        sides.append(found)
    return [(sides[0][name], places) for name, places in sides[1].items() if name in sides[0]]


def _simplified(name: str) -> str:
    plain = re.sub(r"[\s_]+", " ", unicodedata.normalize("NFC", name)).strip().casefold()
    return unicodedata.normalize("NFC", plain.lstrip("0") or "0") if plain.isdecimal() else plain
