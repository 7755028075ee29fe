import gzip
import os
import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from finetui.engine.data import idx
from finetui.engine.errors import BadInput


def images_bytes(images: np.ndarray, magic: int = idx.IMAGES) -> bytes:
    return struct.pack(f">{1 + images.ndim}I", magic, *images.shape) + images.tobytes()


@contextmanager
def nobody() -> Iterator[None]:
    """Be someone without rights: root reads everything."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)


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
        (lambda data: data[:4] + b"\0\0\0\0" + data[8:], "empty: its header says 0 images"),
        (lambda data: data[:8] + b"\0\0\0\0" + data[12:], "3x0x5 values; at most 4096 pixels a side"),
        (lambda data: data[:8] + b"\0\0\x10\x01" + data[12:], "3x4097x5 values; at most 4096 pixels a side"),
        (lambda data: data[:4] + b"\xff" * 12 + data[16:], "1 073 741 824 values in all"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, good, pack, damage, says: str) -> None:
    (tmp_path / "images").write_bytes(pack(damage(images_bytes(good))))
    with pytest.raises(BadInput, match="images") as caught:
        idx.read_images(tmp_path / "images")
    assert says in str(caught.value)
    assert "fetch it again" in str(caught.value)


def test_a_labels_file_without_labels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "l").write_bytes(images_bytes(np.zeros(0, np.uint8), idx.LABELS))
    with pytest.raises(BadInput, match="0 labels"):
        idx.read_labels(tmp_path / "l", 10)


def test_gzip_is_known_by_its_content_and_the_plain_file_preferred(tmp_path: Path, good) -> None:
    (tmp_path / "zipped-without-suffix").write_bytes(gzip.compress(images_bytes(good)))
    (tmp_path / "plain.gz").write_bytes(images_bytes(good))
    assert np.array_equal(idx.read_images(tmp_path / "zipped-without-suffix"), good)
    assert np.array_equal(idx.read_images(tmp_path / "plain.gz"), good)
    (tmp_path / "plain").touch()
    assert idx.locate(tmp_path, "plain") == tmp_path / "plain"
    assert idx.locate(tmp_path, "zipped") is None


def test_a_header_that_promises_much_allocates_nothing(tmp_path: Path, good) -> None:
    lying = struct.pack(">4I", idx.IMAGES, 1000, 1000, 1000) + b"few bytes"
    for name, content, says in (
        ("plain", lying, "truncated: 1 000 000 016 bytes expected, 25 found"),
        ("zip", gzip.compress(lying), "too short for the 1 000 000 000 values"),
    ):
        (tmp_path / name).write_bytes(content)
        tracemalloc.start()
        with pytest.raises(BadInput, match=says):
            idx.read_images(tmp_path / name)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 50e6


def test_a_compressed_bomb_is_not_inflated(tmp_path: Path, good) -> None:
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(images_bytes(good) + bytes(100_000_000), compresslevel=1))
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
    assert idx.read_labels(tmp_path / "l", 11).tolist() == [0, 10, 3]


def test_counts_must_agree_and_files_be_there(tmp_path: Path, good) -> None:
    images, labels = idx.file_names("train")
    (tmp_path / images).write_bytes(images_bytes(good))
    with pytest.raises(BadInput, match=f"no {labels}"):
        idx.read_pair(tmp_path, "train", 10)
    (tmp_path / f"{labels}.gz").write_bytes(gzip.compress(images_bytes(np.zeros(2, np.uint8), idx.LABELS)))
    with pytest.raises(BadInput, match="3 images.*2 labels"):
        idx.read_pair(tmp_path, "train", 10)


def test_a_file_without_permission_is_refused(tmp_path: Path, good) -> None:
    (tmp_path / "secret").write_bytes(images_bytes(good))
    (tmp_path / "secret").chmod(0)
    with nobody(), pytest.raises(BadInput, match="Permission denied"):
        idx.read_images(tmp_path / "secret")


def test_a_folder_that_hides_its_files_is_not_one_without_them(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with nobody(), pytest.raises(BadInput, match="train-images-idx3-ubyte cannot be read: Permission denied"):
        idx.locate(tmp_path / "closed", "train-images-idx3-ubyte")


@pytest.mark.timeout(10)
def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(BadInput, match="it is not a file"):
            idx.read_images(path)


def test_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "images").symlink_to(tmp_path / "gone")
    found = idx.locate(tmp_path, "images")
    assert found == tmp_path / "images"
    with pytest.raises(BadInput, match="images cannot be read: No such file"):
        idx.read_images(found)


def test_a_hostile_path_is_shown_harmlessly(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b]0;owned\x07b"
    path.write_bytes(b"")
    with pytest.raises(BadInput) as caught:
        idx.read_images(path)
    assert "\x1b" not in str(caught.value)
