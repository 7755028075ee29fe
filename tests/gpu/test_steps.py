"""Training steps on a GPU: the losses of the CPU, by every path, without waiting for the device in between."""

import copy
from collections.abc import Callable

import pytest
import torch
from small_trainer import take
from steered import at
from torch import Tensor, nn

from finetui.engine.data import ImageData
from finetui.engine.data.resident import ResidentSplit
from finetui.engine.errors import BadInput
from finetui.engine.models import Architecture, build, module_groups
from finetui.engine.protocol.commands import SetFrozen
from finetui.engine.protocol.config import RunConfig, TrainingConfig
from finetui.engine.protocol.events import RunPrepared, TrainPoint
from finetui.engine.protocol.values import FastPath
from finetui.engine.session.session import Session
from finetui.engine.training import fast_paths, precision
from finetui.engine.training.trainer import Trainer

pytestmark = pytest.mark.gpu
PLAIN, QUICK = FastPath(), FastPath(channels_last=True, fused=True)


def digits(count: int = 256, seed: int = 0, channels: int = 1, side: int = 28) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (count,), generator=generator)
    noise = torch.randint(0, 100, (count, channels, side, side), generator=generator)
    return (noise + 15 * labels[:, None, None, None]).to(torch.uint8), labels


def trainer(device: str, name: str = "lenet", path: FastPath = PLAIN, **settings: object) -> Trainer:
    channels, side = (1, 28) if name == "lenet" else (3, 64)
    architecture = Architecture(name=name, num_classes=10, in_channels=channels, height=side, width=side)
    model = build(architecture, 0).to(device)
    fast_paths.arrange(model, path)
    images, labels = (tensor.to(device) for tensor in digits(channels=channels, side=side))
    data = ResidentSplit(images, labels, (0.5,) * channels, (0.25,) * channels)
    settings = {"batch_size": 48, "epochs": 50, "lr": 0.01, "optimizer": "sgd", "schedule": "constant"} | settings
    return Trainer(model, module_groups(model), data, TrainingConfig(**settings), path=path, classes=10)


