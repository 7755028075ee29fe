"""A network as a graph of torch's operations, which ONNX and pt2 files are made of."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.export.description import INPUT
from finetui.engine.export.network import PixelNetwork
from finetui.engine.text import clean

_SOURCE = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")  # with this machine's paths
_LONGEST = 160


@contextmanager
def quietly() -> Iterator[None]:
    """Keep what torch's exporters print and warn of off a person's terminal; what matters is raised."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def trace(network: PixelNetwork, shape: tuple[int, int, int], name: str) -> tuple[ExportedProgram, bool]:
    """Return the graph of `network` for pixels `[batch, *shape]`, and whether the batch may be of any size, else 1.

    `name` is what the network is called. Raises `BadInput` where torch can make no graph of it.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
        raise BadInput(f"the network {clean(name)} is TorchScript, which torch.export cannot trace; {_OTHERWISE}")
    dtype = torch.float32 if network.takes_floats else torch.uint8
    try:
        return _traced(network, torch.zeros(2, *shape, dtype=dtype), dynamic=True), True
    except Exception as first:  # noqa: BLE001  # whatever a person's own code, or one of torch's many tracers, raises
        try:
            return _traced(network, torch.zeros(1, *shape, dtype=dtype), dynamic=False), False
        except Exception:  # noqa: BLE001  # what went wrong first says more
            raise BadInput(
                f"torch.export cannot trace the network {clean(name)}: {_said(first)}; {_OTHERWISE}"
            ) from first


_OTHERWISE = "its weights alone can be exported with --to safetensors"


def _traced(network: nn.Module, example: Tensor, *, dynamic: bool) -> ExportedProgram:
    shapes = {INPUT: {0: torch.export.Dim("batch", min=1)}} if dynamic else None
    with quietly(), torch.no_grad():
        program = torch.export.export(network, (example,), dynamic_shapes=shapes)
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                for key in _SOURCE:
                    node.meta.pop(key, None)
    program.example_inputs = None
    return program


def _said(error: Exception) -> str:
    """Return what torch says went wrong, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {reason_of(Exception(lines[0] if lines else 'no message'), _LONGEST)}"
