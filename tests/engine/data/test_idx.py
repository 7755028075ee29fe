import gzip
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from engine.data import idx
from engine.errors import BadInput


def images_bytes(images: np.ndarray, magic: int = idx.IMAGES) -> bytes:
    return struct.pack(f">{1 + images.ndim}I", magic, *images.shape) + images.tobytes()


@pytest.fixture
def good() -> np.ndarray:
    return np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@given(images=arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, max_side=6)), labels=st.binary(min_size=1))
def test_what_was_written_is_read(tmp_path_factory, pack, images: np.ndarray, labels: bytes) -> None:
    folder = tmp_path_factory.mktemp("idx")
    values = np.frombuffer(labels, dtype=np.uint8)
    (folder / "i").write_bytes(pack(images_bytes(images)))
    (folder / "l").write_bytes(pack(images_bytes(values, idx.LABELS)))
    assert np.array_equal(idx.read_images(folder / "i"), images)
    assert np.array_equal(idx.read_labels(folder / "l", 256), values)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: data[:-1], "truncated: 76 bytes expected, 75 found"),
        (lambda data: data + b"x", "more bytes than the 76"),
        (lambda data: b"\0\0\x08\x01" + data[4:], "0x00000801 instead of 0x00000803"),
        (lambda data: b"", "too short"),
        (lambda data: data[:10], "inside its header"),
        (lambda data: data[:4] + b"\0\0\0\0" + data[8:], "0x4x5 values"),
        (lambda data: data[:4] + b"\xff" * 12 + data[16:], "cannot be right"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, good, pack, damage, says: str) -> None:
    (tmp_path / "images").write_bytes(pack(damage(images_bytes(good))))
    with pytest.raises(BadInput, match="images") as caught:
        idx.read_images(tmp_path / "images")
    assert says in str(caught.value)


def test_a_header_that_promises_much_allocates_nothing(tmp_path: Path, good) -> None:
    lying = struct.pack(">4I", idx.IMAGES, 2000, 1000, 1000) + b"few bytes"
    for name, content in (("plain", lying), ("zip", gzip.compress(lying))):
        (tmp_path / name).write_bytes(content)
        tracemalloc.start()
        with pytest.raises(BadInput, match="truncated"):
            idx.read_images(tmp_path / name)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 50e6


def test_a_compressed_bomb_is_not_inflated(tmp_path: Path, good) -> None:
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(images_bytes(good) + bytes(300_000_000), compresslevel=1))
    tracemalloc.start()
    with pytest.raises(BadInput, match="more bytes"):
        idx.read_images(tmp_path / "bomb.gz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


def test_a_damaged_gzip_is_refused(tmp_path: Path, good) -> None:
    packed = bytearray(gzip.compress(images_bytes(good)))
    for content in (packed[:-6], packed[:14] + b"\xff\xff\xff" + packed[17:], packed[:-8] + b"abcd" + packed[-4:]):
        (tmp_path / "x.gz").write_bytes(content)
        with pytest.raises(BadInput, match="damaged"):
            idx.read_images(tmp_path / "x.gz")


def test_a_label_out_of_range_is_refused(tmp_path: Path) -> None:
    (tmp_path / "l").write_bytes(images_bytes(np.array([0, 10, 3], np.uint8), idx.LABELS))
    with pytest.raises(BadInput, match="the label 10"):
        idx.read_labels(tmp_path / "l", 10)


def test_counts_must_agree_and_files_be_there(tmp_path: Path, good) -> None:
    images, labels = idx.file_names("train")
    (tmp_path / images).write_bytes(images_bytes(good))
    with pytest.raises(BadInput, match=f"no {labels}"):
        idx.read_pair(tmp_path, "train", 10)
    (tmp_path / f"{labels}.gz").write_bytes(gzip.compress(images_bytes(np.zeros(2, np.uint8), idx.LABELS)))
    with pytest.raises(BadInput, match="3 images.*2 labels"):
        idx.read_pair(tmp_path, "train", 10)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_refused(tmp_path: Path, good) -> None:
    (tmp_path / "secret").write_bytes(images_bytes(good))
    (tmp_path / "secret").chmod(0)
    with pytest.raises(BadInput, match="Permission denied"):
        idx.read_images(tmp_path / "secret")


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        idx.read_images(tmp_path)


def test_a_hostile_path_is_shown_harmlessly(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b]0;owned\x07b"
    path.write_bytes(b"")
    with pytest.raises(BadInput) as caught:
        idx.read_images(path)
    assert "\x1b" not in str(caught.value)
