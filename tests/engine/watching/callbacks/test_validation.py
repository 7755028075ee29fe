"""What a validation says of each image, in the order of the data set; and what is missing for a callback."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from digits import DigitNet
from forked_ranks import on_ranks
from torch.utils.data import DataLoader, Dataset, RandomSampler, Subset

import finetui
from finetui.engine.distributed.ranks import SINGLE, Ranks
from finetui.engine.errors import BadInput
from finetui.engine.watching.callbacks.validation import Outputs, Validation, files_of, labels_in, named, scores_in


def scores(labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(labels, 10).float()


def dealt(ranks: Ranks, by: str, size: int) -> list[torch.Tensor]:
    """Return the batches, of three images each, that a rank is given of images that are labelled by their places."""
    places = torch.arange(size) % 10
    if by == "image":  # the last ones are the first again
        padded = torch.cat([places, places[: -size % ranks.world]])
        return list(padded[ranks.rank :: ranks.world].split(3))
    batches = list(places.split(3))
    batches += batches[: -len(batches) % ranks.world]
    return batches[ranks.rank :: ranks.world]


@pytest.mark.parametrize("by", ["image", "batch"])
@pytest.mark.parametrize("world", [1, 2])
def test_the_order_is_that_of_the_data_set(by: str, world: int, tmp_path: Path) -> None:
    def work(ranks: Ranks) -> list[int] | None:
        ranks.open(torch.device("cpu"))
        validation = Validation(ranks, by)  # type: ignore[arg-type]
        for labels in dealt(ranks, by, 25):
            validation.add(scores(labels), labels, labels.float().reshape(-1, 1, 1).expand(-1, 2, 2))
        found = validation.take(25)
        if found is None:
            return None
        assert torch.equal(found[0].argmax(1), found[1])
        assert torch.equal(found[2][:, 0, 0].long(), found[1])
        return found[1].tolist()

    first, *others = on_ranks(world, work, tmp_path)
    assert first == [place % 10 for place in range(25)]
    assert others == [None] * (world - 1)


def test_a_batch_without_labels_leaves_no_predictions() -> None:
    validation = Validation(SINGLE, "image")
    labels = torch.arange(3)
    validation.add(scores(labels), labels)
    validation.add(scores(labels), None)
    validation.add(scores(labels), labels)
    assert validation.take(9) is None
    validation.begin()
    validation.add(scores(labels), labels)
    found = validation.take(3)
    assert found is not None
    assert found[2] is None


def test_scores_that_a_network_returned_within_a_step() -> None:
    outer = torch.nn.ModuleDict({"net": DigitNet()})
    outputs = Outputs(outer, None)
    expected = outer["net"](torch.rand(4, 1, 28, 28))
    assert torch.equal(outputs.take(4), expected)
    assert outputs.take(4) is None
    outputs.close()
    outer["net"](torch.rand(4, 1, 28, 28))
    assert outputs.take(4) is None


def test_scores_and_labels_by_what_they_look_like() -> None:
    wanted, labels = torch.rand(4, 10), torch.arange(4)
    assert scores_in({"loss": torch.tensor(1.0), "logits": wanted}, 4) is wanted
    assert scores_in((torch.tensor(1.0), wanted), 4) is wanted
    assert scores_in(torch.tensor(1.0), 4) is None
    assert scores_in(wanted, 5) is None
    assert labels_in((wanted, labels)) is labels
    assert labels_in({"pixel_values": wanted, "label": labels}) is labels
    assert labels_in((wanted, wanted)) is None


def test_metrics_by_the_names_that_libraries_give_them() -> None:
    assert named({"val_acc": 0.5, "val_loss": 1.0, "f1": 0.3}) == {"accuracy": 0.5, "loss": 1.0, "f1": 0.3}
    assert named({"train_acc": 0.5, "loss": 1.0, "n": 3}, without="loss") == {"accuracy": 0.5}


class Folder(Dataset):
    samples = [(f"/images/{number}.png", 0) for number in range(6)]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        return index


def test_files_are_named_where_the_order_is_known() -> None:
    folder = Folder()
    assert files_of(DataLoader(folder), 6) == [path for path, _ in folder.samples]
    assert files_of(DataLoader(Subset(folder, [4, 1])), 2) == ["/images/4.png", "/images/1.png"]
    assert files_of(DataLoader(folder, sampler=RandomSampler(folder)), 6) is None
    assert files_of(DataLoader(folder), 7) is None


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("LightningCallback", ("lightning", "lightning.pytorch", "pytorch_lightning")),
        ("TransformersCallback", ("transformers",)),
        ("IgniteHandler", ("ignite", "ignite.engine")),
    ],
)
def test_a_library_that_is_missing_is_named(
    name: str, modules: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, library = finetui._CALLBACKS[name]
    monkeypatch.delitem(sys.modules, home, raising=False)
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    assert name in dir(finetui)
    with pytest.raises(BadInput, match=rf"^finetui\.{name} needs {library}: pip install 'finetui\[{library}\]'$"):
        getattr(finetui, name)
