"""A person's own datasets and factories, good and bad."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.config import DataConfig
from engine.data import from_datasets, load
from engine.errors import BadInput

CPU = torch.device("cpu")


class Items(torch.utils.data.Dataset):
    def __init__(self, *items: object, classes: tuple[str, ...] | None = None) -> None:
        self.items = items
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> object:
        return self.items[index]


def grey(value: int) -> torch.Tensor:
    return torch.full((5, 6), value, dtype=torch.uint8)


@pytest.mark.parametrize(
    "make",
    [
        grey,
        lambda value: grey(value)[None],
        lambda value: grey(value).numpy(),
        lambda value: Image.fromarray(grey(value).numpy()),
    ],
)
def test_bytes_and_pictures(make) -> None:
    train = Items((make(10), 0), (make(20), np.int64(1)), (make(30), torch.tensor(1)))
    data = from_datasets(train, train, CPU)
    assert (data.channels, data.height, data.width) == (1, 5, 6)
    assert data.classes == ("0", "1")
    assert data.train.labels.tolist() == [0, 1, 1]
    assert data.train.item(2)[0, 0, 0] == 30


def test_colour_arrays_either_way_round() -> None:
    image = np.zeros((4, 5, 3), dtype=np.uint8)
    image[..., 2] = 200
    for values in (image, np.ascontiguousarray(image.transpose(2, 0, 1))):
        data = from_datasets(Items((values, 0), (values // 2, 1)), Items((values, 0)), CPU)
        assert (data.channels, data.height, data.width) == (3, 4, 5)
        assert data.train.item(0)[:, 0, 0].tolist() == [0, 0, 200]


def test_floats_are_used_as_they_are() -> None:
    image = torch.randn(2, 4, 4)
    data = from_datasets(Items((image, 0), (image * 2, 1)), Items((image, 1)), CPU)
    ((batch, _),) = data.train.batches(torch.tensor([1]), 1)
    assert torch.equal(batch[0], image * 2)
    assert (data.mean, data.std) == ((0.0, 0.0), (1.0, 1.0))


def test_class_names_are_taken_and_cleaned() -> None:
    items = Items((grey(1), 0), (grey(2), 1), classes=("a\x1b[2J", "数字"))
    assert from_datasets(items, items, CPU).classes == ("a�[2J", "数字")


def test_a_bad_item_is_skipped_like_a_bad_file() -> None:
    data = from_datasets(
        Items((grey(1), 0), ("nothing", 1), (grey(2)[:, :3], 1), (grey(3), 1)), Items((grey(1), 0)), CPU
    )
    assert data.train.labels.tolist() == [0, 1]
    assert [problem.partition(":")[0] for problem in data.problems] == ["train item 1", "train item 2"]


@pytest.mark.parametrize(
    ("train", "says"),
    [
        (Items(), "the train set is empty"),
        (Items((grey(1), 0.5)), "the label of train item 0 is 0.5"),
        (Items((grey(1), -1)), "the label of train item 0 is -1"),
        (Items(grey(1)), "no pair"),
        (Items((object(), 0)), "the first training item cannot be used"),
        (Items((grey(1), 0), (grey(2), 3), classes=("a", "b")), "2 class names, and labels up to 3"),
        (iter(()), "no length or no items"),
    ],
)
def test_what_is_wrong_with_a_dataset_is_said(train: object, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        from_datasets(train, Items((grey(1), 0)), CPU)


PAIR = """
import torch
class Digits(torch.utils.data.Dataset):
    def __len__(self): return 4
    def __getitem__(self, i):
        if i > 3: raise IndexError
        return torch.full((3, 3), i, dtype=torch.uint8), i % 2
def pair(): return Digits(), Digits()
def broken(): raise OSError("no disk")
def single(): return Digits()
"""


def test_a_factory_in_a_file_or_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_digits.py").write_text(PAIR)
    monkeypatch.chdir(tmp_path)
    for name in (f"{tmp_path}/my_digits.py:pair", "my_digits:pair"):
        data = load(DataConfig(name=name), CPU)
        assert len(data.train) == 4
        assert data.requested == name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("my_digits.py:broken", "failed .OSError: no disk"),
        ("my_digits.py:single", "must return a pair"),
        ("my_digits.py:nothing", "has no function or class 'nothing'"),
        ("no_such_module_anywhere:pair", "cannot be imported"),
        ("no/such/file.py:pair", "cannot be imported"),
    ],
)
def test_what_is_wrong_with_a_factory_is_said(tmp_path: Path, monkeypatch, name: str, says: str) -> None:
    (tmp_path / "my_digits.py").write_text(PAIR)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=says):
        load(DataConfig(name=name), CPU)


def test_own_datasets_can_be_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stream_digits.py").write_text(PAIR)
    monkeypatch.chdir(tmp_path)
    request = DataConfig(name="stream_digits:pair", loader="stream", workers=1)
    data = load(request, CPU)
    try:
        ((_, labels),) = data.train.batches(torch.tensor([3, 0]), 2)
        assert labels.tolist() == [1, 0]
    finally:
        data.train.close()
