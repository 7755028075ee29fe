"""The module tree: numbers checked by hand and against torchvision's own, and nothing touched."""

import itertools

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from untouched import in_training, untouched

from finetui.engine.errors import BadInput
from finetui.engine.models import Architecture, LeNet, build
from finetui.engine.models.summary import ModelSummary, ModuleSummary, summarise

CPU = torch.device("cpu")
META = torch.device("meta")


def by_name(summary: ModelSummary) -> dict[str, ModuleSummary]:
    return {module.name: module for module in summary.modules}


class Odd(nn.Module):
    """Modules called twice, in two places, in a list, never, and such that return tuples, dicts and nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.twice = nn.Conv2d(4, 4, 1, bias=False)
        self.alias = self.twice
        self.blocks = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])
        self.blocks.append(self.blocks[0])
        self.elsewhere = nn.ModuleList([self.twice])
        self.unused = nn.Sequential(nn.Linear(9, 9), nn.BatchNorm1d(9))
        self.pair = Returns(lambda x: (x[:, :2], [x]))
        self.named = Returns(lambda x: {"all": x, "number": 3})
        self.nothing = Returns(lambda x: None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.alias(self.twice(self.conv(x)))
        x = self.named(self.pair(x)[1][0])["all"]
        self.nothing(x)
        x = x.mean((2, 3))
        for block in self.blocks:
            x = block(x)
        return x


class Returns(nn.Module):
    def __init__(self, make) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: torch.Tensor) -> object:
        return self.make(x)


def test_lenet_by_hand() -> None:
    summary = summarise(LeNet(), (1, 28, 28), CPU, timed=False)
    rows = [(m.name, m.depth, m.summary, m.own, m.output, m.flops, m.activation_bytes) for m in summary.modules]
    assert rows == [
        ("", 0, "LeNet", 0, (10,), 563_280, 40),
        ("conv1", 1, "conv 1→6, 5×5", 6 * 25 + 6, (6, 24, 24), 2 * 6 * 24 * 24 * 25, 4 * 6 * 24 * 24),
        ("conv2", 1, "conv 6→16, 5×5", 16 * 6 * 25 + 16, (16, 8, 8), 2 * 16 * 8 * 8 * 6 * 25, 4 * 16 * 8 * 8),
        ("fc1", 1, "linear 256→120", 256 * 120 + 120, (120,), 2 * 256 * 120, 480),
        ("fc2", 1, "linear 120→84", 120 * 84 + 84, (84,), 2 * 120 * 84, 336),
        ("fc3", 1, "linear 84→10", 84 * 10 + 10, (10,), 2 * 84 * 10, 40),
    ]
    root = summary.modules[0]
    assert (root.parameters, root.trainable, root.parameter_bytes) == (44_426, 44_426, 4 * 44_426)
    assert {m.kind for m in summary.modules} == {"LeNet", "Conv2d", "Linear"}
    assert all(m.calls == 1 and m.time is None for m in summary.modules)


def test_lenets_memory_by_hand() -> None:
    model = LeNet()
    memory = summarise(model, (1, 28, 28), CPU, timed=False).memory(64)
    # The image, and after each convolution: ReLU's output, the pooled maxima and their places (int64).
    first = 784 * 4 + 6 * 24 * 24 * 4 + 6 * 12 * 12 * (4 + 8)
    second = 16 * 8 * 8 * 4 + 16 * 4 * 4 * (4 + 8)
    assert memory.activations == 64 * (first + second + 4 * (120 + 84))
    assert memory.weights == memory.gradients == memory.optimizer == 4 * 44_426
    assert memory.total == 3 * 4 * 44_426 + memory.activations
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("fc3."))
    frozen = summarise(model, (1, 28, 28), CPU, timed=False)
    probe = frozen.memory(64)
    assert (probe.gradients, probe.optimizer, probe.activations) == (4 * 850, 4 * 850, 64 * 4 * 84)
    assert probe.weights == memory.weights
    assert by_name(frozen)["fc3"].trainable == frozen.modules[0].trainable == 850
    assert by_name(frozen)["fc2"].trainable == 0


@pytest.mark.parametrize(
    "name", ["resnet18", "vit_b_32", "swin_t", "convnext_tiny", "densenet121", "squeezenet1_1", "googlenet"]
)
def test_flops_and_parameters_are_torchvisions_own(name: str) -> None:
    published = next(iter(torchvision.models.get_model_weights(name))).meta
    with META:
        model = build(Architecture(name=name, num_classes=1000, in_channels=3, height=224, width=224), 0)
    summary = summarise(model, (3, 224, 224), META)
    root = summary.modules[0]
    assert root.flops / 2e9 == pytest.approx(published["_ops"], abs=0.0006)  # theirs counts a multiply-add as one
    assert root.parameters == published["num_params"]
    assert summary.seconds is None
    assert summary.saved_bytes > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models))
def test_every_network_of_torchvision(name: str) -> None:
    with META:
        model = build(Architecture(name=name, num_classes=1000, in_channels=3, height=224, width=224), 0)
    summary = summarise(model, (3, 224, 224), META, timed=False)
    assert summary.modules[0].output == (1000,)
    assert [module.name for module in summary.modules] == [path for path, _ in model.named_modules()]
    children = [module for module in summary.modules if module.depth == 1]
    assert sum(module.flops or 0 for module in children) == pytest.approx(summary.modules[0].flops, rel=0.02)


def test_attention_is_counted_and_the_same_on_every_device() -> None:
    torch.manual_seed(0)
    on_cpu = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)
    with META:
        on_meta = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)
    rows = [by_name(summarise(m, (3, 32, 32), d, timed=False)) for m, d in ((on_cpu, CPU), (on_meta, META))]
    assert rows[0] == rows[1]
    attention = rows[0]["encoder.layers.encoder_layer_0.self_attention"]
    tokens, width = 17, 16
    projections = 2 * tokens * width * (3 * width) + 2 * tokens * width * width
    assert attention.flops == projections + 2 * 2 * tokens * tokens * width
    assert attention.output == (tokens, width)


def test_odd_modules() -> None:
    rows = by_name(summarise(Odd(), (1, 8, 8), CPU))
    twice = rows["twice"]
    assert (twice.calls, twice.flops, twice.activation_bytes) == (2, 2 * 2 * 64 * 16, 2 * 4 * 64 * 4)
    assert "alias" not in rows
    blocks = rows["blocks"]
    assert (blocks.calls, blocks.output, blocks.flops, blocks.parameters) == (0, None, 3 * 2 * 16, 2 * 20)
    assert blocks.time == pytest.approx(rows["blocks.0"].time + rows["blocks.1"].time)
    assert (rows["blocks.0"].calls, rows["blocks.1"].calls) == (2, 1)
    assert (rows["elsewhere"].flops, rows["elsewhere"].parameters) == (None, 16)  # what it holds is listed above
    for name in ("unused", "unused.0"):
        row = rows[name]
        assert (row.calls, row.output, row.flops, row.time, row.activation_bytes) == (0, None, None, None, 0)
    assert rows["unused"].parameters == 108
    assert (rows["pair"].output, rows["pair"].activation_bytes) == ((2, 8, 8), 64 * 4 * (2 + 4))
    assert (rows["named"].output, rows["nothing"].output) == ((4, 8, 8), None)
    assert rows["nothing"].flops == 0
    root = rows[""]
    assert root.parameters == sum(parameter.numel() for parameter in Odd().parameters())
    assert root.flops == sum(rows[name].flops for name in ("conv", "twice", "blocks"))


def test_buffers_count_as_weights_and_shared_parameters_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(1)
            self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(self.norm(x).flatten(1)))

    summary = summarise(Tied(), (1, 2, 2), CPU, timed=False)
    assert summary.modules[0].parameters == 16 + 2
    assert summary.weight_bytes == 4 * (16 + 2 + 2) + 8  # running mean, variance and the count of batches
    assert summary.trainable_bytes == 4 * 18


def test_times_are_shares_of_the_whole() -> None:
    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heavy, self.light = nn.Linear(1500, 1500), nn.Linear(1500, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.light(F.relu(self.heavy(x.flatten(1))))

    summary = summarise(Slow(), (1, 1, 1500), CPU)
    rows = by_name(summary)
    assert rows[""].time == 1
    assert 1 > rows["heavy"].time > 2 * rows["light"].time > 0
    assert 0 < summary.seconds < 60


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("build", [LeNet, Odd, torchvision.models.resnet18])
def test_nothing_of_a_training_is_touched(build, timed: bool) -> None:
    torch.manual_seed(0)
    shape = {LeNet: (1, 28, 28), Odd: (1, 8, 8)}.get(build, (3, 64, 64))
    model = in_training(build(), torch.randn(2, *shape))
    with untouched(model):
        summarise(model, shape, CPU, timed=timed)


def test_nothing_is_touched_by_a_failure_at_any_forward_pass() -> None:
    class Fails(LeNet):
        calls = itertools.count()
        fail_at = -1

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.rand(1)
            x = super().forward(x)
            if next(type(self).calls) == type(self).fail_at:
                raise ValueError("no more")
            return x

    model = in_training(Fails(), torch.randn(2, 1, 28, 28))
    for fail_at in (0, 1, 2, 3):
        Fails.calls, Fails.fail_at = itertools.count(), fail_at
        with untouched(model), pytest.raises(BadInput, match="no more"):
            summarise(model, (1, 28, 28), CPU)


def test_images_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadInput, match=r"LeNet does not take inputs of the shape \[1, 3, 28, 28\]"):
        summarise(LeNet(), (3, 28, 28), CPU)


@pytest.mark.peers
@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn", "mobilenet_v3_small", "densenet121", "shufflenet_v2_x0_5"])
def test_flops_are_fvcores(name: str) -> None:
    """A multiply-add is one of theirs; what they count besides matrix products (normalisation, pooling) is not ours."""
    peer = pytest.importorskip("fvcore.nn", reason="needs the extra `peers`")
    model = build(Architecture(name=name, num_classes=10, in_channels=3, height=64, width=64), 0).eval()
    counted = peer.FlopCountAnalysis(model, torch.zeros(1, 3, 64, 64)).unsupported_ops_warnings(False)
    theirs = sum(count for kind, count in counted.by_operator().items() if kind in ("conv", "linear", "matmul"))
    assert summarise(model, (3, 64, 64), CPU, timed=False).modules[0].flops == 2 * theirs
