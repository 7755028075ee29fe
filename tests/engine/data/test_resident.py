import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import transforms

from engine.data import ResidentSplit, epoch_order


def test_normalisation_is_torchvisions_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (32, 1, 28, 28), dtype=torch.uint8, generator=generator)
    images[0] = torch.arange(784).remainder(256).view(1, 28, 28).to(torch.uint8)  # every byte there is
    split = ResidentSplit(images, torch.arange(32), (0.1307,), (0.3081,))
    theirs = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    indices = torch.tensor([5, 0, 31, 5])
    batch, labels = split.batch(indices)
    expected = torch.stack([theirs(np.asarray(images[i, 0])) for i in indices])
    assert torch.equal(batch, expected)
    assert labels.tolist() == [5, 0, 31, 5]
    part, part_labels = split.slice(30, 50)
    assert torch.equal(part, torch.stack([theirs(np.asarray(images[i, 0])) for i in (30, 31)]))
    assert part_labels.tolist() == [30, 31]
    assert images.dtype == torch.uint8


def test_channels_have_their_own_mean_and_deviation() -> None:
    images = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    batch, _ = ResidentSplit(images, torch.tensor([0]), (0.0, 0.5, 1.0), (1.0, 0.5, 2.0)).slice(0, 1)
    assert batch[0, :, 0, 0].tolist() == [1.0, 1.0, 0.0]


@given(st.integers(1, 500), st.integers(0, 2**63 - 1), st.integers(0, 1000))
def test_an_epochs_order_is_a_permutation_of_its_own(n: int, seed: int, epoch: int) -> None:
    cpu = torch.device("cpu")
    before = torch.get_rng_state()
    order = epoch_order(n, seed, epoch, cpu)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(order.sort().values, torch.arange(n))
    assert torch.equal(order, epoch_order(n, seed, epoch, cpu))


def test_orders_differ_between_seeds_and_epochs() -> None:
    cpu = torch.device("cpu")
    orders = {tuple(epoch_order(50, seed, epoch, cpu).tolist()) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_all_bits_of_a_seed_count() -> None:
    cpu = torch.device("cpu")
    orders = {tuple(epoch_order(50, 1 + high * 2**32, 0, cpu).tolist()) for high in range(10)}
    assert len(orders) == 10


def test_orders_stay_what_they_were() -> None:
    """A run continues within an epoch by its position alone: another order would repeat some images, skip others."""
    cpu = torch.device("cpu")
    assert epoch_order(8, 0, 0, cpu).tolist() == [4, 0, 7, 3, 2, 5, 1, 6]
    assert epoch_order(8, 2**32 - 1, 7, cpu).tolist() == [6, 4, 2, 5, 7, 3, 1, 0]
