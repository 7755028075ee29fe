"""What a loop's data is called: by what tells it, else by nothing."""

import itertools
from collections.abc import Iterator

import pytest
import torch
from canned import prepared
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from finetui.engine.protocol.config import RunConfig
from finetui.engine.watching.optimizers import Optimizers
from finetui.engine.watching.run_description import base_configuration, configuration, data_of
from finetui.tui.screens.status_lines import run_line
from finetui.tui.state.log_lines import log_line
from finetui.tui.state.store import Store


class Leaves(Dataset):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.zeros(1), index


class Batches:
    """A person's own loader."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


class Progress:
    """Holds what it goes through as tqdm does."""

    def __init__(self, iterable: object) -> None:
        self.iterable = iterable


TOLD = {
    "Leaves": (DataLoader(Leaves(), 2), DataLoader(Subset(Leaves(), [1, 2]), 2), Progress(DataLoader(Leaves()))),
    "TensorDataset": (DataLoader(TensorDataset(torch.zeros(4, 1)), 2),),
    "Batches": (Batches(), Progress(Batches())),
}
PAIRS = [(torch.zeros(2, 1), torch.zeros(2))]
UNTOLD = (
    [*PAIRS], (*PAIRS,), (pair for pair in PAIRS), zip(PAIRS, PAIRS, strict=True), enumerate(PAIRS), map(list, PAIRS),
    itertools.islice(PAIRS, 1), torch.zeros(2, 1), torch.zeros(2, 1).numpy(), DataLoader(PAIRS), Progress(PAIRS), None,
)  # fmt: skip


def names(loader: object) -> tuple[str, str]:
    """Return the name that is shown, and the one in the settings."""
    config: RunConfig = configuration(
        base_configuration("runs", None), None, Optimizers(None, (), pytest.fail), loader, None
    )
    return data_of(loader, (), ()).name, config.data.name


@pytest.mark.parametrize(("name", "loader"), [(name, loader) for name, loaders in TOLD.items() for loader in loaders])
def test_a_dataset_or_a_loader_of_ones_own_names_the_data(name: str, loader: object) -> None:
    shown, set_ = names(loader)
    assert shown == name
    assert set_.endswith(f":{name}")


@pytest.mark.parametrize("loader", UNTOLD, ids=lambda loader: type(loader).__name__)
def test_what_may_hold_anything_names_nothing(loader: object) -> None:
    assert names(loader) == ("", "loop:data")


def test_data_without_a_name_leave_no_gap_where_they_are_told() -> None:
    store = Store()
    begun = prepared(data=data_of([*PAIRS], (), ()), hparams={"epochs": 2})
    store.fold([begun])
    line = log_line(begun)
    assert line is not None and line.text.startswith("read by your own loop")
    assert "preparing  new run  44,426 parameters" in run_line(store, 200).plain
