import os
import socket

import pytest
import torch
from torchvision import datasets

from finetui.engine.data import load, torchvision_sets
from finetui.engine.data.torchvision_sets import SETS
from finetui.engine.errors import BadInput, Cancelled
from finetui.engine.protocol.config import TORCHVISION_DATASETS, DataConfig

CPU = torch.device("cpu")
FETCH = torchvision_sets._fetch


def test_every_name_is_a_class_of_torchvisions() -> None:
    assert tuple(SETS) == TORCHVISION_DATASETS
    for spec in SETS.values():
        assert issubclass(getattr(datasets, spec.kind), torch.utils.data.Dataset)


class Tiny(torch.utils.data.Dataset):
    """Stands for a set of torchvision's: it is where `root` says, or can be downloaded there, or cannot."""

    classes = ("low", "high")
    online = True

    def __init__(self, root, train: bool = True, download: bool = False) -> None:
        self.targets = [0, 1] * (3 if train else 1)
        if download:
            if not self.online:
                raise OSError("Name or service not known")
            (root / "tiny").touch()
        if not (root / "tiny").exists():
            raise RuntimeError("Dataset not found")

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((3, 4, 4), 100 * self.targets[index], dtype=torch.uint8), self.targets[index]


@pytest.fixture(autouse=True)
def download_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process would not know `Tiny`."""

    def fetch(name, cache, progress, _cancelled) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        progress(f"Downloading {name}", 0, 0)
        torchvision_sets._open(name, cache, download=True)

    monkeypatch.setattr(torchvision_sets, "_fetch", fetch)


def test_a_set_is_found_or_downloaded(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "CIFAR10", Tiny)
    given = tmp_path / "given"
    given.mkdir()
    phases: list[str] = []
    data = load(DataConfig(name="cifar10", dir=str(given)), CPU, progress=lambda name, *_: phases.append(name))
    assert "Downloading cifar10" in phases
    assert (data.name, len(data.train), len(data.test), data.classes) == ("cifar10", 6, 2, ("low", "high"))
    monkeypatch.setattr(Tiny, "online", False)
    assert load(DataConfig(name="cifar10"), CPU).location == data.location  # from the cache
    (given / "tiny").touch()
    assert load(DataConfig(name="cifar10", dir=str(given)), CPU).location == str(given)


def test_without_a_network_it_is_said_where_it_was_looked_for(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "CIFAR10", Tiny)
    monkeypatch.setattr(Tiny, "online", False)
    with pytest.raises(BadInput, match=r"cifar10 is not on this machine .looked in .*Name or service not known"):
        load(DataConfig(name="cifar10"), CPU)


def test_a_set_without_parts_is_divided_by_seed(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Whole(Tiny):
        def __init__(self, root, download: bool = False) -> None:
            super().__init__(root, True, download)
            self.targets = list(range(2)) * 50

    monkeypatch.setattr(datasets, "EuroSAT", Whole)
    data = load(DataConfig(name="eurosat"), CPU)
    assert (len(data.train), len(data.test)) == (80, 20)
    assert not torch.equal(data.test.labels, load(DataConfig(name="eurosat"), CPU, seed=1).test.labels)


def test_a_download_that_fails_is_said_and_leaves_this_process_as_it_was(tmp_path, monkeypatch) -> None:
    """The whole way, by a process of its own, to a port that nobody listens on."""
    monkeypatch.setattr(torchvision_sets, "_fetch", FETCH)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        for scheme in ("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"):
            monkeypatch.setenv(scheme, f"http://127.0.0.1:{free.getsockname()[1]}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(BadInput, match=r"usps is not on this machine .*refused.*--data-dir") as caught:
            load(DataConfig(name="usps"), CPU)
    assert str(caught.value).count("finetui/data") == 1
    assert socket.getdefaulttimeout() is None


def test_a_download_can_be_cancelled(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision_sets, "_fetch", FETCH)
    told: list[str] = []
    with pytest.raises(Cancelled):
        load(DataConfig(name="usps"), CPU, progress=lambda phase, *_: told.append(phase), cancelled=lambda: True)
    assert not any(phase.startswith("Downloading") for phase in told)  # it did not wait for the process


def test_damaged_files_are_named(tmp_path) -> None:
    (tmp_path / "usps.bz2").write_bytes(b"BZh91AY&SY")
    with pytest.raises(BadInput, match="the files of usps in .* cannot be read .EOFError"):
        load(DataConfig(name="usps", dir=str(tmp_path)), CPU)


def test_a_missing_package_is_named(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Needy(Tiny):
        def __init__(self, *_args: object, **_settings: object) -> None:
            raise ModuleNotFoundError("No module named 'scipy'")

    monkeypatch.setattr(datasets, "SVHN", Needy)
    with pytest.raises(BadInput, match="needs another package to read svhn .*scipy"):
        load(DataConfig(name="svhn"), CPU)


def test_tuples_of_names_and_sample_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nette(Tiny):
        classes = (("tench", "Tinca tinca"), ("church",))

        def __init__(self, root, split: str = "train", download: bool = False) -> None:
            super().__init__(root, split == "train", download)
            self._samples = [("path", target) for target in self.targets]

    monkeypatch.setattr(datasets, "Imagenette", Nette)
    assert load(DataConfig(name="imagenette"), CPU).classes == ("tench", "church")


def test_a_set_comes_as_a_whole_or_not_at_all(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision takes a folder of which a part was extracted for the set."""
    cache = tmp_path / "cache"
    (cache / "shared").mkdir(parents=True)
    (cache / "shared" / "older").touch()
    (cache / ".downloading-killed").mkdir()
    os.utime(cache / ".downloading-killed", (0, 0))
    (cache / ".downloading-by-another").mkdir()

    def download(_name, folder, _progress, cancelled) -> None:
        assert (folder / "shared" / "older").samefile(cache / "shared" / "older")
        for path in (folder / "shared" / "newer", folder / "set" / "a" / "1.png", folder / "archive.zip"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        if cancelled():
            raise Cancelled("the download was cancelled")

    def there() -> list[str]:
        return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if not path.is_dir())

    monkeypatch.setattr(torchvision_sets, "_download", download)
    with pytest.raises(Cancelled):
        FETCH("eurosat", cache, lambda *_: None, lambda: True)
    assert there() == ["shared/older"]
    FETCH("eurosat", cache, lambda *_: None, lambda: False)
    assert there() == ["archive.zip", "set/a/1.png", "shared/newer", "shared/older"]
    assert [path.name for path in cache.glob(".*")] == [".downloading-by-another"]
