import pytest
import torch
from torchvision.transforms import v2

from finetui.engine.data import augmentation
from finetui.engine.data.augment import BatchAffine, BatchJitter


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dots(count: int, height: int = 21, width: int = 21) -> torch.Tensor:
    """Images that are black but for a white square of 3x3 in the middle."""
    images = torch.zeros(count, 1, height, width)
    images[:, :, height // 2 - 1 : height // 2 + 2, width // 2 - 1 : width // 2 + 2] = 1
    return images


def centres(images: torch.Tensor) -> torch.Tensor:
    """Return the centre of mass of each image, (y, x) from its middle, in pixels."""
    height, width = images.shape[-2:]
    mass = images.sum(dim=(1, 2, 3))
    y = (images.sum(dim=(1, 3)) * torch.arange(height)).sum(1) / mass - height // 2
    x = (images.sum(dim=(1, 2)) * torch.arange(width)).sum(1) / mass - width // 2
    return torch.stack([y, x], dim=1)


def test_none_is_none() -> None:
    assert augmentation("none") is None


@pytest.mark.parametrize("name", ["light", "standard"])
def test_every_image_is_changed_in_its_own_way_and_by_the_generator_alone(name: str) -> None:
    augment = augmentation(name)
    images = torch.rand(16, 3, 12, 10, generator=generator(9))
    before = images.clone()
    state = torch.get_rng_state()
    first, again, other = augment(images, generator(1)), augment(images, generator(1)), augment(images, generator(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == images.shape
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    same = augment(images[:1].expand(16, -1, -1, -1), generator(1))
    assert len({tuple(image.flatten().tolist()) for image in same}) == 16


def test_shifts_stay_within_bounds_and_use_them() -> None:
    step = BatchAffine(shift=0.2, degrees=0)
    step.generator = generator()
    moved = centres(step(dots(500)))
    assert moved.abs().max() <= 0.2 * 21 + 1e-3
    assert moved.abs().max() > 0.18 * 21
    assert moved.mean(0).abs().max() < 0.3


def test_turns_keep_shapes_also_where_images_are_not_square() -> None:
    images = torch.zeros(200, 1, 21, 41)
    images[:, :, 10, 26:31] = 1  # a bar at the right, 8 pixels from the middle
    step = BatchAffine(shift=0, degrees=30)
    step.generator = generator()
    moved = centres(step(images))
    assert torch.allclose(moved.norm(dim=1), torch.tensor(8.0), atol=0.4)
    angles = torch.rad2deg(torch.atan2(moved[:, 0], moved[:, 1]))
    assert 25 < angles.max() <= 31
    assert -31 <= angles.min() < -25


def test_flips_half_of_the_images() -> None:
    images = torch.zeros(400, 1, 9, 9)
    images[..., :4] = 1
    step = BatchAffine(shift=0, degrees=0, flip=True)
    step.generator = generator()
    flipped = step(images)
    share = (flipped[:, 0, 4, 8] > 0.5).float().mean()
    assert 0.4 < share < 0.6


def test_jitter_changes_brightness_and_contrast_within_bounds() -> None:
    step = BatchJitter(0.2)
    step.generator = generator()
    means = step(torch.full((300, 1, 4, 4), 0.5)).mean(dim=(1, 2, 3))
    assert 0.4 <= float(means.min()) < 0.42
    assert 0.58 < float(means.max()) <= 0.6


def test_they_compose_with_torchvisions_own() -> None:
    pipeline = v2.Compose([BatchAffine(shift=0.1, degrees=5), v2.RandomHorizontalFlip(), BatchJitter(0.1)])
    assert pipeline(torch.rand(4, 3, 8, 8)).shape == (4, 3, 8, 8)
