"""Where a network divides into a frozen first part and the rest: both together compute what the whole does."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from finetui.engine.models import find_head, module_groups
from finetui.engine.models.architecture import Architecture, build, example
from finetui.engine.protocol.config import TrainingConfig
from finetui.engine.protocol.values import FastPath
from finetui.engine.training.features.cut import Cut, find_cut
from finetui.engine.training.features.graph import NoCut
from finetui.engine.training.freezing import Freezer
from finetui.engine.training.optimizer import build_optimizer
from finetui.engine.training.recipes import build_plan, frozen_layers

FAMILIES = (
    "lenet",
    "alexnet",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mnasnet0_5",
    "regnet_y_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "swin_t",
    pytest.param("vgg11_bn", marks=pytest.mark.slow),  # as alexnet, with 130 million parameters to be drawn
)


def frozen(model: nn.Module, layers: set[str]) -> Freezer:
    groups = module_groups(model)
    freezer = Freezer(model, groups, build_optimizer(groups, TrainingConfig()))
    freezer.set(freezer.layers_of(layers), frozen=True)
    return freezer


def cut_of(model: nn.Module, layers: set[str], shape: tuple[int, ...] = (1, 8, 8), **settings: object) -> Cut:
    return find_cut(model, frozen(model, layers).fixed, shape, **settings)


def returned(value: object) -> list[torch.Tensor]:
    return [value] if isinstance(value, torch.Tensor) else [one for one in value if isinstance(one, torch.Tensor)]


@pytest.mark.parametrize("name", FAMILIES)
def test_both_parts_compute_what_the_network_does_in_every_stage_of_every_recipe(name: str) -> None:
    size = 28 if name == "lenet" else 64
    architecture = Architecture(name=name, num_classes=3, in_channels=3, height=size, width=size)
    model = build(architecture, 0, lambda _: None)
    groups = module_groups(model, [find_head(model, example(architecture))])
    freezer = Freezer(model, groups, build_optimizer(groups, TrainingConfig()))
    images = torch.randn(3, 3, size, size)
    tried = set()
    for recipe in ("linear-probe", "gradual", "fastai"):
        for stage in build_plan(recipe, groups, 3, model=name):
            layers = frozen_layers(stage, freezer)
            if not layers or layers in tried:
                continue
            tried.add(layers)
            freezer.set(freezer.frozen - layers, frozen=False)
            freezer.set(layers, frozen=True)
            cut = find_cut(model, freezer.fixed, (3, size, size))
            assert cut.layers <= freezer.fixed
            if recipe == "linear-probe":
                assert cut.layers == freezer.fixed
            features = [feature.detach() for feature in cut.first(images.clone())]
            torch.manual_seed(1)
            both = returned(cut.rest(*(feature.clone() for feature in features)))
            torch.manual_seed(1)
            whole = returned(model(images.clone()))
            assert len(both) == len(whole)
            for one, other in zip(both, whole, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert tried


class Network(nn.Module):
    """Two frozen convolutions, `between` them something, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(1, 4, 3, padding=1)
        self.two = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4 * 64, 3)

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.two(self.between(self.one(x))).flatten(1))


class FunctionalDropout(Network):
    def between(self, x):
        return F.dropout(x, 0.5, self.training)


class InPlaceDropout(Network):
    def between(self, x):
        return F.dropout(F.relu_(x), 0.5, self.training, inplace=True)


class MixesTheBatch(Network):
    def between(self, x):
        return x - x.mean(0)


class HalfOfTheBatch(Network):
    def between(self, x):
        return x / x.abs().max()


@pytest.mark.parametrize("kind", [FunctionalDropout, InPlaceDropout, MixesTheBatch, HalfOfTheBatch])
def test_what_is_not_the_same_for_an_image_each_time_is_left_to_the_rest(kind: type[Network]) -> None:
    assert cut_of(kind(), {"one", "two"}).layers == {"one"}
    assert cut_of(Network(), {"one", "two"}).layers == {"one", "two"}


class CountsImages(Network):
    def forward(self, x):
        return self.head(self.two(self.one(x)).view(x.size(0), x.shape[1] * 4 * 64))


def test_the_number_of_images_is_that_of_the_batch() -> None:
    cut = cut_of(CountsImages(), {"one", "two"})
    assert cut.rest(*cut.first(torch.randn(7, 1, 8, 8))).shape == (7, 3)


