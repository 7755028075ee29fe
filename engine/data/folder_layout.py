"""Where the parts of an image folder lie: train, val and test in every usual spelling and nesting."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetui.engine.errors import BadInput
from finetui.engine.protocol.values import Part
from finetui.engine.text import clean

_TRAIN: dict[str, Part] = {"train": "train", "training": "train"}
_VAL: dict[str, Part] = {"val": "val", "valid": "val", "validation": "val", "dev": "val"}
_TEST: dict[str, Part] = {"test": "test", "testing": "test", "eval": "test", "evaluation": "test"}
_PARTS = _TRAIN | _VAL | _TEST
_RANK = {word: place for place, word in enumerate(_PARTS)}
_FILLERS = ("set", "data", "dataset", "images", "imgs", "split")  # `train_set` is `train`
_OLD_TRAIN, _OLD_TEST = ("train", "training"), ("test", "testing", "val", "valid", "validation")
_MOST_PEEKED = 20  # folders that are looked into for parts, where there are none beside them
_DEEPEST = 8  # folders that only wrap another

ClassFolders = list[tuple[str, str]]  # class and path
Entries = Callable[[str], list[os.DirEntry[str]]]
_Group = dict[Part, str]


@dataclass(frozen=True)
class Layout:
    """The class folders of each part that has labels; `train` is always there.

    `folders` are those that hold the class folders, `notices` sentences about what else there is.
    """

    parts: Mapping[Part, ClassFolders]
    folders: tuple[str, ...]
    notices: tuple[str, ...] = ()


def find_layout(root: Path, entries: Entries) -> Layout:
    """Return how the folder `root` is laid out; `entries(folder)` lists one, without hidden files.

    `train/CLASS` with `val/CLASS` and `test/CLASS`, by any of their usual names, with something before or after them
    (`seg_train`), within a folder that only wraps another; `CLASS/train` with `CLASS/test`; or `CLASS` alone. Raises
    `BadInput` for parts without one to train on.
    """
    return _Finder(root, entries).find()


def find_old_layout(root: Path, entries: Entries) -> Layout:
    """Return how the folder `root` was laid out for versions that knew no val: what runs of theirs go on with.

    `train/CLASS` with the first of `test`, `val` and their like beside it, whatever that holds, or `CLASS` alone.
    """
    children = {entry.name.lower(): entry.path for entry in entries(str(root)) if entry.is_dir()}
    finder = _Finder(root, entries)
    train = next((children[name] for name in _OLD_TRAIN if name in children), None)
    if train is None or not finder.folders(train):
        return Layout({"train": finder.folders(str(root))}, (str(root),))
    test = next((children[name] for name in _OLD_TEST if name in children), None)
    if test is None:
        return Layout({"train": finder.folders(train)}, (train,))
    return Layout({"train": finder.folders(train), "test": finder.folders(test)}, (train, test))


def part_of(name: str) -> tuple[Part, tuple[str, ...]] | None:
    """Return the part that a folder's `name` tells, and what else is in the name; None where it tells none."""
    words = [_without_filler(word.lower()) for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_]+", name)]
    told = [word for word in words if word in _PARTS]
    if len(told) != 1:
        return None
    return _PARTS[told[0]], tuple(word for word in words if word != told[0] and word not in _FILLERS)


def _without_filler(word: str) -> str:
    ends = (word.removesuffix(filler) for filler in _FILLERS)
    return next((end for end in ends if end != word and end in _PARTS), word)


def _rank(name: str) -> tuple[int, str]:
    """Order folders of the same part: `train` comes before `training`."""
    words = re.findall(r"[a-z]+", name.lower())
    return min((_RANK.get(_without_filler(word), len(_RANK)) for word in words), default=len(_RANK)), name


