"""Test images that are training images: pixel by pixel in memory, byte by byte in files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from finetui.engine.data import ResidentSplit, find_duplicates, load
from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import DataConfig


def split(*greys: int) -> ResidentSplit:
    images = torch.tensor(greys, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    return ResidentSplit(images, torch.zeros(len(greys), dtype=torch.int64), (0.0,), (1.0,))


def test_each_test_image_is_paired_with_the_first_training_image_that_is_the_same() -> None:
    assert find_duplicates(split(5, 7, 5, 9), split(1, 5, 9, 9)) == [(1, 0), (2, 3), (3, 3)]
    assert find_duplicates(split(5), split(6)) == []


def test_one_pixel_makes_a_difference() -> None:
    train, test = split(5), split(5)
    test.images[0, 0, 3, 3] = 6
    assert find_duplicates(train, test) == []


def test_it_reports_and_stops() -> None:
    seen = []
    find_duplicates(split(*range(100)), split(1), progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, 101)
    assert seen[-1] == (101, 101)
    assert find_duplicates(split(5), split(5), stopped=lambda: True) == []


@pytest.mark.parametrize("loader", ["resident", "stream"])
def test_files_are_compared_however_they_are_held(tmp_path: Path, loader: str) -> None:
    random = np.random.default_rng(0)
    for part, seeds in (("train", (1, 2, 3, 4)), ("test", (5, 2, 6, 4))):
        for place, seed in enumerate(seeds):
            folder = tmp_path / part / ("a" if place < 2 else "b")
            folder.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(seed).integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{random.integers(10**9)}_{place}.png")
    data = load(DataConfig(name=str(tmp_path), loader=loader), torch.device("cpu"))
    try:
        pairs = find_duplicates(data.train, data.test)
        names = [(Path(data.test.file(t)).name[-5:], Path(data.train.file(r)).name[-5:]) for t, r in pairs]
        assert sorted(names) == [("1.png", "1.png"), ("3.png", "3.png")]
        Path(data.test.file(pairs[0][0])).unlink()
        if loader == "stream":
            assert len(find_duplicates(data.train, data.test)) == 1
    finally:
        data.train.close()
        data.test.close()


def test_too_many_images_to_decode_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetui.engine.data.duplicates._MOST_DECODED", 3)
    train, test = split(1, 2), split(3, 4)
    train.in_memory = test.in_memory = False
    with pytest.raises(BadInput, match="--loader resident"):
        find_duplicates(train, test)
