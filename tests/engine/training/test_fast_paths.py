"""Fast paths: another way to the same numbers, chosen by rule, and kept with the run."""

import warnings
from contextlib import nullcontext

import msgspec
import pytest
import torch
from torch import nn

from finetui.engine.data.resident import ResidentSplit
from finetui.engine.errors import BadInput
from finetui.engine.models import Architecture, module_groups
from finetui.engine.protocol.config import TrainingConfig
from finetui.engine.protocol.config_file import load as load_config
from finetui.engine.protocol.events import Log, RunPrepared
from finetui.engine.protocol.values import FastPath
from finetui.engine.runs.journal import JournalReader
from finetui.engine.session.replay import replay_run
from finetui.engine.session.session import Session
from finetui.engine.training import fast_paths
from finetui.engine.training.optimizer import build_optimizer, load_state_by_name, state_by_name
from finetui.engine.training.trainer import Trainer


def network() -> nn.Module:
    torch.manual_seed(5)
    # A bias before a normalisation has no gradient but rounding errors, and AdamW makes whole steps of them.
    body = (nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(*body, nn.Flatten(), nn.Dropout(0.1), nn.Linear(8, 4))


def images(count: int = 64) -> ResidentSplit:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (count, 3, 12, 12), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 4, (count,), generator=generator)
    return ResidentSplit(pixels, labels, (0.5,) * 3, (0.25,) * 3)


def losses(path: FastPath, **settings: object) -> list[float]:
    model = network()
    fast_paths.arrange(model, path)
    found: list[torch.Tensor] = []
    training = TrainingConfig(**{"batch_size": 8, "lr": 0.05, "epochs": 5, **settings})
    trainer = Trainer(
        model, module_groups(model), images(), training, lambda _step, loss: found.append(loss), path=path
    )
    torch.manual_seed(3)
    for step in range(32):
        trainer.train_step()
        if step == 10:  # from here on the groups have rates of their own, and then one rate again
            trainer.set_frozen(["0"], frozen=True)
            trainer.set_frozen(["0"], frozen=False)
        if trainer.position == trainer.steps_per_epoch:
            trainer.end_epoch()
    return torch.stack(found).tolist()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_every_path_leads_to_the_same_losses(optimizer: str) -> None:
    settings = {"optimizer": optimizer, "weight_decay": 0.01, "lr": 0.01}
    plain = losses(FastPath(), **settings)
    quick = losses(FastPath(channels_last=True, fused=True), **settings)
    assert max(abs(a - b) for a, b in zip(plain, quick, strict=True)) < 1e-5


def choose(model: nn.Module, **settings: object) -> tuple[FastPath, str]:
    architecture = Architecture(name="own", num_classes=4, in_channels=3, height=12, width=12)
    return fast_paths.choose(model, module_groups(model), architecture, TrainingConfig(batch_size=8, **settings))


def test_auto_touches_nothing() -> None:
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(9)
    state = torch.get_rng_state()
    path, how = choose(model)
    assert path == FastPath(threads=torch.get_num_threads(), channels_last=True, fused=True)
    assert how == f"fast path (auto): {fast_paths.describe(path)}"
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert next(model.parameters()).is_contiguous()


def test_large_convolutions_keep_their_layout_unless_asked() -> None:
    def wide() -> nn.Module:
        convolutions = nn.Conv2d(3, 64, 3), nn.Conv2d(64, 1024, 3)
        return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 4))

    assert not choose(wide())[0].channels_last
    assert choose(wide(), fast="on")[0].channels_last


def test_on_and_off_say_what_they_mean() -> None:
    threads = torch.get_num_threads()
    assert choose(network(), fast="on")[0] == FastPath(threads=threads, channels_last=True, fused=True)
    assert choose(network(), fast="off") == (FastPath(threads=threads), "")


