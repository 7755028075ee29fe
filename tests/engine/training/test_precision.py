"""Mixed precision: other digits, the same learning, and weights and evaluation as ever."""

from contextlib import nullcontext

import pytest
import torch
from steered import assert_resumed_and_replayed_to_the_same_bits, at
from torch import nn

from finetui.engine.errors import BadInput
from finetui.engine.protocol.commands import Stop
from finetui.engine.protocol.config import RunConfig, with_overrides
from finetui.engine.protocol.events import Evaluated, RunPrepared
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.session.session import Session
from finetui.engine.training import precision


def mixed(config: RunConfig) -> RunConfig:
    return with_overrides(config, {("training", "precision"): "bf16"})


def events(folder: RunFolder, kind: type) -> list:
    return [event for event in JournalReader(folder.journal).read() if isinstance(event, kind)]


def test_products_are_computed_in_bfloat16_and_logits_come_in_float32() -> None:
    seen: list[torch.dtype] = []
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    model[0].register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    images = torch.randn(5, 8)
    full, half = precision.forward(model, images, "fp32"), precision.forward(model, images, "bf16")
    assert seen == [torch.float32, torch.bfloat16]
    assert full.dtype == half.dtype == torch.float32
    assert 0 < (full - half).abs().max() < 0.05


def test_a_run_learns_as_well_and_keeps_float32(make_config) -> None:
    full = Session(make_config(epochs=2, name="full")).run()
    half = Session(mixed(make_config(epochs=2, name="half"))).run()
    assert full.folder is not None
    assert half.folder is not None
    losses = [events(folder, Evaluated)[-1].loss for folder in (full.folder, half.folder)]
    assert losses[0] != losses[1]
    accuracies = [events(folder, Evaluated)[-1].accuracy for folder in (full.folder, half.folder)]
    assert abs(accuracies[0] - accuracies[1]) < 0.05
    weights = torch.load(half.folder.last, weights_only=True)["model"]
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert precision.NOTICE in events(half.folder, RunPrepared)[0].notices
    assert precision.NOTICE not in events(full.folder, RunPrepared)[0].notices


def test_it_is_resumed_and_replayed_to_the_same_bits(make_config) -> None:
    whole = Session(mixed(make_config(epochs=2, name="whole"))).run().folder
    cut = Session(mixed(make_config(epochs=2, name="cut")), script=at((17, Stop()))).run().folder
    assert_resumed_and_replayed_to_the_same_bits(whole, cut)


def test_a_device_without_it_says_what_to_do(make_config, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_here(*_: object) -> None:
        raise RuntimeError("User specified an unsupported autocast device_type")

    monkeypatch.setattr(torch, "autocast", none_here)
    with pytest.raises(BadInput, match=r"--precision\): .*unsupported autocast.*use --precision fp32"):
        Session(mixed(make_config())).run()
    Session(make_config()).run()  # which asks for nothing of the kind


def test_a_device_where_torch_only_warns_and_goes_on_without_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_: nullcontext())  # as torch's does on MPS before macOS 14
    with pytest.raises(BadInput, match=r"--precision\): torch has no bfloat16 on this device; use --precision fp32"):
        precision.check("bf16", torch.device("cpu"))
    precision.check("fp32", torch.device("cpu"))


@pytest.mark.parametrize("name", ["amx_bf16", "bf16"])
def test_a_processor_without_it_is_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, name: False, "architecture": "any"})
    assert "no instructions for bfloat16" in precision.notices("bf16", cpu)[-1]
    assert precision.notices("fp32", cpu) == []
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, name: True, "architecture": "any"})
    assert precision.notices("bf16", cpu) == [precision.NOTICE]


def test_another_precision_is_refused(make_config) -> None:
    with pytest.raises(BadInput, match=r"training.precision \(--precision\).*fp32, bf16"):
        with_overrides(make_config(), {("training", "precision"): "fp8"})
