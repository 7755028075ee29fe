"""Image folders: `train/CLASS/*` with `val/CLASS/*` and `test/CLASS/*`, or `CLASS/*` divided by seed."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from finetui.engine.data.choose_decoding import choose_decoding, decoding_notices
from finetui.engine.data.division import TEST_SHARE, drawn
from finetui.engine.data.download import Progress
from finetui.engine.data.folder_layout import Layout, find_layout, find_old_layout
from finetui.engine.data.folder_walk import FolderWalk, Item, path_within
from finetui.engine.data.found import Found
from finetui.engine.data.image_files import Header, decode, read_header
from finetui.engine.data.parallel import THREADS, for_each
from finetui.engine.data.recorded_data import (
    RecordedData,
    is_of,
    key_of,
    keys_array,
    parts_of,
    stable,
)
from finetui.engine.data.split import Unreadable
from finetui.engine.errors import BadInput, reason_of
from finetui.engine.protocol.config import DataConfig
from finetui.engine.protocol.description import DataDescription, SplitRule
from finetui.engine.protocol.paths import same_data
from finetui.engine.protocol.values import Decoding, Part
from finetui.engine.text import clean


class FolderSource:
    """Image files as a `Source`."""

    threads = THREADS
    draws = False

    def __init__(self, root: Path, paths: Sequence[str], labels: npt.NDArray[np.int64], decoding: Decoding) -> None:
        self._root = str(root)
        self._paths = tuple(paths)
        self.shape = decoding.shape
        self.labels = labels
        self._decoding = decoding

    def load(self, index: int, _seed: int | None = None) -> npt.NDArray[np.uint8]:
        """Decode the file."""
        return decode(self._paths[index], self._decoding)

    def describe(self, index: int) -> str:
        """Return the path inside the folder."""
        return path_within(self._paths[index], self._root)

    def file(self, index: int) -> str:
        """Return the path."""
        return str(Path(self._paths[index]).absolute())


def find(
    root: Path,
    request: DataConfig,
    *,
    decoding: Decoding,
    seed: int,
    known: RecordedData | None,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> Found:
    """Return the images in the folder `root`, their headers read and what is no image left out.

    They are decoded as `decoding`; see `choose_decoding`. Where there is neither val nor test, `seed` draws a fifth of
    each class to test on, unless the request is for no test part. Where it is the data of a run that saw `known`, the
    classes are that run's, and images are in the parts that it had them in. Raises `BadInput` when it holds no images
    in class folders, `Cancelled`.
    """
    name = clean(root.resolve().name)
    progress(f"Scanning {name}", 0, 0)
    walk = FolderWalk(root, request.follow_links, cancelled)
    layout = _layout(root, walk, old=known is not None and _is_old(known, request))
    parts, headers = _readable(walk, layout, request, progress, cancelled)
    keys = _keys(root, layout, parts, headers)
    if known is not None and not is_of(known, request, keys_array(list(keys.values()))):
        known = None
    classes = _classes(root, parts, walk, known)
    there = sum(map(len, parts.values()))
    parts, split = _in_parts(root, parts, keys, known, seed, test=request.test != "none")
    decoding = choose_decoding(decoding, headers, [item.path for item in parts["train"]], progress, cancelled)
    sources = _sources(root, parts, classes, decoding)
    return Found(
        name=name,
        requested=request.name,
        classes=tuple(clean(label, 100) for label in classes),
        train=sources["train"],
        val=sources.get("val"),
        test=sources.get("test"),
        shape=decoding.shape,
        location=clean(str(root)),
        notices=(
            *layout.notices,
            *_other_share(name, request, known, split, parts),
            *decoding_notices(headers.values(), decoding),
        ),
        problems=tuple(walk.problems),
        description=_description(request, classes, split, seed, decoding),
        keys={part: keys_array([keys[item.path] for item in items]) for part, items in parts.items()},
        unused=there - sum(map(len, parts.values())),
    )


def _readable(
    walk: FolderWalk,
    layout: Layout,
    request: DataConfig,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> tuple[dict[Part, list[Item]], dict[str, Header]]:
    """Return the images of each part that is wanted, and the headers of all of them by path."""
    items = walk.items(layout)
    parts = {part: items[part] for part in items if part != "test" or request.test != "none"}
    headers = _headers([item for some in parts.values() for item in some], walk, progress, cancelled)
    return {part: [item for item in some if item.path in headers] for part, some in parts.items()}, headers


def _sources(
    root: Path, parts: Mapping[Part, list[Item]], classes: Sequence[str], decoding: Decoding
) -> dict[Part, FolderSource]:
    """Return what each part that has images is read from."""
    numbers = {label: number for number, label in enumerate(classes)}
    labels = {part: np.array([numbers[item.label] for item in items], dtype=np.int64) for part, items in parts.items()}
    return {
        part: FolderSource(root, [item.path for item in items], labels[part], decoding)
        for part, items in parts.items()
        if items
    }


def _description(
    request: DataConfig, classes: Sequence[str], split: SplitRule, seed: int, decoding: Decoding
) -> DataDescription:
    return DataDescription(
        request=request,
        kind="folder",
        classes=tuple(stable(label) for label in classes),
        parts={},
        split=split,
        seed=seed,
        decoding=decoding,
    )


def _keys(
    root: Path, layout: Layout, parts: Mapping[Part, list[Item]], headers: dict[str, Header]
) -> dict[str, tuple[int, int]]:
    """Return what each image is known by, by its path."""
    folders = {part: dict(layout.parts[part]) for part in parts}
    return {
        item.path: key_of(item.path, str(root), folders[part][item.label], item.label, headers[item.path].size)
        for part, items in parts.items()
        for item in items
    }


def _in_parts(
    root: Path,
    given: dict[Part, list[Item]],
    keys: dict[str, tuple[int, int]],
    known: RecordedData | None,
    seed: int,
    *,
    test: bool,
) -> tuple[dict[Part, list[Item]], SplitRule]:
    """Return the images of each part that has any, and whether these were drawn. Raises `BadInput`."""
    parts = _divided_again(root, given, keys, known)
    drawn_here = parts is None and test and not given.get("val") and not given.get("test")
    split: SplitRule = "given" if parts is None and not drawn_here else "drawn"
    parts = parts or given
    if drawn_here:
        parts = parts | _divided(root, parts["train"], seed)
    return {part: items for part, items in parts.items() if items}, split


def _divided_again(
    root: Path, parts: Mapping[Part, list[Item]], keys: dict[str, tuple[int, int]], known: RecordedData | None
) -> dict[Part, list[Item]] | None:
    """Return `parts`, with the images to train on as the run that saw `known` had divided them, without those that are
    new; None: it had divided none, or it is not known. Raises `BadInput` where nothing is left to evaluate on.
    """
    if known is None or known.description.split != "drawn" or not known.images:
        return None
    items = parts["train"]
    places = parts_of(known, keys_array([keys[item.path] for item in items]))
    drawn_then = {part: [items[place] for place in indices] for part, indices in places.items() if len(indices)}
    if "train" not in drawn_then:
        return None
    # A part that was not drawn is where it was given.
    found = {**parts, **drawn_then}
    if known.grows:
        _add_new(found, items, known.description.seed)
    if not found.get("val") and not found.get("test"):
        raise BadInput(f"{root} no longer has any of the images that the run was evaluated on; put them back")
    return found


def _add_new(parts: dict[Part, list[Item]], items: Sequence[Item], seed: int) -> None:
    """Add those of `items` that are in none of `parts`, divided as all were: none that was trained on is moved."""
    there = {item.path for part in parts.values() for item in part}
    new = [item for item in items if item.path not in there]
    chosen = set(drawn([item.label for item in new], TEST_SHARE, seed))
    held_out: Part = "test" if parts.get("test") else "val"
    parts["train"] = _ordered([*parts["train"], *(item for at, item in enumerate(new) if at not in chosen)])
    parts[held_out] = _ordered([*parts.get(held_out, []), *(item for at, item in enumerate(new) if at in chosen)])


def _ordered(items: Sequence[Item]) -> list[Item]:
    return sorted(items, key=lambda item: (item.label, item.path))


def _other_share(
    name: str, request: DataConfig, known: RecordedData | None, split: SplitRule, parts: Mapping[Part, list[Item]]
) -> tuple[str, ...]:
    """Return a sentence where another share is asked for than that of the val images that a run had drawn."""
    if known is None or split == "given" or "val" not in parts or known.description.request.val == request.val:
        return ()
    return (f"{name} keeps the val images of the earlier run: data.val (--val) is ignored",)


def _is_old(known: RecordedData, request: DataConfig) -> bool:
    """Tell whether it is the data of a run of an earlier version, which knew no val and kept nothing of its parts."""
    return not known.description.parts and not known.grows and same_data(known.description.request, request)


def _layout(root: Path, walk: FolderWalk, *, old: bool) -> Layout:
    try:
        os.scandir(root).close()
    except OSError as error:
        raise BadInput(f"the image folder {root} cannot be read: {reason_of(error)}") from error
    layout = (find_old_layout if old else find_layout)(root, walk.look)
    for folder in layout.folders:
        if walk.target(folder) is None:
            raise BadInput(f"the image folder {root} cannot be used: {walk.problems[-1]}")
    return layout


def _divided(root: Path, items: list[Item], seed: int) -> dict[Part, list[Item]]:
    """Return `items` divided into training and test images, 80 to 20 of each class. Raises `BadInput`."""
    chosen = set(drawn([item.label for item in items], TEST_SHARE, seed))
    if not chosen:
        raise BadInput(f"{root} has only one image per class, which leaves none to test on; add more")
    return {
        "train": [item for index, item in enumerate(items) if index not in chosen],
        "test": [items[index] for index in sorted(chosen)],
    }


def _classes(root: Path, parts: dict[Part, list[Item]], walk: FolderWalk, known: RecordedData | None) -> list[str]:
    """Return the classes to train on, and leave images of others out of `parts`. Raises `BadInput`."""
    problems = walk.problems
    classes = sorted({item.label for item in parts["train"]})
    problems += [f"{clean(label)}: a class without images" for label in sorted(walk.classes - set(classes))]
    if len(classes) < 2:
        raise BadInput(
            f"{root} has images of {len(classes)} class{'' if len(classes) == 1 else 'es'}, and at least two are "
            "needed; lay it out as "
            f"train/CLASS/image.png and test/CLASS/image.png, or as CLASS/image.png{_first_of(problems)}"
        )
    kept = known.description.classes if known is not None and not known.grows else ()
    if kept and {stable(label) for label in classes} != set(kept):
        # A number stands for the same class as when the run began: a class may be empty, or new and without a number.
        there = {stable(label): label for label in classes}
        classes = [there.get(label, label) for label in kept]
    taken = set(classes)
    for part, items in parts.items():
        others = [item for item in items if item.label not in taken]
        what = "not a class of the run" if part == "train" else "not a class to train on"
        problems += [f"{path_within(item.path, str(root))}: {what}" for item in others]
        parts[part] = [item for item in items if item.label in taken]
    return classes


def _first_of(problems: list[str]) -> str:
    return f" ({len(problems):,} files or classes were skipped; the first: {problems[0]})" if problems else ""


def _headers(
    items: list[Item], walk: FolderWalk, progress: Progress, cancelled: Callable[[], bool]
) -> dict[str, Header]:
    """Return the header of every file that is an image."""
    found: list[Header | Unreadable | None] = [None] * len(items)

    def read(index: int) -> None:
        try:
            found[index] = read_header(items[index].path)
        except Unreadable as problem:
            found[index] = problem

    for_each(read, len(items), tell=lambda done: progress("Checking the images", done, len(items)), cancelled=cancelled)
    headers: dict[str, Header] = {}
    for item, header in zip(items, found, strict=True):
        if isinstance(header, Unreadable):
            walk.unreadable(item.path, header)
        elif header is not None:
            headers[item.path] = header
    return headers
