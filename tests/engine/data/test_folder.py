"""Image folders with everything in them that is found in the wild."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from finetui.engine.data import ImageData, image_data, load
from finetui.engine.data.image_data import MOST_PROBLEMS
from finetui.engine.errors import BadInput, Cancelled
from finetui.engine.protocol.config import DataConfig

CPU = torch.device("cpu")


def paint(path: Path, colour: tuple[int, ...] | int, size: tuple[int, int] = (12, 12), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, ten training and five test images each; red and blue."""
    root = tmp_path / "photos"
    for part, count in (("train", 10), ("test", 5)):
        for name, colour in (("red", (250, 10, 10)), ("blue", (10, 10, 250))):
            for index in range(count):
                paint(root / part / name / f"{index}.png", colour)
    return root


def read(root: Path, **settings: object) -> ImageData:
    seed = settings.pop("seed", 0)
    return load(DataConfig(name=str(root), **settings), CPU, seed=seed)


def test_a_folder_with_a_training_and_a_test_part(folder: Path) -> None:
    data = read(folder)
    assert data.classes == ("blue", "red")
    assert (len(data.train), len(data.test)) == (20, 10)
    assert (data.channels, data.height, data.width) == (3, 12, 12)
    assert data.train.labels.tolist() == [0] * 10 + [1] * 10
    assert data.train.item(0)[:, 0, 0].tolist() == [10, 10, 250]
    assert data.train.item(19)[:, 5, 5].tolist() == [250, 10, 10]
    assert data.problems == data.notices == ()
    assert data.mean == pytest.approx((130 / 255, 10 / 255, 130 / 255))
    assert data.loader.startswith("resident, 13.0 KB of ")
    assert (data.name, data.requested, data.location) == ("photos", str(folder), str(folder))


def test_without_a_test_part_a_fifth_of_each_class_is_for_testing(folder: Path) -> None:
    root = folder / "train"
    paint(root / "red" / "more.png", (1, 2, 3))
    first, again = read(root), read(root)
    assert (len(first.train), len(first.test)) == (17, 4)
    assert torch.bincount(first.test.labels).tolist() == [2, 2]
    assert torch.equal(first.train.images, again.train.images)


def test_the_seed_decides_which_fifth(tmp_path: Path) -> None:
    for index in range(20):
        for name in ("a", "b"):
            paint(tmp_path / "d" / name / f"{index:02}.png", index, mode="L")
    parts = {tuple(sorted(read(tmp_path / "d", seed=seed).test.images[:, 0, 0, 0].tolist())) for seed in range(5)}
    assert len(parts) == 5


