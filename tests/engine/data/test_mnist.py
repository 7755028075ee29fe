import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from finetui.engine.data import idx, mnist as sources
from finetui.engine.data.download import DownloadError
from finetui.engine.data.mnist import load
from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import DATASETS
from finetui.engine.runs import data_places

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reaches for the network, or for what this machine's packages brought."""

    def unreachable(*_args: object, **_options: object) -> Path:
        raise DownloadError("no network in tests")

    monkeypatch.setattr(sources, "fetch", unreachable)
    monkeypatch.setattr(data_places, "_PACKAGED", tmp_path / "packaged")


def put_sample(folder: Path) -> Path:
    """Lay the bundled digits out as a data set of four files."""
    folder.mkdir(parents=True)
    for file in sources.SAMPLE_FOLDER.glob("*.gz"):
        shutil.copy(file, folder)
    return folder


def test_the_names_in_the_configuration_are_those_that_load() -> None:
    assert set(DATASETS) == set(sources.SPECS)


def test_the_bundled_digits() -> None:
    data = load("mnist-sample", None, CPU)
    assert (len(data.train), len(data.test)) == (4000, 1000)
    assert torch.bincount(data.train.labels).tolist() == [400] * 10
    assert torch.bincount(data.test.labels).tolist() == [100] * 10
    assert data.train.images.shape == (4000, 1, 28, 28)
    assert data.train.images.dtype == torch.uint8
    assert (data.location, data.notices) == ("bundled with finetui", ())
    everything = torch.cat([data.train.images, data.test.images]).flatten(1)
    assert len(torch.unique(everything, dim=0)) == 5000  # no image is in both parts
    assert float(everything.float().mean() / 255) == pytest.approx(0.1307, abs=0.003)


def test_without_a_network_the_digits_stand_in_and_it_is_said() -> None:
    data = load("mnist", None, CPU)
    assert (data.name, data.requested) == ("mnist-sample", "mnist")
    (notice,) = data.notices
    assert "no network in tests" in notice
    assert "5 000 MNIST digits" in notice


def test_without_a_network_fashion_mnist_says_what_to_do() -> None:
    with pytest.raises(BadInput, match=r"no network in tests.*--data-dir"):
        load("fashion-mnist", None, CPU)


@pytest.mark.parametrize("place", ["FashionMNIST/raw", "FashionMNIST", "fashion-mnist", "raw", "."])
def test_a_folder_may_be_laid_out_in_any_usual_way(tmp_path: Path, place: str) -> None:
    folder = put_sample(tmp_path / "data" / place) if place != "." else put_sample(tmp_path / "data")
    data = load("fashion-mnist", tmp_path / "data", CPU)
    assert data.location == str(folder)
    assert data.classes[9] == "Ankle boot"


def test_mean_and_deviation_are_computed_for_others(tmp_path: Path) -> None:
    data = load("fashion-mnist", put_sample(tmp_path / "data"), CPU)
    pixels = data.train.images.double() / 255
    assert data.mean == pytest.approx((float(pixels.mean()),), rel=1e-9)
    assert data.std == pytest.approx((float(pixels.std(correction=0)),), rel=1e-9)
    assert load("mnist", tmp_path / "data", CPU).mean == (0.1307,)


def test_the_order_of_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = put_sample(tmp_path / "packaged" / "fashion-mnist")
    assert load("fashion-mnist", None, CPU).location == str(packaged)
    cached = put_sample(sources.cache_folder() / "FashionMNIST" / "raw")
    assert load("fashion-mnist", None, CPU).location == str(cached)
    named = put_sample(tmp_path / "env" / "FashionMNIST" / "raw")
    monkeypatch.setenv("FINETUI_DATA", str(tmp_path / "env"))
    assert load("fashion-mnist", None, CPU).location == str(named)
    given = put_sample(tmp_path / "given")
    assert load("fashion-mnist", tmp_path / "given", CPU).location == str(given)


def test_a_folder_without_the_data_is_passed_over_and_it_is_said(tmp_path: Path) -> None:
    put_sample(tmp_path / "packaged" / "fashion-mnist")
    (tmp_path / "empty").mkdir()
    data = load("fashion-mnist", tmp_path / "empty", CPU)
    assert "is not in" in data.notices[0]


