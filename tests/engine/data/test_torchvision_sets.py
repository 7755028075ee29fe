import pytest
import torch
from torchvision import datasets

from engine.config import TORCHVISION_DATASETS, DataConfig
from engine.data import load
from engine.data.torchvision_sets import SETS
from engine.errors import BadInput

CPU = torch.device("cpu")


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
