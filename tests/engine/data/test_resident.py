import math

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch.nn import functional as F
from torchvision import transforms

from finetui.engine.data import InputTransform, ResidentSplit, Transform, epoch_order


def test_normalisation_is_torchvisions_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (32, 1, 28, 28), dtype=torch.uint8, generator=generator)
    images[0] = torch.arange(784).remainder(256).view(1, 28, 28).to(torch.uint8)  # every byte there is
    split = ResidentSplit(images, torch.arange(32), (0.1307,), (0.3081,))
    theirs = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    indices = torch.tensor([5, 0, 31, 5])
    batch, labels = next(split.batches(indices, 10))
    expected = torch.stack([theirs(np.asarray(images[i, 0])) for i in indices])
    assert torch.equal(batch, expected)
    assert labels.tolist() == [5, 0, 31, 5]
    (first, _), (part, part_labels) = split.batches(torch.arange(32), 30)
    assert len(first) == 30
    assert torch.equal(part, torch.stack([theirs(np.asarray(images[i, 0])) for i in (30, 31)]))
    assert part_labels.tolist() == [30, 31]
    assert images.dtype == torch.uint8


@pytest.mark.parametrize("size", [(56, 40), (20, 28), (14, 14), (28, 28)])
def test_resizing_is_torchs_bit_for_bit(size: tuple[int, int]) -> None:
    images = torch.rand(4, 3, 28, 28, generator=torch.Generator().manual_seed(2))
    shrinks = min(size) < 28
    expected = F.interpolate(images, size, mode="bilinear", antialias=shrinks) if size != (28, 28) else images
    transform = Transform(mean=(0.0,) * 3, std=(1.0,) * 3, height=size[0], width=size[1])
    found = InputTransform(transform, images.device)(images.clone(), None)
    assert torch.equal(found, expected)


def test_channels_have_their_own_mean_and_deviation() -> None:
    images = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    split = ResidentSplit(images, torch.tensor([0]), (0.0, 0.5, 1.0), (1.0, 0.5, 2.0))
    batch, _ = next(split.batches(torch.tensor([0]), 1))
    assert batch[0, :, 0, 0].tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("shape", [(1, 1, 16, 16), (64, 3, 16, 21), (7, 3, 65, 63), (2, 4, 300, 300), (0, 3, 9, 9)])
@pytest.mark.parametrize("kind", ["every byte", "float"])
def test_one_thread_normalises_to_the_same_bits(shape: tuple[int, ...], kind: str) -> None:
    count, channels = math.prod(shape), shape[1]
    images = torch.arange(count).remainder(256).view(shape).to(torch.uint8)
    images = images if kind == "every byte" else images.to(torch.float32) / 7
    transform = Transform(mean=(0.485, 0.456, 0.406, 0.0)[:channels], std=(0.229, 0.224, 0.225, 1e-9)[:channels])
    before = images.clone()
    for augment in (None, lambda values: values.flip(3)):
        together = InputTransform(transform, images.device)(images.clone(), augment)
        alone = InputTransform(transform, images.device, one_thread=True)(images.clone(), augment)
        assert alone.dtype == together.dtype == torch.float32
        assert torch.equal(alone.view(torch.int32), together.view(torch.int32))
    assert torch.equal(images, before)
    sized = msgspec.structs.replace(transform, height=12, width=20)
    if count:
        want = InputTransform(sized, images.device)(images.clone(), None)
        assert torch.equal(InputTransform(sized, images.device, one_thread=True)(images.clone(), None), want)


@given(st.integers(1, 500), st.integers(0, 2**63 - 1), st.integers(0, 1000))
def test_an_epochs_order_is_a_permutation_of_its_own(n: int, seed: int, epoch: int) -> None:
    before = torch.get_rng_state()
    order = epoch_order(n, seed, epoch)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(order.sort().values, torch.arange(n))
    assert torch.equal(order, epoch_order(n, seed, epoch))


def test_orders_differ_between_seeds_and_epochs() -> None:
    orders = {tuple(epoch_order(50, seed, epoch).tolist()) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_all_bits_of_a_seed_count() -> None:
    orders = {tuple(epoch_order(50, 1 + high * 2**32, 0).tolist()) for high in range(10)}
    assert len(orders) == 10


def test_orders_stay_what_they_were() -> None:
    """A run continues within an epoch by its position alone: another order would repeat some images, skip others."""
    assert epoch_order(8, 0, 0).tolist() == [4, 0, 7, 3, 2, 5, 1, 6]
    assert epoch_order(8, 2**32 - 1, 7).tolist() == [6, 4, 2, 5, 7, 3, 1, 0]


def test_balanced_orders_draw_rare_images_more_often() -> None:
    weights = torch.tensor([1.0] * 90 + [9.0] * 10)
    order = epoch_order(100, 3, 1, weights=weights)
    assert torch.equal(order, epoch_order(100, 3, 1, weights=weights))
    drawn = torch.cat([epoch_order(100, 3, epoch, weights=weights) for epoch in range(50)])
    assert 0.45 < (drawn >= 90).float().mean() < 0.55
    assert 0 <= int(drawn.min()) <= int(drawn.max()) <= 99


def test_images_are_resized_augmented_and_then_normalised() -> None:
    images = torch.full((2, 1, 4, 4), 51, dtype=torch.uint8)
    split = ResidentSplit(images, torch.tensor([0, 1]), (0.0,), (1.0,))
    resized = split.with_transform(Transform(mean=(0.1,), std=(0.5,), height=8, width=8))
    ((batch, _),) = resized.batches(torch.arange(2), 2, augment=lambda x: x + 0.1)
    assert batch.shape == (2, 1, 8, 8)
    assert torch.allclose(batch, torch.full_like(batch, (0.2 + 0.1 - 0.1) / 0.5))
    assert next(split.batches(torch.arange(2), 2))[0].shape == (2, 1, 4, 4)


def test_float_images_are_given_as_they_are() -> None:
    images = torch.randn(3, 2, 5, 5)
    split = ResidentSplit(images, torch.arange(3), (0.0, 0.0), (1.0, 1.0))
    ((batch, _),) = split.batches(torch.tensor([2, 0]), 5)
    assert torch.equal(batch, images[[2, 0]])
    assert torch.equal(split.item(1), images[1])


def test_a_weight_of_zero_is_never_drawn_and_others_in_proportion() -> None:
    weights = torch.tensor([0.0, 1.0, 0.0, 3.0]).repeat(2500)
    order = epoch_order(10_000, 3, 1, weights=weights)
    counts = torch.bincount(order % 4, minlength=4)
    assert counts[0] == counts[2] == 0
    assert 0.72 < counts[3] / 10_000 < 0.78
    assert torch.equal(order, epoch_order(10_000, 3, 1, weights=weights))


def test_an_image_that_shrinks_in_one_direction_only_is_smoothed() -> None:
    images = torch.tensor([0, 255, 255, 0] * 4, dtype=torch.uint8).view(1, 1, 1, 16).repeat(1, 1, 4, 1)
    split = ResidentSplit(images, torch.tensor([0]), (0.0,), (1.0,), height=4, width=4)
    ((batch, _),) = split.batches(torch.tensor([0]), 1)
    assert float(batch.max()) < 0.9  # the two pixels in the middle of every four are white


def test_the_lowest_draw_passes_over_weights_of_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda n, **_settings: torch.zeros(n, dtype=torch.float64))
    assert epoch_order(3, 0, 0, weights=torch.tensor([0.0, 0.0, 2.0])).tolist() == [2, 2, 2]
