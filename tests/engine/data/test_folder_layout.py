"""Which images of a folder are trained on, which are scored as what, and what is said: over all kinds of folders."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from finetui.engine.data import ImageData, load
from finetui.engine.data.folder_layout import part_of
from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import DataConfig

TRAIN, VAL, TEST = 10, 4, 6  # images of each class


def lay_out(root: Path, **folders: int) -> Path:
    """Make images of two classes: so many of each in every folder."""
    for folder, count in folders.items():
        for label, name in enumerate(("cat", "dog")):
            for index in range(count):
                paint(root / folder / name / f"{index}.png", 40 + 100 * label + index)
    return root


def paint(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), value).save(path)


def read(root: Path, **settings: object) -> ImageData:
    return load(DataConfig(name=str(root), **settings), torch.device("cpu"))


def sizes(data: ImageData) -> dict[str, int]:
    """Return how many images each part has, once it is certain that both classes are in each, under their names."""
    assert data.classes == ("cat", "dog")
    for split in data.parts.values():
        for index, label in enumerate(split.labels.tolist()):
            assert (split.item(index).float().mean() > 120) == bool(label)
    return {part: len(split) for part, split in data.parts.items()}


THREE = {"train": 2 * TRAIN, "val": 2 * VAL, "test": 2 * TEST}
TWO = {"train": 2 * TRAIN, "test": 2 * TEST}
FOLDERS = {
    "three": ({"train": TRAIN, "val": VAL, "test": TEST}, THREE),
    "training": ({"training": TRAIN, "validation": VAL, "testing": TEST}, THREE),
    "capitals": ({"Train": TRAIN, "VALID": VAL, "Test": TEST}, THREE),
    "dev": ({"train": TRAIN, "dev": VAL, "test": TEST}, THREE),
    "evaluation": ({"training": TRAIN, "validation": VAL, "evaluation": TEST}, THREE),
    "two": ({"train": TRAIN, "test": TEST}, TWO),
    "val alone": ({"train": TRAIN, "val": VAL}, {"train": 2 * TRAIN, "val": 2 * VAL}),
    "wrapped": ({"data/photos/train": TRAIN, "data/photos/test": TEST}, TWO),
    "seg": ({"seg_train/seg_train": TRAIN, "seg_test/seg_test": TEST}, TWO),
    "seg, wrapped": ({"seg/seg_train/images": TRAIN, "seg/seg_test/images": TEST}, TWO),
    "set": ({"training_set": TRAIN, "test_set": TEST}, TWO),
    "trainset": ({"trainset": TRAIN, "valset": VAL, "testset": TEST}, THREE),
    "camel": ({"TrainImages": TRAIN, "TestImages": TEST}, TWO),
    "years": ({"train2017": TRAIN, "val2017": VAL}, {"train": 2 * TRAIN, "val": 2 * VAL}),
    "suffix": ({"photos-train": TRAIN, "photos-val": VAL, "photos-test": TEST}, THREE),
    "spaces": ({"Training Set": TRAIN, "Validation Set": VAL, "Test Set": TEST}, THREE),
    "beside": ({".": TRAIN, "test": TEST}, TWO),
    "no parts": ({".": TRAIN}, {"train": 16, "test": 4}),
    "no parts, wrapped": ({"images": TRAIN}, {"train": 16, "test": 4}),
    "train alone": ({"train": TRAIN}, {"train": 16, "test": 4}),
    "one part, wrapped": ({"seg_train/seg_train": TRAIN}, {"train": 16, "test": 4}),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_every_part_is_used_as_what_it_is(tmp_path: Path, kind: str) -> None:
    folders, expected = FOLDERS[kind]
    data = read(lay_out(tmp_path / "d", **folders))
    assert sizes(data) == expected
    assert data.watched == ("val" if "val" in expected else "test")
    assert data.scored == ("test" if "test" in expected else "val")
    assert data.notices == data.problems == ()


def test_classes_whose_folders_hold_the_parts(tmp_path: Path) -> None:
    for label, name in enumerate(("cat", "dog")):
        for part, count in (("train", TRAIN), ("val", VAL), ("test", TEST)):
            for index in range(count):
                paint(tmp_path / name / part / f"{index}.png", 40 + 100 * label + index)
    assert sizes(read(tmp_path)) == THREE


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        ({"validation": VAL, "test": TEST}, "test, validation"),
        ({"test": TEST}, "test"),
        ({"wrapped/val": VAL, "wrapped/test": TEST}, "test, val"),
    ],
)
def test_parts_are_never_read_as_classes(tmp_path: Path, folders: dict[str, int], names: str) -> None:
    with pytest.raises(BadInput, match=rf"has {names}, but no images to train on .*lay it out as train/CLASS"):
        read(lay_out(tmp_path, **folders))


def test_parts_without_class_folders_are_no_classes(tmp_path: Path) -> None:
    for part in ("train", "test"):
        paint(tmp_path / part / "0.png", 1)
    with pytest.raises(BadInput, match="train has no class folders to train on"):
        read(tmp_path)


@pytest.mark.parametrize(
    "names", [("train_station", "test_tube"), ("train", "car"), ("valid", "invalid"), ("dev", "ops")]
)
def test_classes_that_sound_like_parts_are_classes(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        for index in range(5):
            paint(tmp_path / name / f"{index}.png", index)
    data = read(tmp_path)
    assert data.classes == tuple(sorted(names))
    assert (len(data.train), len(data.parts["test"])) == (8, 2)


@pytest.mark.parametrize("inside", ["", "unknown", "unlabeled", "test", "images"])
def test_images_without_labels_are_not_scored_and_it_is_said(tmp_path: Path, inside: str) -> None:
    lay_out(tmp_path, train=TRAIN, valid=VAL)
    for index in range(7):
        paint(tmp_path / "test" / inside / f"{index}.png", index)
    data = read(tmp_path)
    assert sizes(data) == {"train": 2 * TRAIN, "val": 2 * VAL}
    (said,) = data.notices
    assert ": 7 images not in any of the training classes, skipped and not scored" in said
    assert "finetui predict" in said


def test_without_labels_to_test_on_some_come_from_train(tmp_path: Path) -> None:
    lay_out(tmp_path, train=TRAIN)
    paint(tmp_path / "test" / "0.png", 1)
    data = read(tmp_path)
    assert sizes(data) == {"train": 16, "test": 4}
    assert "1 image not in any of the training classes" in data.notices[0]


def test_what_is_no_part_is_left_out_and_said(tmp_path: Path) -> None:
    lay_out(tmp_path, **{"seg_train/seg_train": TRAIN, "seg_test/seg_test": TEST})
    paint(tmp_path / "seg_pred" / "seg_pred" / "0.png", 1)
    data = read(tmp_path)
    assert sizes(data) == TWO
    assert data.notices == (f"{tmp_path} has folders not used as train, val or test: seg_pred",)


def test_parts_one_level_down_beside_something_else(tmp_path: Path) -> None:
    lay_out(tmp_path, **{"images/train": TRAIN, "images/test": TEST})
    (tmp_path / "annotations").mkdir()
    data = read(tmp_path)
    assert sizes(data) == TWO
    assert data.notices == ("the parts in images are used, not annotations",)


def test_the_first_of_two_folders_for_one_part(tmp_path: Path) -> None:
    data = read(lay_out(tmp_path, train=TRAIN, training=2, test=TEST))
    assert sizes(data) == TWO
    assert "not used as train, val or test: training" in data.notices[0]


def test_a_part_of_a_link_is_followed_only_inside(tmp_path: Path) -> None:
    lay_out(tmp_path / "elsewhere", test=TEST)
    lay_out(tmp_path / "d", train=TRAIN)
    (tmp_path / "d" / "test").symlink_to(tmp_path / "elsewhere" / "test")
    with pytest.raises(BadInput, match="out of the folder"):
        read(tmp_path / "d")
    assert sizes(read(tmp_path / "d", follow_links=True)) == TWO


# -- val, held out ----------------------------------------------------------------------------------------------


def names(data: ImageData, part: str) -> set[str]:
    split = data.parts[part]
    return {split.file(index) for index in range(len(split))}


@pytest.mark.parametrize("loader", ["resident", "stream"])
def test_val_comes_off_the_training_images(tmp_path: Path, loader: str) -> None:
    root = lay_out(tmp_path, train=TRAIN, test=TEST)
    before, data = read(root), read(root, val=0.2, loader=loader)
    assert sizes(data) == {"train": 16, "val": 4, "test": 12}
    assert torch.bincount(data.parts["val"].labels).tolist() == [2, 2]
    assert names(data, "train") | names(data, "val") == names(before, "train")
    assert not names(data, "train") & names(data, "val")
    assert names(data, "test") == names(before, "test")
    assert names(read(root, val=0.2), "val") == names(data, "val")
    data.close()


def test_the_seed_draws_val(tmp_path: Path) -> None:
    root = lay_out(tmp_path, train=TRAIN, test=TEST)
    drawn = {
        tuple(sorted(names(load(DataConfig(name=str(root), val=0.3), torch.device("cpu"), seed=seed), "val")))
        for seed in range(5)
    }
    assert len(drawn) == 5


def test_a_folder_without_parts_keeps_its_test_images_with_val(tmp_path: Path) -> None:
    root = lay_out(tmp_path, **{".": TRAIN})
    before, data = read(root), read(root, val=0.25)
    assert sizes(data) == {"train": 12, "val": 4, "test": 4}
    assert names(data, "test") == names(before, "test")


def test_val_of_its_own_is_kept(tmp_path: Path) -> None:
    data = read(lay_out(tmp_path, train=TRAIN, val=VAL, test=TEST), val=0.3)
    assert sizes(data) == THREE
    assert "has val images of its own" in data.notices[0]


def test_test_none(tmp_path: Path) -> None:
    root = lay_out(tmp_path, **{".": TRAIN})
    assert sizes(read(root, val=0.2, test="none")) == {"train": 16, "val": 4}
    with pytest.raises(BadInput, match=r"--test.: none leaves no images of .* to evaluate on; .*--val"):
        read(root, test="none")
    three = lay_out(tmp_path / "three", train=TRAIN, val=VAL, test=TEST)
    assert sizes(read(three, test="none")) == {"train": 2 * TRAIN, "val": 2 * VAL}


@pytest.mark.parametrize("share", [-0.1, 0.6, float("nan")])
def test_a_share_that_is_none(share: float) -> None:
    with pytest.raises(BadInput, match=r"data.val .--val. must be a fraction from 0 to 0.5"):
        DataConfig(val=share)


def test_one_image_of_each_class_leaves_none_for_val(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"--val.: .* has only one training image per class"):
        read(lay_out(tmp_path, train=1, test=1), val=0.5)


@pytest.mark.parametrize(
    ("name", "part"),
    [("Train", "train"), ("SEG_TRAIN", "train"), ("valSet", "val"), ("test-images", "test"), ("DevData", "val")],
)
def test_what_a_name_tells(name: str, part: str) -> None:
    told = part_of(name)
    assert told is not None
    assert told[0] == part


@pytest.mark.parametrize("name", ["strain", "contest", "trains", "validate", "train_test", "日本語", "devil", ""])
def test_what_names_tell_nothing(name: str) -> None:
    assert part_of(name) is None
