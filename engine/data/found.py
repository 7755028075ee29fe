"""A data set whose images are found and not read yet, and its parts."""

import dataclasses
from dataclasses import dataclass

import msgspec

from finetui.engine.data.division import Subset, require_evaluated, val_indices
from finetui.engine.data.recorded_data import ImageKeys, describe_files, describe_labels
from finetui.engine.data.split import Source
from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import DataConfig
from finetui.engine.protocol.description import DataDescription
from finetui.engine.protocol.values import Part


@dataclass(frozen=True)
class Found:
    """Sources of a data set before its images are read; `shape` is `(channels, height, width)` of every image."""

    name: str
    requested: str
    classes: tuple[str, ...]
    train: Source
    test: Source | None
    shape: tuple[int, int, int]
    location: str
    is_float: bool = False
    notices: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    description: DataDescription | None = None
    keys: ImageKeys = dataclasses.field(default_factory=dict)
    unused: int = 0
    val: Source | None = None

    @property
    def parts(self) -> dict[Part, Source]:
        """The parts that there are: train, val, test."""
        found: dict[Part, Source | None] = {"train": self.train, "val": self.val, "test": self.test}
        return {part: source for part, source in found.items() if source is not None}

    def divided(self, request: DataConfig, seed: int) -> "Found":
        """Return it with the parts that `request` asks for: val drawn from train by `seed`, test left out.

        Where val was drawn already, for a run that saw these images, it stays so. Raises `BadInput` where nothing is
        left to evaluate on.
        """
        found = self if request.test == "auto" else dataclasses.replace(self, test=None)
        if request.val and found.val is not None:
            if found.description is None or found.description.split == "given":
                said = f"{found.name} has val images of its own: data.val (--val) is ignored"
                found = dataclasses.replace(found, notices=(*found.notices, said))
        elif request.val:
            rest, held_out = val_indices(found.train.labels, request.val, seed)
            if not len(held_out):
                raise BadInput(
                    f"data.val (--val): {found.name} has only one training image per class, and none to spare"
                )
            train, val = Subset(found.train, rest), Subset(found.train, held_out)
            keys = dict(found.keys)
            if keys:
                keys |= {"train": keys["train"][rest], "val": keys["train"][held_out]}
            description = found.description and msgspec.structs.replace(found.description, split="drawn")
            found = dataclasses.replace(found, train=train, val=val, keys=keys, description=description)
        require_evaluated(found.name, found.val, found.test)
        return found._described()

    def _described(self) -> "Found":
        """Return it with a description of the parts that it has."""
        keys: ImageKeys = {part: self.keys[part] for part in self.parts} if self.keys else {}
        description = self.description and msgspec.structs.replace(
            self.description,
            parts={
                part: describe_files(keys[part]) if keys else describe_labels(source.labels)
                for part, source in self.parts.items()
            },
        )
        return dataclasses.replace(self, keys=keys, description=description)
