"""What a run saw: made once when it begins, kept in its journal, its checkpoints and its predictions files."""

from typing import Literal

import msgspec

from finetui.engine.protocol.config import DataConfig
from finetui.engine.protocol.values import Decoding, Part

DataKind = Literal["folder", "idx", "torchvision", "factory", "datasets"]
SplitRule = Literal["given", "drawn"]
Moments = Literal["published", "computed", "none", "weights"]


class PartDescription(msgspec.Struct, frozen=True, kw_only=True):
    """The number of images of a part, `count`, and a SHA-256 of what they are, as hex (empty: not known).

    For a folder that is their paths in it and their sizes in bytes, in any order; for other data the labels, in order.
    """

    count: int
    digest: str = ""


class DataDescription(msgspec.Struct, frozen=True, kw_only=True):
    """The images of a run, and how they were read.

    `request` names them by an absolute path; `kind` is what it turned out to name. `split` tells whether the parts were
    `given` or `drawn` by `seed`. `classes` are the names as the source has them, in order of the labels. `decoding` is
    what pictures are brought to, None where they are used as they are (floats, bytes of other than 1 or 3 channels). Of
    runs of earlier versions, classes and parts are not known, and empty. `moments` is where mean and deviation came
    from: `published` ones of the data set, `computed` from the training images, those of the starting `weights`, or
    `none` for floats.
    """

    request: DataConfig
    kind: DataKind
    classes: tuple[str, ...]
    parts: dict[Part, PartDescription]
    split: SplitRule = "given"
    seed: int = 0
    decoding: Decoding | None = None
    is_float: bool = False
    moments: Moments = "computed"