class TwoWays(Network):
    """The rest takes two tensors of the first part, and works in place on one of them."""

    def forward(self, x):
        first = self.one(x)
        return self.head((F.relu_(self.two(first)) + first).flatten(1))


def test_several_tensors_can_be_kept() -> None:
    cut = cut_of(TwoWays(), {"one"})
    assert cut.layers == {"one"}
    assert cut_of(TwoWays(), {"one", "two"}).layers == {"one", "two"}
    images = torch.randn(2, 1, 8, 8)
    assert len(cut.first(images)) == 1


class Shared(Network):
    """A layer of the first part that the rest uses again."""

    def __init__(self) -> None:
        super().__init__()
        self.three = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        x = self.two(self.one(x))
        return self.head(self.two(self.three(x)).flatten(1))


def test_a_layer_in_both_parts_is_one_and_the_same() -> None:
    model = Shared()
    cut = cut_of(model, {"one", "two"})
    images = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(cut.rest(*cut.first(images)), model(images))
    assert cut.rest.get_submodule("two") is model.two


def without_cut(model: nn.Module, layers: set[str]) -> str:
    with pytest.raises(NoCut) as found:
        cut_of(model, layers)
    return str(found.value)


class Branches(Network):
    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else super().forward(-x)


class Counts(Network):
    calls = 0

    def between(self, x):
        self.calls += 1
        return x * (1 + 0.1 * self.calls)


class Draws(Network):
    def between(self, x):
        return x * torch.rand(1)


class Stateful(Network):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def between(self, x):
        self.seen += 1
        return x


def test_where_a_network_cannot_be_divided_it_says_why() -> None:
    assert "cannot be traced" in without_cut(Branches(), {"one", "two"})
    assert "changes from call to call" in without_cut(Counts(), {"one", "two"})
    assert "changes from call to call" in without_cut(Draws(), {"one", "two"})
    assert "first layer trains" in without_cut(Network(), {"two"})
    hooked = Network()
    hooked.two.register_forward_hook(lambda *_: None)
    assert "hooks" in without_cut(hooked, {"one", "two"})
    assert "hooks" in without_cut(nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(1, 2, 3)), nn.Conv2d(2, 2, 3)), {"0"})
    replaced = Network()
    replaced.forward = lambda x: x
    assert "replaced" in without_cut(replaced, {"one"})
    scripted = torch.jit.script(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 3)))
    assert "TorchScript" in without_cut(scripted, {"0"})


def test_a_state_that_changes_is_never_part_of_what_is_kept() -> None:
    try:
        cut = cut_of(Stateful(), {"one", "two"})
    except NoCut:
        return
    assert cut.layers <= {"one"}


def test_parametrised_layers_are_computed_as_ever() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 2, 3)), nn.Flatten(), nn.Linear(72, 3))
    cut = cut_of(model, {"0"})
    images = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(cut.rest(*cut.first(images)), model(images))


def test_a_norm_that_collects_statistics_is_not_in_the_first_part() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(32, 3))
    freezer = frozen(model, {"0", "1", "2"})
    assert find_cut(model, freezer.fixed, (1, 8, 8)).layers == {"0", "1", "2"}
    freezer.set_norm_trains(True)
    assert find_cut(model, freezer.fixed, (1, 8, 8)).layers == {"0"}


def test_bfloat16_is_kept_as_bfloat16_and_channels_last_as_it_lies() -> None:
    cut = cut_of(Network(), {"one", "two"}, precision="bf16")
    assert [spec.dtype for spec in cut.specs] == [torch.bfloat16]
    model = Network().to(memory_format=torch.channels_last)
    (spec,) = cut_of(model, {"one"}, path=FastPath(channels_last=True)).specs
    kept = spec.lying(torch.randn(5, 4, 8, 8).contiguous(memory_format=torch.channels_last))
    assert kept.is_contiguous()
    assert spec.standing(kept).is_contiguous(memory_format=torch.channels_last)


def test_looking_for_a_cut_leaves_the_network_and_the_random_numbers_alone() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(72, 3))
    freezer = frozen(model, {"0"})
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    drawn = torch.get_rng_state()
    find_cut(model, freezer.fixed, (1, 8, 8))
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