def test_half_a_data_set_is_named_not_replaced(tmp_path: Path) -> None:
    folder = put_sample(tmp_path / "data" / "MNIST" / "raw")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(BadInput, match="t10k-labels-idx1-ubyte"):
        load("mnist", tmp_path / "data", CPU)


def test_a_download_that_was_cut_short_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = put_sample(sources.cache_folder() / "MNIST" / "raw")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    wanted = []

    def give(_mirrors: object, name: str, _md5: str, target: Path, **_options: object) -> Path:
        wanted.append(name)
        return Path(shutil.copy(sources.SAMPLE_FOLDER / name, target))

    monkeypatch.setattr(sources, "fetch", give)
    assert load("mnist", None, CPU).name == "mnist"
    assert wanted == ["t10k-labels-idx1-ubyte.gz"]


@pytest.mark.parametrize(("make", "says"), [(lambda p: None, "does not exist"), (Path.touch, "is not a folder")])
def test_a_data_folder_that_is_none_is_named(tmp_path: Path, make, says: str) -> None:
    make(tmp_path / "where")
    with pytest.raises(BadInput, match=f"where {says}"):
        load("mnist", tmp_path / "where", CPU)


def test_images_of_two_sizes_are_refused(tmp_path: Path) -> None:
    folder = put_sample(tmp_path / "data")
    images = np.zeros((1000, 14, 14), np.uint8)
    header = b"\0\0\x08\x03" + b"".join(size.to_bytes(4, "big") for size in images.shape)
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.tobytes()))
    with pytest.raises(BadInput, match="different sizes"):
        load("mnist", folder, CPU)


def test_the_full_sets(shared_data: Path) -> None:
    mnist = load("mnist", shared_data, CPU)
    assert (len(mnist.train), len(mnist.test), mnist.train.images.shape[1:]) == (60_000, 10_000, (1, 28, 28))
    fashion = load("fashion-mnist", shared_data, CPU)
    assert fashion.mean == pytest.approx((0.2860,), abs=1e-4)
    assert fashion.std == pytest.approx((0.3530,), abs=1e-4)
    assert idx.locate(shared_data / "MNIST" / "raw", "t10k-labels-idx1-ubyte") is not None


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(BadInput, match=r"no data set 'fashon-mnist' \(known: .*\); did you mean fashion-mnist\?"):
        load("fashon-mnist", None, CPU)
    with pytest.raises(BadInput) as caught:
        load("\x1b[2Jimagenet", None, CPU)
    assert "did you mean" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("inside", [".", "raw"])
def test_digits_are_not_taken_for_clothes(tmp_path: Path, inside: str) -> None:
    put_sample(tmp_path / "MNIST" / "raw")
    with pytest.raises(BadInput, match="looked in .*MNIST"):
        load("fashion-mnist", tmp_path / "MNIST" / inside, CPU)
    assert load("mnist", tmp_path / "MNIST" / inside, CPU).name == "mnist"


@pytest.mark.parametrize("bad", ["a\0b", "x" * 5000])
def test_an_impossible_data_folder_is_bad_input(bad: str) -> None:
    with pytest.raises(BadInput, match="data folder .*--data-dir"):
        load("mnist", Path(bad), CPU)


def test_a_wrong_folder_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for where in ("/nowhere/at/all", "~no-such-user-at-all/data"):
        monkeypatch.setenv("FINETUI_DATA", where)
        with pytest.raises(BadInput, match=f"{where} does not exist; check FINETUI_DATA"):
            load("mnist", None, CPU)


def test_a_link_to_nowhere_in_a_data_set_is_named(tmp_path: Path) -> None:
    folder = put_sample(tmp_path / "data")
    (folder / "train-images-idx3-ubyte.gz").unlink()
    (folder / "train-images-idx3-ubyte").symlink_to(tmp_path / "gone")
    with pytest.raises(BadInput, match="train-images-idx3-ubyte cannot be read"):
        load("mnist", folder, CPU)


def test_images_of_one_colour_cannot_be_normalised(tmp_path: Path) -> None:
    folder = put_sample(tmp_path / "data")
    header = b"\0\0\x08\x03" + b"".join(size.to_bytes(4, "big") for size in (4000, 28, 28))
    (folder / "train-images-idx3-ubyte").write_bytes(header + bytes(4000 * 28 * 28))
    with pytest.raises(BadInput, match="the same color"):
        load("fashion-mnist", folder, CPU)