class _Finder:
    def __init__(self, root: Path, entries: Entries) -> None:
        self._root = str(root)
        self._list = entries
        self._notices: list[str] = []

    def find(self) -> Layout:
        folder = self._root
        for _ in range(_DEEPEST):
            children = self.folders(folder)
            found = self._with_parts(folder, children) or self._beside_classes(children) or self._by_class(children)
            if found is not None:
                return found
            inner = self._inner(children)
            if inner is None:
                break
            folder = inner
        self._refuse_parts_alone(folder, self.folders(folder))
        return self._layout({"train": self.folders(folder)}, [folder])

    # -- parts side by side ---------------------------------------------------------------------------------

    def _with_parts(self, folder: str, children: ClassFolders) -> Layout | None:
        group = self._group(children)
        if group is None:
            return None
        used = set(group.values())
        left_out = [name for name, path in children if path not in used]
        if left_out:
            self._notices.append(f"{self._shown(folder)} has folders not used as train, val or test: "
                                 f"{_listed(left_out)}")  # fmt: skip
        train = self._unwrapped(group["train"], frozenset())
        parts: dict[Part, ClassFolders] = {"train": self.folders(train)}
        if not parts["train"]:
            raise BadInput(f"{clean(train, 300)} has no class folders to train on; lay it out as train/CLASS/image.png")
        return self._labelled(parts, [train], group)

    def _labelled(self, parts: dict[Part, ClassFolders], folders: list[str], group: _Group) -> Layout:
        """Add the val and test folders in `group` to `parts`, those without labels left out."""
        known = frozenset(name for name, _ in parts["train"])
        for part in ("val", "test"):
            if part not in group:
                continue
            inner = self._unwrapped(group[part], known)
            classes = self.folders(inner)
            if known.isdisjoint(name for name, _ in classes):
                self._notices.append(self._unlabelled(inner))
            else:
                parts[part] = classes
                folders.append(inner)
        return self._layout(parts, folders)

    def _group(self, children: ClassFolders) -> _Group | None:
        """Return the folders that are parts of one division; None where there are none."""
        groups: dict[tuple[str, ...], _Group] = {}
        for name, path in sorted(children, key=lambda child: _rank(child[0])):
            told = part_of(name)
            if told is not None:
                groups.setdefault(told[1], {}).setdefault(told[0], path)
        # `train` without folders in it, and alone, is a class: of vehicles, say. `test_tube` is one as well.
        good = [
            (rest, group)
            for rest, group in groups.items()
            if "train" in group and (len(group) > 1 or (not rest and self.folders(group["train"])))
        ]
        return min(good, key=lambda item: (len(item[0]), -len(item[1]), item[0]))[1] if good else None

    def _unlabelled(self, folder: str) -> str:
        count = sum(1 for _ in self._files(folder))
        if not count:
            return f"{self._shown(folder)} holds no images"
        files = "1 image" if count == 1 else f"{count:,} images"
        return (
            f"{self._shown(folder)}: {files} not in any of the training classes, skipped and not scored; "
            "finetui predict classifies them"
        )

    # -- other arrangements ---------------------------------------------------------------------------------

    def _beside_classes(self, children: ClassFolders) -> Layout | None:
        """Recognise `CLASS` beside `test/CLASS`."""
        group: _Group = {}
        for name, path in children:
            told = part_of(name)
            inside = {inner for inner, _ in self.folders(path)} if told is not None and not told[1] else set()
            if told is not None and inside and inside <= {other for other, _ in children} - {name}:
                group[told[0]] = path
        if not group or "train" in group:
            return None
        classes = [(name, path) for name, path in children if path not in group.values()]
        return self._labelled({"train": classes}, [str(Path(path).parent) for _, path in classes[:1]], group)

    def _by_class(self, children: ClassFolders) -> Layout | None:
        """Recognise `CLASS/train` beside `CLASS/test`: in each class the same parts, and nothing else."""
        if len(children) < 2:
            return None
        parts: dict[Part, ClassFolders] = {}
        for name, path in children:
            inside = self.folders(path)
            group = self._group(inside) or {}
            # In parts of a class lie images; what has folders is a data set of its own.
            if len(group) < 2 or len(group) != len(inside) or any(self.folders(inner) for _, inner in inside):
                return None
            for part, inner in group.items():
                parts.setdefault(part, []).append((name, inner))
        return self._layout(parts, [path for _, path in children])

    def _inner(self, children: ClassFolders) -> str | None:
        """Return the one folder that holds everything, or the only one with parts in it; None where there is none."""
        if len(children) == 1:
            name, path = children[0]
            told = part_of(name)
            return path if self.folders(path) and (told is None or told[0] == "train") else None
        if len(children) > _MOST_PEEKED:
            return None
        inner = [(name, path) for name, path in children if len(self._group(self.folders(path)) or ()) > 1]
        if len(inner) != 1:
            return None
        others = _listed([name for name, path in children if path != inner[0][1]])
        self._notices.append(f"the parts in {self._shown(inner[0][1])} are used, not {others}")
        return inner[0][1]

    def _refuse_parts_alone(self, folder: str, children: ClassFolders) -> None:
        told = [part_of(name) for name, _ in children]
        if told and None not in told and len({rest for _, rest in filter(None, told)}) == 1:
            raise BadInput(
                f"{clean(folder, 300)} has {_listed([name for name, _ in children])}, but no images to train on in "
                "class folders; lay it out as train/CLASS/image.png, val/CLASS/image.png and test/CLASS/image.png"
            )

    # -- folders --------------------------------------------------------------------------------------------

    def _unwrapped(self, folder: str, known: frozenset[str]) -> str:
        """Return what `folder` wraps (`seg_train/seg_train`, `test/images`), by default itself."""
        for _ in range(_DEEPEST):
            children = self.folders(folder)
            if len(children) != 1 or children[0][0] in known:
                break
            name, path = children[0]
            if not self.folders(path) and (not known or part_of(name) is None):
                break
            folder = path
        return folder

    def _layout(self, parts: dict[Part, ClassFolders], folders: list[str]) -> Layout:
        return Layout(parts, tuple(folders), tuple(self._notices))

    def folders(self, folder: str) -> ClassFolders:
        """Return the folders in `folder`, by name."""
        return [(entry.name, entry.path) for entry in self._list(folder) if entry.is_dir()]

    def _files(self, folder: str) -> Iterator[str]:
        for entry in self._list(folder):
            if entry.is_dir(follow_symlinks=False):
                yield from self._files(entry.path)
            else:
                yield entry.path

    def _shown(self, folder: str) -> str:
        return clean(self._root if folder == self._root else os.path.relpath(folder, self._root), 300)


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(clean(name, 60) for name in names[:most]) + more
