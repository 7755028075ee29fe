"""One state dict in the wrappings in which people publish weights."""

import argparse
import collections
import copy
import pathlib
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from finetui.engine.checkpoints.state_dict import read_state_dict, read_weights
from finetui.engine.checkpoints.stated_input import StatedInput
from finetui.engine.errors import BadInput
from finetui.engine.models import Architecture, apply_transplant, build, plan_transplant


def network() -> nn.Module:
    return build(Architecture(name="lenet", num_classes=3, in_channels=1, height=28, width=28), 5)


STATE = network().state_dict()
OTHER = {name: tensor * 2 + 1 for name, tensor in STATE.items()}


def prefixed(prefix: str, state: dict[str, Tensor] = STATE) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in state.items()}


def arrays(state: dict[str, Tensor] = STATE) -> dict[str, Any]:
    return {name: np.asfortranarray(tensor.numpy()) for name, tensor in state.items()}


KEYS = [
    "net", "params", "params_ema", "module", "weight", "weights", "model", "model_state", "model_state_dict",
    "state_dict", "network", "ema", "teacher", "student", "model_ema", "something_else",
]  # fmt: skip
WRAPPED: dict[str, Any] = {
    "plain": STATE,
    "averaged": AveragedModel(network()).state_dict(),
    "two deep": prefixed("module.model."),
    "compiled": prefixed("_orig_mod.module."),
    "three deep": {"state_dict": prefixed("model._orig_mod.backbone.")},
    "unknown prefix": prefixed("my_classifier."),
    **{
        key: {key: STATE, "epoch": 3, "acc": 0.9, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}}
        for key in KEYS
    },
    "nested": {"model": {"state_dict": {"module": STATE}}, "step": torch.tensor(3)},
    "lightning": {
        "pytorch-lightning_version": "2.1.0",
        "state_dict": prefixed("model.") | {"criterion.weight": torch.ones(3), "val_acc.total": torch.tensor(3)},
        "callbacks": {"ModelCheckpoint": {"best_model_path": pathlib.PurePosixPath("x").name}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}}],
        "hyper_parameters": {"lr": 0.1, "where": pathlib.PosixPath("/data")},
    },
    "namespace": {"model": STATE, "args": argparse.Namespace(lr=0.1, sizes=[1, 2], inner=types.SimpleNamespace(a=1))},
    "collections": {"net": STATE, "x": collections.defaultdict(list, {"a": [1]}), "c": collections.Counter("ab")},
    "numpy scalars": {"state_dict": STATE, "best": np.float64(0.5), "n": np.int32(3), "ok": np.bool_(1)},
    "numpy arrays": {"state_dict": arrays()},
    "parameters": {name: nn.Parameter(tensor) for name, tensor in STATE.items()},
    "a number beside": STATE | {"epoch": torch.tensor(3)},
    "big-endian arrays": {name: array.astype(">f4") for name, array in arrays().items()},
}


def loaded(path: Path) -> nn.Module:
    model = build(Architecture(name="lenet", num_classes=3, in_channels=1, height=28, width=28), 0)
    weights = read_state_dict(path)
    moved = plan_transplant(model, weights)
    assert not moved.fresh
    apply_transplant(model, weights, moved)
    return model