class Viewing(nn.Module):
    """Flattens as many do, which torch refuses for another layout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(800, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return self.head(x.view(len(x), -1))


@pytest.mark.parametrize("choice", ["auto", "on"])
def test_a_network_that_fails_by_another_layout_keeps_its_own(choice: str) -> None:
    path, how = choose(Viewing(), fast=choice)
    assert path == FastPath(threads=torch.get_num_threads(), fused=True)
    assert "channels-last, fused optimizer" in how and "fails: " in how and "view" in how


def test_a_network_that_fails_by_every_path_gets_the_plain_one() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4, 4))  # of another number of channels
    assert choose(model)[0] == FastPath(threads=torch.get_num_threads())


def test_a_network_that_the_layout_does_not_fit_keeps_its_own() -> None:
    model = nn.Sequential(network(), nn.Conv3d(1, 1, 1))
    path, _ = choose(model, fast="on")
    assert not path.channels_last
    fast_paths.arrange(model, path)
    # A person's own layout is theirs.
    own = network().to(memory_format=torch.channels_last)
    fast_paths.arrange(own, FastPath())
    assert not own[0].weight.is_contiguous()


def test_without_convolutions_there_is_no_layout_to_choose() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 4))
    path, _ = choose(model, fast="on")
    assert not path.channels_last and path.fused


def test_momentum_lies_in_memory_as_its_parameter_does() -> None:
    def trained(path: FastPath) -> tuple[dict, torch.optim.Optimizer, dict]:
        model = network()
        fast_paths.arrange(model, path)
        groups = module_groups(model)
        optimizer = build_optimizer(groups, TrainingConfig(optimizer="sgd"), fused=path.fused)
        model(torch.rand(4, 3, 12, 12)).sum().backward()
        optimizer.step()
        parameters = {name: p for group in groups for name, p in group.parameters.items()}
        return parameters, optimizer, state_by_name(optimizer, parameters)

    _, _, saved = trained(FastPath())
    parameters, optimizer, _ = trained(FastPath(channels_last=True, fused=True))
    load_state_by_name(optimizer, parameters, saved)
    for name, parameter in parameters.items():
        momentum = optimizer.state[parameter]["momentum_buffer"]
        assert momentum.stride() == parameter.stride()
        assert torch.equal(momentum, saved[name]["momentum_buffer"])


def test_a_run_is_resumed_and_replayed_by_its_path(make_config, recorder) -> None:
    from steered import at

    from finetui.engine.protocol.commands import Stop

    config = make_config(epochs=2, name="run", fast="off")
    folder = Session(config, script=at((30, Stop()))).run().folder
    prepared = next(event for event in JournalReader(folder.journal).read() if isinstance(event, RunPrepared))
    assert prepared.fast == FastPath(threads=torch.get_num_threads())
    text = folder.config.read_text().replace('fast = "off"', 'fast = "on"')
    folder.config.write_text(text)
    session = Session(load_config(folder.config), resume=folder, sinks=[recorder])
    session.run()
    assert session.active.trainer.path == prepared.fast
    replayed = replay_run(folder)
    assert replayed.different_at is None and replayed.complete
    assert not [event for event in recorder.of(Log) if event.message.startswith("fast:")]


def test_a_checkpoint_with_no_path_or_a_wrong_one() -> None:
    cpu = torch.device("cpu")
    assert fast_paths.recorded(None, cpu) == fast_paths.plain(cpu)
    path = FastPath(threads=1, fused=True)
    assert fast_paths.recorded(msgspec.to_builtins(path), cpu) == path
    with pytest.raises(BadInput, match="which path"):
        fast_paths.recorded({"threads": "many"}, cpu)


@pytest.mark.parametrize("batch_size", [7, 64, 5000])
def test_gathering_ahead_changes_no_bit(batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = images(300)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(2))
    ahead = list(data.batches(order, batch_size))
    monkeypatch.setattr("finetui.engine.data.resident._AHEAD", 0)
    alone = list(data.batches(order, batch_size))
    assert [len(labels) for _, labels in ahead] == [len(labels) for _, labels in alone]
    assert all(torch.equal(a, b) for x, y in zip(ahead, alone, strict=True) for a, b in zip(x, y, strict=True))


class Unpooling(nn.Module):
    """Computes what torch has no deterministic kernel for, on any device."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(800, 4)
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.unpool(*self.pool(self.conv(x))).flatten(1))


def test_what_torch_cannot_compute_to_the_same_bits_is_said_where_it_is_asked_to() -> None:
    architecture = Architecture(name="own", num_classes=4, in_channels=3, height=12, width=12)

    def said(model: nn.Module) -> list[str]:
        settings = architecture, TrainingConfig(batch_size=8), FastPath()
        return fast_paths.not_reproducible(model, module_groups(model), *settings)

    assert said(Unpooling()) == []  # nobody asked
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        (sentence,) = said(Unpooling())
        assert sentence.startswith("torch has no deterministic max_unpooling2d_forward")
        assert sentence.endswith(": the same command may give different last digits")
        assert said(network()) == []
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.filterwarnings("ignore:put_ does not")
def test_a_run_on_cuda_is_told_so(make_config, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the CPU in the place of CUDA: what the session does around a run is the same."""
    monkeypatch.setattr("finetui.engine.models.device._is_cuda", lambda _name: True)
    monkeypatch.setattr("finetui.engine.models.device._first_product", lambda: None)
    monkeypatch.setattr(torch.cuda, "device", lambda _index: nullcontext())
    modes: list[bool] = []

    def warn(*_: object) -> str:
        warnings.warn("put_ does not have a deterministic implementation, but you set", stacklevel=2)
        return ""

    session = Session(make_config(), on_step=lambda *_: modes.append(torch.are_deterministic_algorithms_enabled()))
    monkeypatch.setattr(fast_paths, "_problem", warn)
    folder = session.run().folder
    assert modes and all(modes)
    assert not torch.are_deterministic_algorithms_enabled()
    prepared = next(event for event in JournalReader(folder.journal).read() if isinstance(event, RunPrepared))
    assert "torch has no deterministic put_: the same command may give different last digits" in prepared.notices
