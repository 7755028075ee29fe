"""What a run saw, beside what is there today: which images are new, gone, changed, or in another part."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.files import replacing
from finetui.engine.protocol.config import DataConfig
from finetui.engine.protocol.description import DataDescription, PartDescription
from finetui.engine.protocol.paths import same_data
from finetui.engine.protocol.values import Part

_FORMAT = "finetui images 1"
_MOSTLY = 0.5  # of the images of a run: a folder that has so many of them is that run's, wherever it lies now
_WORDS: dict[Part, str] = {"train": "training", "val": "validation", "test": "test"}

Keys = npt.NDArray[np.uint64]
ImageKeys = Mapping[Part, Keys]


@dataclass(frozen=True)
class RecordedData:
    """What a run saw. `images` has two numbers for each image file of each part: uint64 `[N, 2]`, see `key_of`; it is
    empty where there are no files, or nothing tells of them. Where it is for a finetune, the data `grows`: images and
    classes that are new are used, too.
    """

    description: DataDescription
    images: ImageKeys = field(default_factory=dict)
    grows: bool = False


def key_of(path: str, root: str, folder: str, label: str, size: int) -> tuple[int, int]:
    """Return what the image file `path` in the data `root` is known by, two numbers of 64 bits.

    The first stands for its path in `root`; the second for its class `label`, its path in `folder`, which holds that
    class's images of its part, and its `size` in bytes, so that a file that is moved to another part is known again.
    """
    inside, below = (os.fsencode(path[len(start.rstrip(os.sep)) + 1 :]) for start in (root, folder))
    return _hash(inside), _hash(b"%d %s/%s" % (size, os.fsencode(label), below))


def _hash(text: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def keys_array(keys: Sequence[tuple[int, int]]) -> Keys:
    """Return `keys` as uint64 `[N, 2]`."""
    return np.array(keys, dtype=np.uint64).reshape(len(keys), 2)


def describe_files(keys: Keys) -> PartDescription:
    """Return the description of a part that consists of the image files `keys`."""
    ordered = keys[np.lexsort((keys[:, 1], keys[:, 0]))]
    return PartDescription(count=len(keys), digest=hashlib.sha256(ordered.astype("<u8").tobytes()).hexdigest())


def describe_labels(labels: npt.NDArray[Any]) -> PartDescription:
    """Return the description of a part without files, whose images have these `labels`, integers `[N]`."""
    digest = hashlib.sha256(np.ascontiguousarray(labels, dtype="<i8").tobytes()).hexdigest()
    return PartDescription(count=len(labels), digest=digest)


def stable(name: str) -> str:
    """Return the name of a class as it is kept: what is no text, or a terminal might obey, as escapes."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def is_of(known: RecordedData, request: DataConfig, images: Keys) -> bool:
    """Whether data is that of the run that saw `known`: by its place, or by most of its image files, `images`."""
    if same_data(known.description.request, request):
        return True
    before = all_keys(known.images)
    return bool(len(before) and np.isin(before[:, 1], images[:, 1]).mean() >= _MOSTLY)


def parts_of(known: RecordedData, images: Keys) -> dict[Part, npt.NDArray[np.int64]]:
    """Return which of `images` were in which part of `known`, as indices; images that are new are in none."""
    return {part: np.flatnonzero(np.isin(images[:, 0], keys[:, 0])) for part, keys in known.images.items()}


def matching(description: DataDescription, images: ImageKeys) -> ImageKeys:
    """Return `images` where they are those that `description` is of, else nothing."""
    alike = all(describe_files(keys) == description.parts.get(part) for part, keys in images.items())
    return images if alike and images.keys() == description.parts.keys() else {}


def all_keys(images: ImageKeys) -> Keys:
    """Return the image files of all parts."""
    return np.concatenate([np.empty((0, 2), np.uint64), *images.values()])


