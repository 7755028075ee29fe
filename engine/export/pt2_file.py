"""pt2 files: written and loaded by torch.export."""

import io
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.export.description import KEY, Description, parsed
from finetui.engine.export.pt2_audit import audit
from finetui.engine.export.runner import Floats, Runner
from finetui.engine.export.traced import quietly


def write(program: Any, description: Description) -> bytes:
    """Return the graph `program` as a pt2 file with `description` among its extra files. Raises `BadInput`."""
    buffer = io.BytesIO()
    try:
        with quietly():
            torch.export.save(program, buffer, extra_files={KEY: msgspec.json.encode(description).decode()})
        audit(buffer)
    except BadInput:
        raise
    except Exception as error:  # whatever torch's serializer raises for what it does not know
        raise BadInput(
            f"the network cannot be written as a pt2 file: {reason_of(error, 160)}; export its weights alone with "
            "--to safetensors"
        ) from error
    return buffer.getvalue()


def open_file(data: bytes, where: str) -> Runner:
    """Return the network in the pt2 file `data`. Nothing in it is run but torch's operations. Raises `BadInput`."""
    buffer = io.BytesIO(data)
    description = parsed(audit(buffer, where), where)
    try:
        with quietly():
            program = torch.export.load(buffer)
            module = program.module()
    except Exception as error:  # of a file that another version wrote, torch raises what its parsers do
        raise BadInput(
            f"torch {torch.__version__} cannot load {where}, which torch {description.torch} wrote: "
            f"{reason_of(error, 160)}; export it again"
        ) from error

    def run(pixels: npt.NDArray[np.generic]) -> tuple[Floats, Floats]:
        with torch.inference_mode():
            logits, probabilities = module(torch.from_numpy(np.ascontiguousarray(pixels)))
        return logits.numpy(), probabilities.numpy()

    return Runner(description, run)
