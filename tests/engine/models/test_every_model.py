"""Every classification network of torchvision: fitted, built, its head replaced and trained, all else untouched."""

import itertools

import pytest
import torch
import torchvision
from torch.nn import functional as F

from finetui.engine.models import Architecture, build, find_head, fit_input, module_groups, replace_head

NUMBERS = torch.randn(2**20, generator=torch.Generator().manual_seed(0)) * 0.02


@pytest.fixture(autouse=True)
def _quick_initialisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing 600 million random numbers takes longer than all the rest."""

    def fill(tensor: torch.Tensor, *_args: object, **_options: object) -> torch.Tensor:
        if tensor.device.type != "meta":
            flat = tensor.data.view(-1)
            for start in range(0, len(flat), len(NUMBERS)):
                piece = flat[start : start + len(NUMBERS)]
                piece.copy_(NUMBERS[: len(piece)])
        return tensor

    for name in ("uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_"):
        monkeypatch.setattr(torch.nn.init, name, fill)


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models))
def test_its_head_trains_and_nothing_else_moves(name: str) -> None:
    height, width = fit_input(name, 1, 28, 28)
    model = build(Architecture(name=name, num_classes=5, in_channels=1, height=height, width=width), 0)
    images = torch.randn(2, 1, height, width)
    head = find_head(model, images)
    replace_head(model, head, 7, 0)
    groups = module_groups(model, [head])
    assert [layer.name for group in groups if group.head for layer in group.layers] == [head]
    for name_, parameter in model.named_parameters():
        parameter.requires_grad_(name_.startswith(f"{head}."))
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    logits = model.eval()(images)
    assert logits.shape == (2, 7)
    F.cross_entropy(logits, torch.tensor([0, 6])).backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9, weight_decay=0.1).step()
    moved = [key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])]
    assert moved
    assert all(key.startswith(f"{head}.") for key in moved)
    assert all(torch.isfinite(model.state_dict()[key]).all() for key in moved)
    # Training mode takes the fitted size as well: in it, normalisation refuses a single value for each channel.
    with torch.no_grad():
        assert model.train()(images).shape == (2, 7)
    assert len(list(itertools.chain.from_iterable(g.parameters for g in groups))) == len(list(model.parameters()))