def differences(known: RecordedData, now: DataDescription, images: ImageKeys, unused: int = 0) -> list[str]:
    """Return in sentences how the data that is there `now` differs from what a run saw; none where it does not.

    `images` are the image files of today's parts, and `unused` counts those that are in no part since they are new.
    """
    before = known.description
    if not before.parts:
        return []  # a run of an earlier version, which kept no more than where its images are
    found = []
    if before.is_float != now.is_float:
        found.append(
            f"the images {'were floats' if before.is_float else 'were bytes'} when the run began, and are not now"
        )
    if before.classes != now.classes:
        found.append("the classes have changed since the run began")
    changed = [part for part in _WORDS if _differs(before.parts.get(part), now.parts.get(part))]
    if not changed and not unused:
        return found
    if known.images and images:
        told = _counts(known.images, images, unused)
    else:
        told = [
            f"{_images(_count(now, part))} to {_verb(part)} now, {_count(before, part):,} then"
            for part in changed
            if _count(now, part) != _count(before, part)
        ]
        told = told or [f"different {' and '.join(_WORDS[part] for part in changed)} images, equally many"]
        if before.split == "drawn":
            where = "only beside the run" if before.kind == "folder" else "nowhere"
            told.append(f"which ones were trained on is recorded {where}, so some of these may have been")
    return [*found, f"these are not the images that the run saw: {'; '.join(told)}"]


def _differs(before: PartDescription | None, now: PartDescription | None) -> bool:
    if before is None or now is None:
        return before is not now
    return before.count != now.count or bool(before.digest and now.digest and before.digest != now.digest)


def _count(description: DataDescription, part: Part) -> int:
    found = description.parts.get(part)
    return found.count if found is not None else 0


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def _verb(part: Part) -> str:
    return {"train": "train on", "val": "validate on", "test": "test on"}[part]


def _counts(before: ImageKeys, now: ImageKeys, unused: int) -> list[str]:
    """Return how many images are new, gone, changed and moved between parts."""
    gone = changed = moved = 0
    added: list[Keys] = []
    lost: list[Keys] = []
    for part in _WORDS:
        then, today = (images.get(part, np.empty((0, 2), np.uint64)) for images in (before, now))
        stayed = np.isin(then[:, 0], today[:, 0])
        changed += int((~np.isin(then[stayed][:, 1], today[:, 1])).sum())
        added.append(today[~np.isin(today[:, 0], then[:, 0])])
        lost.append(then[~stayed])
    for place, away in enumerate(lost):
        others = np.concatenate([*added[:place], *added[place + 1 :]])
        elsewhere = np.isin(away[:, 1], others[:, 1]) | np.isin(away[:, 0], others[:, 0])
        moved += int(elsewhere.sum())
        gone += int((~elsewhere).sum())
    new = max(sum(map(len, added)) - moved, 0)
    told = [
        f"{_images(count)} {what}"
        for count, what in (
            (new, "new"),
            (gone, "gone"),
            (changed, "of another size"),
            (moved, "moved to another part"),
        )
        if count
    ]
    if unused:
        told.append(f"{_images(unused)} new and not used")
    return told


def save_images(path: Path, images: ImageKeys) -> None:
    """Write which images are in which part to `path`, whole or not at all. Raises OSError."""
    from safetensors.numpy import save  # takes a while to import

    with replacing(path) as file:
        file.write(save({part: np.ascontiguousarray(keys) for part, keys in images.items()}, {"format": _FORMAT}))


def load_images(path: Path) -> ImageKeys:
    """Return what `save_images` wrote to `path`; nothing where there is no such file. Raises `BadInput`."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return {}
    try:
        with safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}).get("format") != _FORMAT:
                raise ValueError("another format")
            found = {part: np.asarray(file.get_tensor(part)) for part in _WORDS if part in file.keys()}  # noqa: SIM118
        if any(keys.dtype != np.uint64 or keys.shape != (len(keys), 2) for keys in found.values()):
            raise ValueError("its arrays have the wrong type or shape")
    except (SafetensorError, OSError, ValueError) as error:
        raise BadInput(
            f"{path}, which records what the run saw, cannot be used: {reason_of(error, 80)}; delete it"
        ) from error
    return found
