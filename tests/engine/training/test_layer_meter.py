"""The measure of a step, against numpy on copies of the weights."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from finetui.engine.data import ResidentSplit
from finetui.engine.models import LeNet, module_groups
from finetui.engine.protocol.config import TrainingConfig
from finetui.engine.training.layer_meter import LayerMeasure, LayerMeter, gradient_norms
from finetui.engine.training.trainer import Trainer


def layers_of(model: nn.Module) -> list:
    return [layer for group in module_groups(model) for layer in group.layers]


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3), nn.BatchNorm1d(3, affine=False)
    )


def step(model: nn.Module, optimizer: torch.optim.Optimizer, meter: LayerMeter) -> dict[str, LayerMeasure]:
    optimizer.zero_grad()
    F.cross_entropy(model(torch.randn(4, 1, 8, 8)), torch.tensor([0, 1, 2, 0])).backward()
    meter.before()
    optimizer.step()
    return meter.after()


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_it_is_what_numpy_finds(kind: type[torch.optim.Optimizer]) -> None:
    model = small()
    optimizer = kind(model.parameters(), lr=0.05, weight_decay=0.1)
    meter = LayerMeter(layers_of(model))
    for _ in range(2):
        before = {name: p.detach().numpy().astype(np.float64) for name, p in model.named_parameters()}
        found = step(model, optimizer, meter)
        assert list(found) == ["0", "1", "3"]  # "4" has no parameters
        for name, measure in found.items():
            module = model.get_submodule(name)
            was = np.concatenate([before[f"{name}.{p}"].ravel() for p in ("weight", "bias")])
            now = np.concatenate([p.detach().numpy().ravel() for p in (module.weight, module.bias)])
            grad = np.concatenate([p.grad.numpy().ravel() for p in (module.weight, module.bias)])
            assert measure.gradient == pytest.approx(np.linalg.norm(grad), rel=1e-4)
            assert measure.update == pytest.approx(np.linalg.norm(now - was) / np.linalg.norm(was), rel=1e-4)


def test_frozen_unreached_and_zero_layers() -> None:
    model = small()
    model[0].requires_grad_(False)
    model[1].weight.requires_grad_(False)  # half of a layer
    nn.init.zeros_(model[3].weight)
    nn.init.zeros_(model[3].bias)
    model.add_module("5", nn.Linear(3, 3))
    model[5].forward = lambda x: x  # never reached, yet not frozen
    found = step(
        model, torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1), LayerMeter(layers_of(model))
    )
    assert found["0"] == LayerMeasure(gradient=None, update=None)
    assert found["1"].gradient == pytest.approx(model[1].bias.grad.norm().item())
    assert found["3"].update == 0
    assert found["3"].gradient > 0
    assert found["5"] == LayerMeasure(gradient=None, update=0)


def test_the_step_itself_is_the_same_and_the_copy_is_given_up() -> None:
    plain, measured = small(), small()
    meter = LayerMeter(layers_of(measured))
    for model in (plain, measured):
        torch.manual_seed(1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            if model is measured:
                step(model, optimizer, meter)
            else:
                optimizer.zero_grad()
                F.cross_entropy(model(torch.randn(4, 1, 8, 8)), torch.tensor([0, 1, 2, 0])).backward()
                optimizer.step()
    assert all(
        torch.equal(a, b) for a, b in zip(plain.state_dict().values(), measured.state_dict().values(), strict=True)
    )
    with pytest.raises(RuntimeError, match="needs a before"):
        meter.after()


def test_it_is_read_from_the_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = LeNet()
    F.cross_entropy(model(torch.randn(4, 1, 28, 28)), torch.tensor([0, 1, 2, 0])).backward()
    reads = []
    whole = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: reads.append(self.shape) or whole(self))
    for name in ("item", "__float__", "__bool__", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, lambda *_: pytest.fail("read one by one"))
    meter = LayerMeter(layers_of(model))
    meter.before()
    assert reads == []
    assert set(meter.after()) == {"conv1", "conv2", "fc1", "fc2", "fc3"}
    assert reads == [(30,)]


def test_half_precision_does_not_overflow() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False)).half()
    nn.init.constant_(model[0].weight, 40_000.0)
    model[0].weight.grad = torch.full((2, 2), 40_000.0, dtype=torch.float16)
    meter = LayerMeter(layers_of(model))
    meter.before()
    with torch.no_grad():
        model[0].weight.mul_(0.5)
    assert meter.after() == {"0": LayerMeasure(gradient=80_000, update=0.5)}


def test_it_fits_into_the_trainers_step(monkeypatch: pytest.MonkeyPatch) -> None:
    data = ResidentSplit(
        torch.randint(0, 256, (64, 1, 28, 28), dtype=torch.uint8), torch.arange(64) % 10, (0.5,), (0.5,)
    )
    model = LeNet()
    groups = module_groups(model)
    trainer = Trainer(model, groups, data, TrainingConfig(batch_size=8, lr=0.1))
    trainer.set_frozen(["conv1"], frozen=True)
    meter = LayerMeter([layer for group in groups for layer in group.layers])
    update, found = trainer.optimizer.step, {}

    def measured() -> None:
        meter.before()
        update()
        found.update(meter.after())

    monkeypatch.setattr(trainer.optimizer, "step", measured)
    trainer.train_step()
    assert found["conv1"] == LayerMeasure(None, None)
    assert all(0 < found[name].update < 1 and found[name].gradient > 0 for name in ("conv2", "fc1", "fc2", "fc3"))


def test_norms_of_groups_are_those_of_gradients_of_any_kind() -> None:
    half = nn.Linear(4, 4, bias=False).half()
    half.weight.grad = torch.full((4, 4), 6e4, dtype=torch.float16)  # their norm is larger than any half
    rows = nn.Embedding(5, 2, sparse=True)
    rows(torch.tensor([1, 3])).sum().backward()
    double = nn.Linear(3, 1).double()
    double.weight.grad = torch.full((1, 3), 2.0, dtype=torch.float64)  # its bias has none
    model = nn.Sequential(half, rows, double, nn.Linear(2, 2))
    assert gradient_norms(module_groups(model)) == pytest.approx((2.4e5, 2.0, 12**0.5, 0.0), rel=1e-3)
