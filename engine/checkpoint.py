"""Checkpoints: written whole or not at all, read without running any code.

`torch.load(path, weights_only=True)["model"]` is the state dict; the other keys are plain types and tensors.
"""

import io
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch

from engine.data.transform import Transform
from engine.errors import BadInput
from engine.models import Architecture
from engine.text import clean

FORMAT = 1


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What the weights are: how to build their network, how to feed it, what its logits mean."""

    architecture: Architecture
    transform: Transform
    classes: tuple[str, ...]
    data: str
    run: str


def save(path: Path, about: About, model: Mapping[str, torch.Tensor], training: Mapping[str, Any]) -> None:
    """Write a checkpoint to `path`: a temporary file, flushed and synced, then renamed over the old one.

    Raises OSError, leaving the old file as it was, when it cannot be written.
    """
    content = {
        "format": FORMAT,
        "about": msgspec.to_builtins(about, builtin_types=(tuple,)),
        "model": {name: tensor.detach().cpu() for name, tensor in model.items()},
        "training": dict(training),
    }
    # Serialised in memory first: torch reports a full disk as a RuntimeError without errno, a plain write does not.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load(path: Path) -> tuple[About, dict[str, torch.Tensor], dict[str, Any]]:
    """Return the description, the state dict (on the CPU) and the training state that `path` holds.

    Raises `BadInput` that names the file when it is missing, damaged, or no checkpoint of finetui's.
    """
    where = clean(str(path))
    try:
        # torch reads without checking the archive's checksums: a flipped bit would load as a wrong weight.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise BadInput(f"the checkpoint {where} is damaged (checksum of {clean(damaged)}); use another one")
        content = torch.load(path, map_location="cpu", weights_only=True)
        about = msgspec.convert(content["about"], About)
        return about, content["model"], content["training"]
    except OSError as error:
        raise BadInput(f"the checkpoint {where} cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise BadInput(f"{where} is not a checkpoint, or is damaged: {clean(str(error), 80)}") from error
    except (KeyError, TypeError, msgspec.ValidationError) as error:
        raise BadInput(
            f"{where} is a torch file, but not a checkpoint of finetui's: {clean(str(error), 80)}"
        ) from error