@pytest.mark.parametrize("name", WRAPPED)
def test_each_wrapping_comes_off(name: str, tmp_path: Path) -> None:
    torch.save(WRAPPED[name], tmp_path / "net.pt")
    for key, tensor in loaded(tmp_path / "net.pt").state_dict().items():
        assert torch.equal(tensor, STATE[key])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_taken(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.save({name: tensor.to(dtype) for name, tensor in STATE.items()}, tmp_path / "net.pt")
    assert torch.equal(loaded(tmp_path / "net.pt").fc1.weight, STATE["fc1.weight"].to(dtype).float())


def test_tensors_are_those_that_torch_reads(tmp_path: Path) -> None:
    base = torch.arange(24.0).view(4, 6)
    state = {
        "part": base[1:3, 2:], "turned": base.t(), "one": base[2, 2], "none": torch.empty(0, 3), "same": base,
        "wide": torch.tensor([1, 65535], dtype=torch.uint16),
        "complex": torch.ones(2, dtype=torch.complex64), "flag": base > 3,
    }  # fmt: skip
    torch.save(state, tmp_path / "net.pt")
    found, theirs = read_state_dict(tmp_path / "net.pt"), torch.load(tmp_path / "net.pt", weights_only=True)
    assert found.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize(
    ("plain", "averaged"),
    [("state_dict", "state_dict_ema"), ("model", "model_ema"), ("params", "params_ema"), ("student", "teacher")],
)
def test_of_weights_and_their_average_the_average_is_taken_and_said(plain: str, averaged: str, tmp_path: Path) -> None:
    torch.save({plain: OTHER, averaged: STATE}, tmp_path / "net.pt")
    found = read_weights(tmp_path / "net.pt")
    assert torch.equal(found.tensors["fc1.weight"], STATE["fc1.weight"])
    assert f"of {plain} and {averaged}, the averaged weights ({averaged}) are used" in found.notices[0]
    torch.save(prefixed("model.", OTHER) | prefixed("model_ema."), tmp_path / "flat.pt")
    moved = plan_transplant(network(), read_state_dict(tmp_path / "flat.pt"))
    assert moved.prefix == "model_ema."
    assert moved.sentence().startswith("weights kept in all layers (the file's tensors under model_ema); dropped model")


def test_safetensors_are_read_with_what_their_metadata_say(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "a.safetensors")
    assert torch.equal(loaded(tmp_path / "a.safetensors").conv1.weight, STATE["conv1.weight"])
    assert read_weights(tmp_path / "a.safetensors").stated is None
    cfg = '{"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1], "input_size": [3, 224, 192], "crop_pct": 0.875, '
    metadata = {"format": "pt", "pretrained_cfg": cfg + '"interpolation": "bicubic"}'}
    save_file(prefixed("model."), tmp_path / "b.any", metadata)
    stated = StatedInput((0.5, 0.4, 0.3), (0.2, 0.2, 0.1), 224, 192, 219, "bicubic")
    assert read_weights(tmp_path / "b.any").stated == stated


@pytest.mark.parametrize(
    ("beside", "expected"),
    [
        ({"mean": [0.1], "std": (0.2,)}, StatedInput((0.1,), (0.2,))),
        ({"hyper_parameters": {"mean": [0.1], "std": [0.2]}}, StatedInput((0.1,), (0.2,))),
        ({"args": argparse.Namespace(mean=[0.1], std=[0.2])}, StatedInput((0.1,), (0.2,))),
        ({"meta": {"mean": [127.5], "std": [51.0]}}, StatedInput((0.5,), (0.2,))),
        ({"about": {"transform": {"mean": [0.1], "std": [0.2], "height": 28, "width": 28}}},
         StatedInput((0.1,), (0.2,), 28, 28)),
        ({"mean": [0.1], "std": [0.0]}, None),
        ({"mean": "x", "std": 3}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_what_a_file_says_of_its_input_is_found(beside: dict[str, Any], expected: Any, tmp_path: Path) -> None:
    torch.save({"model": STATE, **beside}, tmp_path / "net.pt")
    assert read_weights(tmp_path / "net.pt").stated == expected


class Executed:
    def __reduce__(self) -> tuple[Any, ...]:
        return pathlib.Path.mkdir, (pathlib.Path("executed"),)


def saved(content: Any) -> Any:
    return lambda path: torch.save(content, path)


def written(content: bytes) -> Any:
    return lambda path: path.write_bytes(content)


def scripted(path: Path) -> None:
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))


def cut(path: Path) -> None:
    torch.save(STATE, path)
    path.write_bytes(path.read_bytes()[:5000])


def cut_safetensors(path: Path) -> None:
    save_file(STATE, path)
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (saved(network()), "holds more than tensors (finetui.engine.models.lenet.LeNet)"),
        (saved(nn.Sequential(nn.Linear(3, 3))), "torch.save(network.state_dict(), 'weights.pt')"),
        (saved({"model": STATE, "x": Executed()}), "it was not loaded, since it could run code"),
        (saved({"model": {"a": np.array([None])}}), "an array that is not numeric"),
        (scripted, "(a TorchScript program)"),
        (saved(list(STATE.values())), "holds a list of 10 tensors without names"),
        (saved(torch.ones(3)), "holds a single tensor"),
        (saved(STATE | {"conv1.bias": torch.full((6,), torch.nan)}), "not finite (NaN or infinity), in conv1.bias;"),
        (
            saved({"epoch": 3, "lr": 0.1}),
            "holds no named tensors; save the network's state_dict(); it has 2 keys",
        ),
        (saved({"a": STATE, "b": STATE}), "holds tensors under several keys (2 keys: a, b)"),
        (saved({f"key{number}": 1 for number in range(9)}), "9 keys: key0, key1, key2, key3, key4, key5 and 3 more"),
        (written(b"version https://git-lfs.github.com/spec/v1\noid sha256:a\nsize 4\n"), "a Git LFS pointer"),
        (written(b"<!doctype html><title>Virus scan warning</title>"), "a web page (HTML)"),
        (written(b"\n\n<HTML lang='en'><body>"), "a web page (HTML)"),
        (written(b"<?xml version='1.0'?><Error><Code>AccessDenied"), "an XML document"),
        (written(b'{"error": "not found"}'), "it is JSON"),
        (written(b"\x1f\x8b\x08\0\0\0"), "a compressed file"),
        (written(b"\x89HDF\r\n\x1a\n"), "an HDF5 file"),
        (written(b""), "it is empty"),
        (cut, "it is truncated"),
        (cut_safetensors, "the safetensors file"),
    ],
)
def test_what_is_refused_is_called_what_it_is(make: Any, said: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "net.pt")
    with pytest.raises(BadInput) as refused:
        read_state_dict(tmp_path / "net.pt")
    assert said in str(refused.value)
    assert "net.pt" in str(refused.value)
    assert not (tmp_path / "executed").exists()


def test_a_mapping_that_holds_itself_many_times_has_an_end(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    content |= {f"key{number}": content for number in range(300)}
    torch.save(content | {"net": copy.copy(content)}, tmp_path / "net.pt")
    with pytest.raises(BadInput, match="no named tensors"):
        read_state_dict(tmp_path / "net.pt")
