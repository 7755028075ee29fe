"""Which data sets are found on a machine, without reading them."""

import shutil
from pathlib import Path

import pytest

from finetui.engine.runs import data_places
from finetui.engine.runs.data_places import SAMPLE_FOLDER, DataHere, data_here


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FINETUI_DATA", raising=False)
    monkeypatch.setattr(data_places, "_PACKAGED", tmp_path / "packaged")
    monkeypatch.setattr(data_places, "cache_folder", lambda: tmp_path / "cache")


def test_what_is_there_is_found_with_its_number_of_images(tmp_path: Path) -> None:
    bundled = DataHere("mnist-sample", None, "bundled with finetui", 4000)
    assert data_here([None]) == [bundled]
    shutil.copytree(SAMPLE_FOLDER, tmp_path / "data" / "FashionMNIST" / "raw")
    (tmp_path / "data" / "cifar-10-batches-py").mkdir()
    (tmp_path / "data" / "MNIST" / "raw").mkdir(parents=True)  # empty: it is not there
    folder = str(tmp_path / "data")
    found = data_here([None, folder, str(tmp_path / "gone")])
    assert [(here.name, here.folder, here.images) for here in found] == [
        ("mnist-sample", None, 4000),
        ("fashion-mnist", folder, 4000),
        ("cifar10", folder, None),
    ]


def test_a_broken_file_has_no_number(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    shutil.copytree(SAMPLE_FOLDER, raw)
    (raw / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    found = {here.name: here.images for here in data_here([str(tmp_path)])}
    assert found == {"mnist": None, "mnist-sample": 4000}
