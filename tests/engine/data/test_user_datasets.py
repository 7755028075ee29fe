"""A person's own datasets and factories, good and bad."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from finetui.engine.data import Unreadable, from_datasets, load
from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import DataConfig

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
        Items((grey(1), 0), ("nothing", 1), (torch.zeros(2, 5, 6, dtype=torch.uint8), 1), (grey(3), 1)),
        Items((grey(1), 0)),
        CPU,
    )
    ((images, labels),) = data.train.batches(torch.arange(4), 4)
    assert (len(images), labels.tolist(), data.train.skipped) == (2, [0, 1], {1, 2})
    assert data.train.labels.tolist() == [0, 1, 1, 1]  # it keeps its place, as in a streamed set
    assert [problem.partition(":")[0] for problem in data.problems] == ["train item 1", "train item 2"]


@pytest.mark.parametrize(
    ("train", "says"),
    [
        (Items(), "the train set is empty"),
        (Items((grey(1), 0.5)), "the label of train item 0 is 0.5"),
        (Items((grey(1), -1)), "the label of train item 0 is -1"),
        (Items(grey(1)), r"not an \(image, label\) pair"),
        (Items((object(), 0)), "the training items cannot be used"),
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
        ("my_digits.py:single", "must return datasets: .train, test., or .train, val, test."),
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


class Raising(Items):
    def __getitem__(self, index: int) -> object:
        if index == 1:
            raise OSError("disk")
        return super().__getitem__(index)


def test_an_item_that_raises_is_skipped_whether_labels_are_listed_or_not() -> None:
    train = Raising((grey(1), 0), (grey(2), 1), (grey(3), 1))
    for listed in (None, [0, 1, 1]):
        if listed is not None:
            train.targets = listed
        data = from_datasets(train, Items((grey(1), 0)), CPU)
        # Without a label it cannot keep its place.
        assert data.train.labels.tolist() == ([0, 1, 1] if listed else [0, 1])
        (images,) = [images for images, _ in data.train.batches(torch.arange(len(data.train)), 3)]
        assert (images[:, 0, 0, 0] > images[0, 0, 0, 0]).tolist() == [False, True]
        if listed:
            with pytest.raises(Unreadable, match="disk"):
                data.train.item(1)
        assert data.problems == ("train item 1: OSError: disk",)


@pytest.mark.parametrize("label", [np.array([1]), torch.tensor([1]), np.array([[1]], dtype=np.uint8), np.int64(1)])
@pytest.mark.parametrize("listed", [True, False])
def test_a_label_may_be_an_array_of_one_element(label: object, listed: bool) -> None:
    train = Items((grey(1), label), (grey(2), np.array([0])))
    if listed:
        train.targets = np.array([[1], [0]])
    assert from_datasets(train, train, CPU).train.labels.tolist() == [1, 0]


@pytest.mark.parametrize("listed", [["cat", "dog"], [1, 0], [0, 1, 1], {0: 1, 1: 0}, np.array([0.0, 1.0])])
@pytest.mark.parametrize("key", ["targets", "labels"])
def test_a_list_that_does_not_say_what_the_items_say_is_not_used(key: str, listed: object) -> None:
    train = Items((grey(1), 0), (grey(2), 1))
    setattr(train, key, listed)
    assert from_datasets(train, train, CPU).train.labels.tolist() == [0, 1]


def test_a_list_of_labels_saves_reading_every_item() -> None:
    class Counting(Items):
        reads = 0

        def __getitem__(self, index: int) -> object:
            self.reads += 1
            return super().__getitem__(index)

    train = Counting(*((grey(index), index % 2) for index in range(200)))
    train.targets = torch.arange(200) % 2
    reads = []
    from_datasets(train, Items((grey(1), 0)), CPU, progress=lambda *_: reads.append(train.reads))
    assert reads[0] < 200
    assert train.reads <= 200 + 16 + 100 + 64


def test_a_dataset_is_never_read_by_two_threads_at_once() -> None:
    class Alone(Items):
        reading = 0

        def __getitem__(self, index: int) -> object:
            assert self.reading == 0
            self.reading = 1
            time.sleep(0.002)
            self.reading = 0
            return super().__getitem__(index)

    items = Alone(*((grey(index), index % 2) for index in range(150)))
    assert from_datasets(items, Items((grey(1), 0)), CPU).problems == ()


@pytest.mark.parametrize("make", [lambda values: values, lambda values: Image.fromarray(values)])
def test_pictures_of_different_sizes_are_brought_to_one(make) -> None:
    sizes = [(20, 30), (40, 24), (60, 50)]
    items = Items(*((make(np.full(size, 9 + index, dtype=np.uint8)), index % 2) for index, size in enumerate(sizes)))
    data = from_datasets(items, items, CPU)
    assert (data.channels, data.height, data.width) == (1, 24, 24)
    assert data.train.item(2).unique().tolist() == [11]
    assert from_datasets(items, items, CPU, image_size=16).height == 16
    assert from_datasets(items, items, CPU, request=DataConfig(image_size=10)).width == 10


def test_one_colour_picture_makes_all_of_them_colour() -> None:
    items = Items((Image.new("L", (4, 4), 7), 0), (Image.new("RGB", (4, 4), (1, 2, 3)), 1))
    data = from_datasets(items, items, CPU)
    assert data.train.item(0)[:, 0, 0].tolist() == [7, 7, 7]
    assert data.train.item(1)[:, 0, 0].tolist() == [1, 2, 3]


def test_half_precision_and_what_floats_are_not() -> None:
    items = Items((torch.ones(1, 2, 2, dtype=torch.bfloat16), 0), (torch.zeros(1, 2, 2), 1), (grey(1), 1))
    data = from_datasets(items, items, CPU)
    assert data.train.item(0).dtype == torch.float32
    assert data.train.unreadable.keys() == {2}
    outside = Items((torch.full((1, 2, 2), -1.0), 0), (torch.zeros(1, 2, 2), 1))
    with pytest.raises(BadInput, match="--augment.: standard needs pixels from 0 to 1"):
        from_datasets(outside, outside, CPU, request=DataConfig(augment="standard"))
    assert len(from_datasets(outside, outside, CPU, request=DataConfig(augment="light")).train) == 2


def test_a_label_that_numbers_no_class_is_named() -> None:
    with pytest.raises(BadInput, match=r"train item 1 is 1000000000000; number the classes from 0 on"):
        from_datasets(Items((grey(1), 0), (grey(2), 10**12)), Items((grey(1), 0)), CPU)


def test_a_dataset_that_cannot_be_sent_to_workers_is_said() -> None:
    class Local(Items):
        pass

    items = Local((grey(1), 0), (grey(2), 1))
    data = from_datasets(items, items, CPU, request=DataConfig(loader="stream", workers=1))
    with pytest.raises(BadInput, match="cannot be sent to worker processes .*--loader resident"):
        next(data.train.batches(torch.tensor([0, 1]), 2))


def test_the_size_of_the_weights_reaches_a_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sized_digits.py").write_text(PAIR)
    monkeypatch.chdir(tmp_path)
    assert load(DataConfig(name="sized_digits:pair", image_size=32), CPU).height == 32


def test_pictures_of_32_bits_have_one_scale() -> None:
    pictures = [(Image.fromarray(np.full((9, 9), level, dtype="<f4")), level % 2) for level in (-100, 400, 901)]
    data = from_datasets(Items(*pictures), Items((Image.fromarray(np.full((9, 9), 2000.0, dtype="<f4")), 0)), CPU)
    assert [int(data.train.item(index)[0, 0, 0]) for index in range(3)] == [0, 127, 255]
    assert int(data.test.item(0)[0, 0, 0]) == 255
    assert data.notices == (
        "pixels of more than 8 bits are scaled from -100 .. 901 to 0 .. 255, the same in all images",
    )