def losses(training: Trainer, steps: int) -> list[float]:
    """Return the losses of so many steps, in which layers are frozen and thawed, and every sixth batch is smaller."""
    found: list[Tensor] = []
    training._on_step = lambda _step, loss: found.append(loss)
    first = training.groups[0].name
    take(training, steps // 3)
    training.set_frozen([first], frozen=True)
    take(training, steps // 3)
    training.set_frozen([first], frozen=False)
    take(training, steps - 2 * (steps // 3))
    assert training.take_point() is not None
    return torch.stack(found).tolist()


@pytest.mark.parametrize(
    ("name", "steps", "optimizer", "lr", "within"),
    [
        ("lenet", 60, "sgd", 0.01, 2e-3),
        ("lenet", 60, "adamw", 3e-4, 2e-3),
        ("resnet18", 12, "sgd", 0.01, 5e-2),
        ("resnet18", 12, "adamw", 3e-4, 0.5),
    ],
)
@pytest.mark.usefixtures("full_float32")
def test_each_step_is_that_of_the_cpu(
    gpu: str, name: str, steps: int, optimizer: str, lr: float, within: float
) -> None:
    """From the same weights each time: what rounding does to one step, ten more amplify without bound.

    Batch normalisation of 2x2 pixels, and AdamW, whose steps are as large where the gradient is next to nothing,
    amplify it at once: two ways of convolving on the CPU differ by a sixth or more of what `within` allows.
    """
    ours, theirs = (trainer(device, name, optimizer=optimizer, lr=lr) for device in (gpu, "cpu"))
    found: dict[Trainer, list[Tensor]] = {ours: [], theirs: []}
    for training, seen in found.items():
        training._on_step = lambda _step, loss, seen=seen: seen.append(loss.cpu())
    for step in range(steps):
        if step in (steps // 3, 2 * steps // 3):
            theirs.set_frozen([theirs.groups[0].name], frozen=step == steps // 3)
        before = {name: tensor.clone() for name, tensor in theirs.model.named_parameters()}
        ours.model.load_state_dict(theirs.model.state_dict())
        ours.load_state_dict(theirs.state_dict())
        take(ours, 1)
        take(theirs, 1)
        after = dict(theirs.model.named_parameters())
        for name, tensor in ours.model.named_parameters():
            moved, expected = tensor.cpu() - before[name], after[name] - before[name]
            assert (moved - expected).norm() <= within * expected.norm(), f"{name} at step {step}"
    assert torch.stack(found[ours]).tolist() == pytest.approx(torch.stack(found[theirs]).tolist(), abs=2e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.usefixtures("full_float32")
def test_channels_last_and_fused_updates_change_last_digits_alone(gpu: str, optimizer: str) -> None:
    settings = {"optimizer": optimizer, "lr": 0.003, "weight_decay": 0.01}
    expected = losses(trainer(gpu, **settings), 60)
    assert losses(trainer(gpu, path=QUICK, **settings), 60) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["lenet", "resnet18"])
def test_bfloat16_learns_as_float32_does_and_keeps_float32_weights(gpu: str, name: str) -> None:
    precision.check("bf16", torch.device(gpu))
    full = losses(trainer(gpu, name, path=QUICK), 60)
    mixed = trainer(gpu, name, path=QUICK, precision="bf16")
    half = losses(mixed, 60)
    assert half != full
    assert sum(half[-12:]) == pytest.approx(sum(full[-12:]), rel=0.25)
    assert {p.dtype for p in mixed.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["lenet", "resnet18"])
def test_the_rule_takes_channels_last_for_bfloat16(cuda: torch.device, name: str) -> None:
    channels, side = (1, 28) if name == "lenet" else (3, 64)
    architecture = Architecture(name=name, num_classes=10, in_channels=channels, height=side, width=side)
    model = build(architecture, 0).to(cuda)
    for kind in ("fp32", "bf16"):
        training = TrainingConfig(precision=kind)
        path, how = fast_paths.choose(model, module_groups(model), architecture, training)
        assert path == FastPath(channels_last=kind == "bf16", fused=True), how
        assert "fails" not in how


def test_no_step_waits_for_the_gpu(cuda: torch.device) -> None:
    training = trainer("cuda", path=QUICK, batch_size=16)
    for _ in range(3):  # the images of all batches of an epoch are gathered, and memory is taken
        training.train_step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(8):
            training.train_step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert training.step == 11


def test_what_is_frozen_stays_the_same_bits_and_moves_again_once_thawed(gpu: str) -> None:
    training = trainer(gpu, "resnet18", path=QUICK, weight_decay=0.1)
    frozen = [group.name for group in training.groups[:3]]
    losses(training, 3)
    training.set_frozen(frozen, frozen=True)
    held = {name for group in training.groups[:3] for name in (*group.parameters, *buffers(group))}
    before = copy.deepcopy(training.model.state_dict())
    take(training, 4)
    after = training.model.state_dict()
    assert held <= after.keys()
    assert {name for name in after if torch.equal(after[name], before[name])} >= held
    assert any(not torch.equal(after[name], before[name]) for name in after.keys() - held)
    training.set_frozen(frozen, frozen=False)
    take(training, 2)
    thawed = training.model.state_dict()
    moved = [name for group in training.groups[:3] for name in group.parameters]
    assert not any(torch.equal(thawed[name], before[name]) for name in moved)


def buffers(group: object) -> list[str]:
    return [f"{layer.name}.{name}" for layer in group.layers for name, _ in layer.module.named_buffers(recurse=False)]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_steps_and_cuda_graphs_learn_the_same(gpu: str, mode: str, make_config: Callable) -> None:
    """`reduce-overhead` is CUDA graphs; four sizes and sets of frozen layers, and logits that are read later."""
    steered = ((12, SetFrozen(groups=("conv1",), frozen=True)), (26, SetFrozen(groups=("conv1",), frozen=False)))

    def points(config: RunConfig) -> list[TrainPoint]:
        found: list[TrainPoint] = []
        sinks = [lambda event: found.append(event) if isinstance(event, TrainPoint) else None]
        Session(config, sinks=sinks, script=at(*steered)).run()
        return found

    settings = {"batch_size": 90, "device": gpu, "fast": "off"}  # 4000 images: the last batch has 40
    plain = points(make_config(name="plain", **settings))
    try:
        compiled = points(make_config(name="compiled", compile=mode, **settings))
    except BadInput as error:
        pytest.skip(str(error))
    assert [sum(point.steps for point in found) for found in (plain, compiled)] == [45, 45]

    def mean(found: list[TrainPoint], what: str) -> float:
        return sum(getattr(point, what) * point.steps for point in found) / 45

    assert mean(compiled, "loss") == pytest.approx(mean(plain, "loss"), abs=0.02)
    assert mean(compiled, "accuracy") == pytest.approx(mean(plain, "accuracy"), abs=0.02)


def test_what_torch_cannot_compute_to_the_same_bits_is_said(cuda: torch.device, generated: Callable) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(5), nn.Flatten(), nn.Linear(100, 4))
    data: ImageData = generated("cuda")
    notices: list[str] = []
    config = RunConfig(training=TrainingConfig(device="cuda", epochs=1, batch_size=40))
    Session(
        config,
        model=model,
        data=data,
        autostart=False,
        sinks=[lambda event: notices.extend(event.notices) if isinstance(event, RunPrepared) else None],
    ).run()
    assert any("no deterministic adaptive_avg_pool2d_backward" in notice for notice in notices), notices