def png_header_of(width: int, height: int) -> bytes:
    """Return a PNG that says it has this size, and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    ihdr = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_what_is_no_readable_image_is_skipped_and_listed(folder: Path) -> None:
    red = folder / "train" / "red"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(red / "cut.png")
    os.truncate(red / "cut.png", 3000)
    (red / "empty.png").write_bytes(b"")
    (red / "notes.txt").write_text("not an image")
    (red / "huge.png").write_bytes(png_header_of(20_000, 20_000))
    (red / "large.png").write_bytes(png_header_of(8_000, 7_000))
    (red / "evil\x1b[2J.png").write_bytes(b"GIF89a")
    (folder / "train" / "nothing").mkdir()
    (folder / "train" / "stray.png").write_bytes(b"")
    paint(folder / "test" / "green" / "0.png", (0, 200, 0))
    (red / ".hidden.png").write_bytes(b"x")
    (red / "Thumbs.db").write_bytes(b"x")
    (folder / "train" / "__MACOSX").mkdir()
    os.mkfifo(red / "pipe.png")
    data = read(folder, image_size=12)
    # What proves no image only when it is decoded keeps its place.
    assert (len(data.train), len(data.train.unreadable), len(data.test)) == (21, 1, 10)
    assert data.classes == ("blue", "red")
    problems = "\n".join(data.problems)
    for says in (
        "train/red/cut.png: truncated image",
        "train/red/empty.png: empty",
        "train/red/notes.txt: not an image",
        "train/red/huge.png: a decompression bomb",
        "train/red/large.png: 8000x7000 pixels, more than 50 million",
        "train/red/evil�[2J.png: ",
        "nothing: a class without images",
        "train/stray.png: not in a class folder",
        "test/green/0.png: not a class to train on",
        "train/red/pipe.png: not a file",
    ):
        assert says in problems, problems
    assert len(data.problems) == 10
    assert "\x1b" not in problems
    assert "hidden" not in problems
    assert "10 files or classes were skipped (2 not an image that Pillow can read, " in data.notices[0]


def test_odd_images_are_read_rightly(tmp_path: Path) -> None:
    root = tmp_path / "odd"
    for name in ("a", "b"):
        paint(root / "test" / name / "x.png", 5, (4, 4), "RGB")
    a, b = root / "train" / "a", root / "train" / "b"
    paint(b / "x.png", 5, (4, 4), "RGB")
    a.mkdir()
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(a / "1-wide.png")
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    palette.save(a / "2-palette.png", transparency=1)
    Image.new("RGBA", (4, 4), (70, 80, 90, 0)).save(a / "3-alpha.png")
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(a / "4-cmyk.jpg", quality=100)
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    frames[0].save(a / "5-moving.gif", save_all=True, append_images=frames[1:])
    Image.new("1", (4, 4), 1).save(a / "6-bit.png")
    Image.new("LA", (4, 4), (99, 0)).save(a / "7-grey-alpha.png")
    images = read(root).train.images
    pixels = images[:7, :, 1, 1].tolist()
    assert pixels[0] == [156, 156, 156]  # 40 000 / 257
    assert pixels[1] == [10, 200, 30]
    assert pixels[2] == [70, 80, 90]
    assert np.allclose(pixels[3], [255, 0, 0], atol=3)
    assert pixels[4] == [255, 0, 0]
    assert pixels[5] == [255, 255, 255]
    assert pixels[6] == [99, 99, 99]


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for index in range(5):
            paint(tmp_path / "g" / name / f"{index}.png", 40 * index, (6, 9), "L")
    data = read(tmp_path / "g")
    assert (data.channels, data.height, data.width) == (1, 9, 6)


def test_photographs_are_turned_as_their_camera_says(tmp_path: Path) -> None:
    picture = np.zeros((16, 32, 3), dtype=np.uint8)
    picture[:, :16] = (255, 0, 0)  # red at the left; turned by 90 degrees clockwise, red is at the top
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a", "b"):
        for part in ("train", "test"):
            path = tmp_path / "e" / part / name / "0.jpg"
            path.parent.mkdir(parents=True)
            Image.fromarray(picture).save(path, exif=exif, quality=95)
    data = read(tmp_path / "e")
    assert (data.height, data.width) == (32, 16)
    image = data.train.item(0)
    assert image[0, 2, 8] > 200
    assert image[0, 29, 8] < 50


def test_images_of_different_sizes_are_scaled_and_cut(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for index, size in enumerate(((40, 60), (100, 50), (300, 400))):
            for part in ("train", "test"):
                paint(tmp_path / "s" / part / name / f"{index}.png", (9, 9, 200 + index), size)
    data = read(tmp_path / "s")
    assert (data.height, data.width) == (50, 50)
    assert data.train.item(2)[:, 10, 10].tolist() == [9, 9, 202]
    assert (read(tmp_path / "s", image_size=20).height) == 20


def test_links_stay_inside_unless_asked(folder: Path, tmp_path: Path) -> None:
    red = folder / "train" / "red"
    outside = tmp_path / "outside"
    paint(outside / "x.png", (1, 2, 3))
    pool = folder / "pool"
    paint(pool / "y.png", (4, 5, 6))
    (red / "out").symlink_to(outside)
    (red / "out.png").symlink_to(outside / "x.png")
    (red / "loop").symlink_to(red)
    (red / "self").symlink_to(red / "self")
    (red / "gone.png").symlink_to(red / "nowhere.png")
    (red / "again.png").symlink_to(red / "0.png")
    (red / "pooled.png").symlink_to(pool / "y.png")
    (red / "pooled2.png").symlink_to(pool / "y.png")
    data = read(folder)
    assert len(data.train) == 21
    problems = "\n".join(data.problems)
    for says in (
        "red/out: a link out of the folder",
        "red/out.png: a link out of the folder",
        "red/loop: a link to a folder that contains it",
        "red/self: a broken link",
        "red/gone.png: a broken link",
        "red/again.png: a link to an image already included",
        "red/pooled2.png: a link to an image",
    ):
        assert says in problems, problems
    followed = read(folder, follow_links=True)
    assert len(followed.train) == 22  # x.png once, by whichever name


def test_the_list_of_problems_is_bounded(folder: Path) -> None:
    for index in range(MOST_PROBLEMS + 5):
        (folder / "train" / "red" / f"bad{index}.png").write_bytes(b"")
    data = read(folder)
    assert len(data.problems) == MOST_PROBLEMS + 1
    assert data.problems[-1] == "and 5 more"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda root: None, "does not exist"),
        (lambda root: root.write_text("x"), "is not a folder"),
        (lambda root: root.mkdir(), "has images of 0 classes"),
        (lambda root: paint(root / "only" / "x.png", 1, mode="L"), "has images of 1 class,"),
    ],
)
def test_what_is_no_image_folder_is_said(tmp_path: Path, make, says: str) -> None:
    root = tmp_path / "there"
    make(root)
    with pytest.raises(BadInput, match=says):
        read(root)


def test_a_folder_of_one_colour_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for index in range(3):
            paint(tmp_path / "c" / name / f"{index}.png", 77, mode="L")
    with pytest.raises(BadInput, match="one and the same color"):
        read(tmp_path / "c")


def test_reading_reports_and_can_be_cancelled(folder: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    load(DataConfig(name=str(folder)), CPU, progress=lambda *phase: seen.append(phase))
    assert ("Checking the images", 30, 30) in seen
    assert ("Reading photos", 30, 30) in seen
    with pytest.raises(Cancelled):
        load(DataConfig(name=str(folder)), CPU, cancelled=lambda: True)
    seen.clear()
    with pytest.raises(Cancelled):
        load(
            DataConfig(name=str(folder)),
            CPU,
            progress=lambda *phase: seen.append(phase),
            cancelled=lambda: any(name.startswith("Reading") for name, *_ in seen),
        )


def test_links_to_the_test_images_do_not_bring_them_into_training(folder: Path) -> None:
    (folder / "train" / "red" / "more").symlink_to(folder / "test" / "red")
    (folder / "train" / "blue" / "one.png").symlink_to(folder / "test" / "blue" / "0.png")
    (folder / "train" / "blue" / "all").symlink_to(folder)
    data = read(folder)
    assert (len(data.train), len(data.test)) == (20, 10)
    assert sorted(problem.partition(": ")[2] for problem in data.problems) == [
        "a link to a folder already included",
        "a link to a folder that contains it",
        "a link to an image already included",
    ]


def test_a_folder_that_was_reached_before_the_one_around_it_counts_once(folder: Path) -> None:
    paint(folder / "pool" / "inner" / "x.png", (1, 2, 3))
    (folder / "train" / "red" / "a").symlink_to(folder / "pool" / "inner")
    (folder / "train" / "red" / "b").symlink_to(folder / "pool")
    data = read(folder)
    assert len(data.train) == 21
    assert data.problems == ("train/red/b/inner: a folder already included",)


def test_folders_that_link_to_each_other_are_gone_through_once(folder: Path) -> None:
    """Every way through them would be ten factorial ways."""
    pool = folder / "pool"
    for index in range(10):
        paint(pool / str(index) / "x.png", (index, 0, 0))
        for other in range(10):
            if other != index:
                (pool / str(index) / f"to{other}").symlink_to(pool / str(other))
    (folder / "train" / "red" / "pool").symlink_to(pool)
    assert len(read(folder).train) == 30


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_part_that_is_a_link_out_of_the_folder_is_not_followed(folder: Path, tmp_path: Path, part: str) -> None:
    (folder / part).rename(tmp_path / "elsewhere")
    (folder / part).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match=f"{part}: a link out of the folder; --follow-links"):
        read(folder)
    assert len(read(folder, follow_links=True).train) == 20


def test_train_may_be_a_class(tmp_path: Path) -> None:
    for name in ("train", "car"):
        for index in range(5):
            paint(tmp_path / "vehicles" / name / f"{index}.png", (index, 2, 3))
    assert read(tmp_path / "vehicles").classes == ("car", "train")


def test_one_image_of_each_class_leaves_none_to_test_on(tmp_path: Path) -> None:
    for name in ("a", "b"):
        paint(tmp_path / "few" / name / "0.png", (1, 2, 3))
    with pytest.raises(BadInput, match="which leaves none to test on"):
        read(tmp_path / "few")


def test_what_leaves_no_class_is_named(tmp_path: Path) -> None:
    (tmp_path / "d" / "a").mkdir(parents=True)
    (tmp_path / "d" / "a" / "x.png").write_bytes(b"")
    with pytest.raises(BadInput, match=r"0 classes.*the first: a/x.png: empty"):
        read(tmp_path / "d")


def test_a_resident_loader_that_cannot_fit_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_data, "free_memory", lambda _device: 5000)
    with pytest.raises(BadInput, match="needs 13.0 KB to be resident, and only 5.0 KB is free"):
        read(folder, loader="resident")


# -- how the files are decoded ---------------------------------------------------------------------------------


@pytest.mark.parametrize("loader", ["resident", "stream"])
@pytest.mark.parametrize("kind", ["<f4", "<i4"])
def test_pixels_of_32_bits_have_one_scale_in_all_images(tmp_path: Path, kind: str, loader: str) -> None:
    for part, levels in (("train", (0, 400, -100, 900)), ("test", (400, 2000))):
        for number, level in enumerate(levels):
            path = tmp_path / part / "ab"[number % 2] / f"{number}.tiff"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((9, 9), level, dtype=kind)).save(path)
    data = read(tmp_path, loader=loader, workers=1)
    assert [int(data.train.item(index)[0, 0, 0]) for index in range(4)] == [26, 0, 128, 255]
    assert [int(data.test.item(index)[0, 0, 0]) for index in range(2)] == [128, 255]
    assert (
        data.notices[0] == "pixels of more than 8 bits are scaled from -100 .. 900 to 0 .. 255, the same in all images"
    )
    data.train.close()


def test_which_jpeg_files_are_decoded_to_a_fraction_is_said(folder: Path) -> None:
    for number in range(3):
        paint(folder / "train" / "red" / f"{number}.jpg", (200, 0, 0), (400, 400) if number else (50, 50))
    assert read(folder, image_size=24).notices[0].startswith("2 of 3 JPEG files are at least 10 times as large")
    assert not read(folder, image_size=100).notices
