"""Drawing images of one part for another: so many of each class, by seed."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from finetui.engine.data.split import Source
from finetui.engine.errors import BadInput

TEST_SHARE = 0.2  # of images that come without parts
_VAL = 104_729  # added to the seed: val must not be drawn in the order in which test was


def drawn(labels: Sequence[Hashable], share: float, seed: int) -> list[int]:
    """Return the indices of `share` of each class's images, in order: at least one, and never all of them."""
    members: dict[Any, list[int]] = {}
    for index, label in enumerate(labels):
        members.setdefault(label, []).append(index)
    found: list[int] = []
    for number, label in enumerate(sorted(members)):
        ours = members[label]
        generator = torch.Generator().manual_seed((seed + 7919 * number) % 2**63)
        order = torch.randperm(len(ours), generator=generator).tolist()
        count = min(max(1, round(share * len(ours))), len(ours) - 1)
        found += [ours[place] for place in order[:count]]
    return sorted(found)


def val_indices(labels: npt.NDArray[Any], share: float, seed: int) -> tuple[npt.NDArray[np.int64], ...]:
    """Return which of the training images with these `labels` are trained on, and which are held out for val."""
    held_out = np.array(drawn(labels.tolist(), share, seed + _VAL), dtype=np.int64)
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def require_evaluated(name: str, *parts: object) -> None:
    """Raise `BadInput` where the data set `name` has none of `parts` to evaluate on."""
    if all(part is None for part in parts):
        raise BadInput(
            f"data.test (--test): none leaves no images of {name} to evaluate on; hold some out with --val 0.1"
        )


class Subset:
    """Some images of another source, as a `Source`."""

    def __init__(self, whole: Source, indices: npt.NDArray[np.int64]) -> None:
        self.whole = whole
        self.indices = indices
        self.labels = whole.labels[indices]
        self.shape = whole.shape
        self.threads = whole.threads
        self.draws = whole.draws

    def load(self, index: int, seed: int | None = None) -> npt.NDArray[Any]:
        """Return an image. Raises `Unreadable`."""
        return self.whole.load(int(self.indices[index]), seed)

    def describe(self, index: int) -> str:
        """Return what the whole source calls the image."""
        return self.whole.describe(int(self.indices[index]))

    def file(self, index: int) -> str:
        """Return the path of the image's file, if it has one."""
        return self.whole.file(int(self.indices[index]))
