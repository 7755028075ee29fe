"""The cache of decoded images: the same bits as without it, whatever happens to its file, the images and the disk."""

import errno
import os
import pickle
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from fork_server import FORKED
from PIL import Image

from finetui.engine.data import ImageData, Unreadable, decoded_cache, image_files, load
from finetui.engine.data.decoded_cache import DecodedCache
from finetui.engine.protocol.config import DataConfig

CPU = torch.device("cpu")
COUNT = 24  # files, of which 16 are trained on


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    chance = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 4)):
        for name in ("a", "b"):
            path = tmp_path / "p" / part / name
            path.mkdir(parents=True)
            for index in range(count):
                pixels = chance.integers(0, 256, (20, 30, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path / f"{index:02}.jpg")
    return tmp_path / "p"


def read(root: Path, cache: str = "auto", **options: object) -> ImageData:
    request = DataConfig(name=str(root), loader="stream", workers=2, decoded_cache=cache, image_size=16, **options)
    return load(request, CPU)


def epoch(data: ImageData) -> dict[str, list[torch.Tensor]]:
    found = {}
    for part, split in data.parts.items():
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(1))
        found[part] = [tensor for batch in split.batches(order, 3) for tensor in batch]
    data.close()
    return found


def same(one: dict[str, list[torch.Tensor]], other: dict[str, list[torch.Tensor]]) -> bool:
    return one.keys() == other.keys() and all(
        len(one[part]) == len(other[part])
        and all(torch.equal(ours, theirs) for ours, theirs in zip(one[part], other[part], strict=True))
        for part in one
    )


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are decoded, as they are."""
    found: list[str] = []

    def decode(path: str, decoding: image_files.Decoding) -> np.ndarray:
        found.append(path)
        return image_files.decode(path, decoding)

    monkeypatch.setattr("finetui.engine.data.folder.decode", decode)
    return found


def caches() -> list[Path]:
    return sorted(decoded_cache.cache_folder().glob("*.pixels"))


def test_each_file_is_decoded_once_and_comes_out_the_same(folder: Path, decoded: list[str]) -> None:
    without = read(folder, "off")
    assert "decoded once" not in without.loader
    want = epoch(without)
    assert not caches()
    decoded.clear()
    data = read(folder)
    assert data.loader.endswith(f"; decoded once into {decoded_cache.cache_folder()}")
    assert (data.mean, data.std) == (without.mean, without.std)
    assert same(epoch(data), want) and same(epoch(data), want)
    assert sorted(decoded) == sorted(set(decoded)) and len(decoded) == COUNT
    assert data.train.item(3).equal(without.train.item(3))
    decoded.clear()
    again = read(folder)  # another run; and one whose parts are others
    assert same(epoch(again), want)
    drawn, plain = read(folder, val=0.25), read(folder, "off", val=0.25)
    assert same(epoch(drawn), epoch(plain))
    assert len(decoded) == COUNT + 12  # by the one without a cache: for its sample of 12 images, and its epoch
    assert len(caches()) == 1


def test_other_ways_to_decode_and_other_files_have_caches_of_their_own(folder: Path, decoded: list[str]) -> None:
    epoch(read(folder))
    request = DataConfig(name=str(folder), loader="stream", image_size=12)
    assert load(request, CPU).train.item(0).shape == (3, 12, 12)
    assert len(caches()) == 2
    Image.new("RGB", (30, 20), (200, 0, 0)).save(folder / "train" / "a" / "00.jpg")
    decoded.clear()
    assert same(epoch(read(folder)), epoch(read(folder, "off")))
    assert len(caches()) == 3


def test_a_file_that_changes_while_it_is_used_is_read_anew(folder: Path) -> None:
    data = read(folder)
    epoch(data)
    before = data.train.item(0)
    Image.new("RGB", (30, 20), (200, 0, 0)).save(folder / "train" / "a" / "00.jpg")
    assert not data.train.item(0).equal(before)
    assert data.train.item(0).float().std(dim=(1, 2)).max() < 3
    (folder / "train" / "a" / "01.jpg").unlink()
    with pytest.raises(Unreadable):
        data.train.item(1)


def test_unreadable_files_are_left_out_and_told_as_without_a_cache(folder: Path) -> None:
    for name in ("train/a/02.jpg", "test/b/00.jpg"):
        os.truncate(folder / name, 640)
    told = []
    for cache in ("off", "auto", "auto"):
        data = read(folder, cache)
        batches = epoch(data)
        told.append((sorted(data.take_problems()), {part: len(each) for part, each in batches.items()}))
    assert len(told[0][0]) == 2
    assert told[0] == told[1] == told[2]


@pytest.mark.parametrize("damage", ["zeros", "cut", "noise"])
def test_what_is_torn_is_decoded_again(folder: Path, damage: str, decoded: list[str]) -> None:
    want = epoch(read(folder))
    (path,) = caches()
    size = path.stat().st_size
    if damage == "cut":
        os.truncate(path, size // 2 + 100)
    else:
        with path.open("r+b") as file:  # pages that had not reached the disk, or are somebody else's
            file.seek(size // 3)
            file.write((b"\0" if damage == "zeros" else b"x") * (size // 3))
    decoded.clear()
    assert same(epoch(read(folder)), want)
    assert 0 < len(decoded) < COUNT
    decoded.clear()
    assert same(epoch(read(folder)), want)
    assert not decoded


def test_a_full_disk_ends_the_cache_and_nothing_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want = epoch(read(folder, "off"))
    written = 0
    write = os.pwritev

    def full(*arguments: object) -> int:
        nonlocal written
        written += 1
        if written > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(*arguments)

    monkeypatch.setattr(os, "pwritev", full)
    data = read(folder)
    assert same(epoch(data), want) and same(epoch(data), want)
    (path,) = caches()
    assert data.take_problems() == [f"{path}: no more decoded images are cached here (No space left on device)"]
    assert data.take_problems() == []
    assert written == 6


def test_it_leaves_space_for_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded_cache, "_LEFT_FREE", 2**60)
    data = read(folder)
    epoch(data)
    assert "of disk space is free" in data.take_problems()[0]
    monkeypatch.setattr(decoded_cache, "_FREE_SHARE", 1e-12)
    for path in caches():
        path.unlink()
    data = read(folder)
    assert "decoded every epoch: 0.0 GB is more than the cache may use" in data.loader
    assert not caches()


def test_a_cache_that_cannot_be_made_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(exist_ok=True)
    (tmp_path / "cache" / "finetui").write_text("in the way")
    data = read(folder)
    assert "decoded every epoch: there is no cache in" in data.loader
    assert same(epoch(data), epoch(read(folder, "off")))


def test_old_and_large_caches_go_and_those_in_use_stay(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = decoded_cache.cache_folder()
    place.mkdir(parents=True)
    now = time.time()
    for name, days in (("old", 40), ("used", 50), ("late", 1), ("early", 20)):
        path = place / f"{name}.pixels"
        path.write_bytes(b"x" * 8192)
        if name == "used":
            engine = DecodedCache(path, (1, 8, 8))
        os.utime(path, (now - 86400 * days,) * 2)
    read(folder)
    assert {path.stem for path in caches()} >= {"used", "late", "early"}
    assert not (place / "old.pixels").exists()
    monkeypatch.setattr(decoded_cache, "MOST_BYTES", COUNT * 800 + 2 * 8192)  # ours takes 776 bytes an image
    read(folder)
    assert {path.stem for path in caches()} >= {"used", "late"}
    assert not (place / "early.pixels").exists()
    assert engine.get(0) is None


def test_it_goes_to_worker_processes(tmp_path: Path) -> None:
    cache = DecodedCache(tmp_path / "x.pixels", (1, 2, 3))
    image = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    other = pickle.loads(pickle.dumps(cache))
    other.put(7, image)
    assert np.array_equal(cache.get(7), image)
    assert cache.get(6) is None and cache.get(8) is None


KILLED = """
import sys, torch
from finetui.engine.protocol.config import DataConfig
from finetui.engine.data import load
data = load(DataConfig(name=sys.argv[1], loader="stream", workers=2, image_size=16), torch.device("cpu"))
print("there", flush=True)
while True:
    for _ in data.train.batches(torch.arange(16), 3):
        pass
    for path in data.train._source.cache.path.parent.glob("*"):
        with path.open("r+b") as file:
            file.truncate(0)
"""


def test_an_engine_that_is_killed_while_it_writes_leaves_a_cache_that_is_right(folder: Path) -> None:
    want = epoch(read(folder, "off"))
    for _ in range(3):
        with subprocess.Popen([*FORKED, KILLED, str(folder)], stdout=subprocess.PIPE, text=True) as engine:
            assert engine.stdout.readline() == "there\n"
            time.sleep(0.2)
            engine.send_signal(signal.SIGKILL)
        assert same(epoch(read(folder)), want)
