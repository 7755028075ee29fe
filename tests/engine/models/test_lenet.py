import pytest
import torch
from torch import nn

from benchmarks.loops.net import Net
from finetui.engine.errors import BadInput
from finetui.engine.models import Architecture, LeNet, build, module_groups

LENET = Architecture(name="lenet", num_classes=10, in_channels=1, height=28, width=28)


def test_the_network_is_the_tutorials() -> None:
    ours, theirs = LeNet(), Net()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(7, 1, 28, 28)
    assert torch.equal(ours(images), theirs(images))


def test_weights_come_from_the_seed_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second, other = build(LENET, 1), build(LENET, 1), build(LENET, 2)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.conv1.weight, other.conv1.weight)


def test_the_feature_head_is_in_the_forward_pass() -> None:
    model = LeNet()
    model.add_feature_head()
    images = torch.randn(3, 1, 28, 28)
    model(images).sum().backward()
    assert model.fc4.weight.grad is not None
    assert model.fc1.weight.grad is None
    assert [(g.name, g.in_use) for g in module_groups(model)] == [
        ("conv1", True),
        ("conv2", True),
        ("fc1", False),
        ("fc2", False),
        ("fc3", False),
        ("fc4", True),
    ]


def test_the_tutorials_own_code_opens_the_finetuned_weights() -> None:
    ours = LeNet()
    ours.add_feature_head()
    net = Net()
    net.fc4 = nn.Linear(16 * 4 * 4, 10)
    net.load_state_dict(ours.state_dict())


def test_groups_are_the_layers() -> None:
    groups = module_groups(LeNet())
    sizes = [(group.name, sum(p.numel() for p in group.parameters.values())) for group in groups]
    assert sizes == [("conv1", 156), ("conv2", 2416), ("fc1", 30840), ("fc2", 10164), ("fc3", 850)]
    assert [group.summary for group in groups[:3]] == ["conv 1→6, 5×5", "conv 6→16, 5×5", "linear 256→120"]
    assert [group.name for group in groups if group.head] == ["fc3"]


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(BadInput, match="32x32"):
        build(Architecture(name="lenet", num_classes=10, in_channels=1, height=32, width=32), 0)
