"""safetensors files: the weights alone, with what is needed to build their network again among the metadata."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from finetui.engine.data import InputTransform
from finetui.engine.errors import BadInput, reason_of
from finetui.engine.export.description import KEY, Description, parsed
from finetui.engine.export.runner import Floats, Runner
from finetui.engine.models import build
from finetui.engine.models.outputs import logits as forward
from finetui.engine.runs.trust import check_trusted


def write(weights: Mapping[str, Any], description: Description) -> bytes:
    """Return the state dict `weights` as a safetensors file with `description` in its metadata. Raises `BadInput`."""
    from safetensors.torch import save

    others = [name for name, value in weights.items() if not isinstance(value, Tensor)]
    if others:
        raise BadInput(f"a safetensors file holds tensors alone, and {others[0]} is extra state; export to onnx or pt2")
    # Copies: tensors that share their storage are refused.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    return bytes(save(tensors, {KEY: msgspec.json.encode(description).decode()}))


def description_text(data: bytes) -> str:
    """Return the description in the safetensors file `data`, as JSON; empty where it has none."""
    try:
        header = msgspec.json.decode(data[8 : 8 + int.from_bytes(data[:8], "little")])
        found = header["__metadata__"][KEY]
    except (msgspec.DecodeError, LookupError, TypeError):
        return ""
    return found if isinstance(found, str) else ""


def open_file(data: bytes, where: str, model: str) -> Runner:
    """Return the network that the safetensors file `data` has the weights of, built anew.

    `model` must name it where it is a person's own code. Raises `BadInput`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    description = parsed(description_text(data), where)
    name = check_trusted(f"the network of {where} is", description.architecture.name, "--model", model)
    network = build(msgspec.structs.replace(description.architecture, name=name), seed=0)
    try:
        network.load_state_dict(load(data))
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise BadInput(f"the weights in {where} do not fit its network: {reason_of(error, 160)}") from error
    return Runner(description, _run(network.eval(), description))


def _run(network: nn.Module, description: Description) -> Any:
    transform = InputTransform(description.transform, torch.device("cpu"))

    def run(pixels: npt.NDArray[np.generic]) -> tuple[Floats, Floats]:
        with torch.inference_mode():
            inputs = transform(torch.from_numpy(np.array(pixels)), None)
            logits = forward(network, inputs).float()
        return logits.numpy(), (logits / description.temperature).softmax(1).numpy()

    return run
