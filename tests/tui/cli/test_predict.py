"""`finetui predict` of folders: as CSV, as JSON lines, one file after the other, with a threshold."""

import csv
import io
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from exported_runs import train
from PIL import Image

import finetui
from finetui.engine.inspection.classify import Classifier, classify_files
from finetui.engine.protocol.values import Decoding
from finetui.tui.cli.predict_files import files_of

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run `small`, and a folder `own` of images, of which one is none."""
    folder = tmp_path_factory.mktemp("work")
    train(folder / "checkpoints", "small")
    random = np.random.default_rng(3)
    (folder / "own" / "deep").mkdir(parents=True)
    for number in range(5):
        pixels = random.integers(0, 90, (30 + number, 50)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "own" / ("deep" if number % 2 else ".") / f"{number}.png")
    (folder / "own" / "notes.txt").write_text("no image")
    (folder / "own" / ".hidden.png").write_text("")
    (folder / "own" / "Thumbs.db").write_text("")
    (folder / "own" / "round").symlink_to(folder / "own")  # leads back
    (folder / "own" / "linked.png").symlink_to(folder / "own" / "0.png")
    return folder


IN_ORDER = [
    "own/0.png",
    "own/2.png",
    "own/4.png",
    "own/linked.png",
    "own/notes.txt",
    "own/deep/1.png",
    "own/deep/3.png",
]


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_folder_as_csv(in_process: Call, work: Path) -> None:
    done = in_process("predict", "small", "own", "--csv", "--top", "3", cwd=work)
    assert done.returncode == 0  # the file that is no image was not asked for by name
    found = rows(done.stdout)
    assert [row["path"] for row in found] == IN_ORDER
    assert list(found[0]) == [
        "path",
        "prediction",
        "problem",
        *(f"{name}_{k}" for k in (1, 2, 3) for name in ("class", "probability")),
    ]
    for row in found:
        if row["path"].endswith("notes.txt"):
            assert row["problem"] == "not an image that Pillow can read"
            assert not row["prediction"] and not row["class_1"]
            continue
        (want,) = finetui.classify(
            work / "checkpoints" / "small" / "best.ckpt", [work / row["path"]], top=3, device="cpu"
        )
        assert row["prediction"] == row["class_1"] == want.top[0][0]
        assert [float(row[f"probability_{k}"]) for k in (1, 2, 3)] == pytest.approx([p for _, p in want.top], rel=1e-4)
    assert "own/notes.txt: not an image" in done.stderr
    assert "6 images classified; 1 file could not be read" in done.stderr


def test_no_class_is_told_below_the_threshold(in_process: Call, work: Path) -> None:
    all_of_them = rows(in_process("predict", "small", "own", "--csv", cwd=work).stdout)
    sure = sorted(float(row["probability_1"]) for row in all_of_them if row["class_1"])
    threshold = (sure[2] + sure[3]) / 2
    found = rows(in_process("predict", "small", "own", "--csv", "--threshold", f"{threshold}", cwd=work).stdout)
    for row, before in zip(found, all_of_them, strict=True):
        assert row["class_1"] == before["class_1"]
        enough = bool(row["class_1"]) and float(row["probability_1"]) >= threshold
        assert row["prediction"] == (row["class_1"] if enough else "")
    done = in_process("predict", "small", "own", "--json", "--threshold", "1", "--top", "1", cwd=work)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["path"] for line in lines] == IN_ORDER
    assert all(line["prediction"] is None for line in lines)
    assert [len(line["top"]) for line in lines] == [1, 1, 1, 1, 0, 1, 1]
    assert "6 of them less than 100% sure" in done.stderr
    text = in_process("predict", "small", "own/0.png", "--threshold", "1", cwd=work)
    assert text.stdout.splitlines()[0] == "own/0.png  less than 100% sure: no class"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("own", "--threshold", "1.5"), "from 0 to 1"),
        (("own", "--csv", "--json"), "choose one of them"),
        (("empty",), "there are no files in empty"),
    ],
)
def test_what_makes_no_sense_is_said(in_process: Call, work: Path, arguments: tuple[str, ...], words: str) -> None:
    (work / "empty").mkdir(exist_ok=True)
    done = in_process("predict", "small", *arguments, cwd=work)
    assert done.returncode == 2
    assert words in done.stderr and done.stdout == ""


def test_a_named_file_that_cannot_be_read_is_status_2_and_a_folder_of_such_too(in_process: Call, work: Path) -> None:
    assert in_process("predict", "small", "own", "gone.png", "--csv", cwd=work).returncode == 2
    (work / "texts").mkdir(exist_ok=True)
    (work / "texts" / "a.png").write_text("x")
    assert in_process("predict", "small", "texts", "--csv", cwd=work).returncode == 2


def test_paths_that_are_no_text_are_written_as_they_are(in_process: Call, work: Path) -> None:
    odd = work / "odd"
    odd.mkdir()
    Image.new("L", (28, 28)).save(odd / "a.png")
    (odd / "a.png").rename(odd / os.fsdecode(b"\xff,\n.png"))
    done = subprocess.run(
        [sys.executable, "-m", "finetui", "predict", "small", "odd", "--csv"],
        cwd=work,
        capture_output=True,
        timeout=120,
        check=True,
    )
    (row,) = list(csv.reader(io.StringIO(done.stdout.decode("utf-8", "surrogateescape"), newline="")))[1:]
    assert os.fsencode(row[0]) == b"odd/\xff,\n.png"
    line = in_process("predict", "small", "odd", "--json", cwd=work).stdout
    assert os.fsencode(json.loads(line)["path"]) == b"odd/\xff,\n.png"


def test_any_number_of_files_is_taken_a_batch_at_a_time(tmp_path: Path) -> None:
    """No more files are asked for than one batch ahead of what was told, whatever their number."""
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    asked = itertools.count()
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        for taken in asked:  # noqa: B007  # it is read outside
            yield tmp_path / "a.png"

    def uniform(pixels: np.ndarray) -> np.ndarray:
        assert pixels.shape == (8, 1, 4, 4)
        return np.full((len(pixels), 2), 0.5, np.float32)

    classifier = Classifier(("no", "yes"), Decoding(channels=1, height=4, width=4), 8, uniform)
    for number, found in enumerate(itertools.islice(classify_files(classifier, endless(), top=1), 100)):
        assert found.top == (("no", 0.5),)
        assert taken < (number // 8 + 1) * 8


def test_a_folder_is_walked_without_being_listed_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_text("")
    opened: list[str] = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: opened.append(str(path)) or scan(path))
    walk = files_of([tmp_path], lambda _path, _reason: None)
    assert next(walk) == tmp_path / "a" / "1.png"
    assert opened == [str(tmp_path), str(tmp_path / "a")]


def test_a_folder_that_cannot_be_listed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_text("")
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def refusing(path: Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    told: list[tuple[Path, str]] = []
    found = list(files_of([tmp_path], lambda path, reason: told.append((path, reason))))
    assert found == [tmp_path / "a.png"]
    assert told == [(tmp_path / "closed", "Permission denied")]
