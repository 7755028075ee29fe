"""Checkpoints: written whole or not at all, sealed with a checksum, read without running any code.

`torch.load(path, weights_only=True)["model"]` is the state dict; the other keys are plain types and tensors. The file
is a zip archive as torch writes it, whose comment is a SHA-256 of everything before it.
"""

import hashlib
import io
import os
import pickle
import stat
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import torch
from torch import Tensor

from engine.data.transform import Transform
from engine.errors import BadInput, FinetuiError
from engine.files import link, remove_stale, replacing
from engine.models import Architecture
from engine.text import clean

__all__ = ["About", "NotFinite", "digest", "link", "load", "remove_stale", "save"]

FORMAT = 2
_SEAL = b"finetui sha256 "
_SEAL_LENGTH = len(_SEAL) + 64
_END_LENGTH = 22  # bytes of a zip archive's last record; its last two count those of the comment that follows
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_CHUNK = 1 << 20


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What the weights are: how to build their network, how to feed it, what its logits mean."""

    architecture: Architecture
    transform: Transform
    classes: tuple[str, ...]
    data: str
    run: str


class NotFinite(FinetuiError):
    """Weights that are infinite or not a number, which are not written."""


def save(path: Path, about: About, model: Mapping[str, Tensor], training: Mapping[str, Any]) -> None:
    """Write a sealed checkpoint to `path`: a temporary file, flushed and synced, then renamed over the old one.

    `training` holds plain types and tensors only, else TypeError names what is not. Raises `NotFinite` when weights
    are not, and OSError when the file cannot be written; either way the old file stays as it was.
    """
    content = {
        "format": FORMAT,
        "about": msgspec.to_builtins(about, builtin_types=(tuple,)),
        "model": {name: _kept(name, tensor) for name, tensor in model.items()},
        "training": _plain(dict(training), "training"),
    }
    with replacing(path) as file:
        sealer = _Sealer(file)
        torch.save(content, sealer)
        sealer.finish()


def _kept(name: str, tensor: Tensor) -> Tensor:
    """Return `tensor` of a network as it is kept: on the CPU, contiguous, nothing else in its storage."""
    kept = tensor.detach().cpu().contiguous()
    if not _is_finite(kept):
        raise NotFinite(f"the weights {clean(name)} are not finite numbers; they are not saved")
    return _alone(kept)


def _alone(tensor: Tensor) -> Tensor:
    # torch writes the whole storage that a tensor is a part of.
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _is_finite(tensor: Tensor) -> bool:
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    # One pass without a copy; what is not a number comes through as such.
    low, high = torch.aminmax(tensor)
    return bool(torch.isfinite(low) and torch.isfinite(high))


def _plain(value: Any, where: str) -> Any:
    """Return `value` with its tensors on the CPU. Raises TypeError that names what is no plain type and no tensor."""
    if type(value) in (type(None), bool, int, float, str):
        return value
    if type(value) is Tensor:
        return _alone(value.detach().cpu())
    if type(value) in (list, tuple):
        return type(value)(_plain(item, f"{where}[{index}]") for index, item in enumerate(value))
    if type(value) is dict:
        for key in value:
            if type(key) not in (str, int):
                raise TypeError(f"a key of {where} is a {type(key).__name__}, which a checkpoint does not hold")
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    raise TypeError(f"{where} is a {type(value).__name__}, which a checkpoint does not hold")


class _Sealer:
    """The file that torch writes to: passes everything on, and puts the checksum at the end.

    An error is kept until `finish`, and the rest is not written: torch would report it as a RuntimeError without errno.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._end = b""
        self._failure: BaseException | None = None

    def write(self, data: bytes) -> int:
        """Write `data`, less the last bytes, which are held back."""
        if self._failure is None:
            try:
                if len(data) < _END_LENGTH:
                    data_and_end = self._end + bytes(data)
                    self._put(data_and_end[:-_END_LENGTH])
                    self._end = data_and_end[-_END_LENGTH:]
                else:
                    self._put(self._end)
                    self._put(memoryview(data)[:-_END_LENGTH])
                    self._end = bytes(data[-_END_LENGTH:])
            except BaseException as error:  # noqa: BLE001  # also an interrupt: it must not go through C++
                self._failure = error
        return len(data)

    def flush(self) -> None:
        """Do nothing: `finish` comes after it."""

    def finish(self) -> None:
        """Write the rest and the seal. Raises what went wrong before."""
        if self._failure is not None:
            raise self._failure
        self._put(self._end[:-2] + struct.pack("<H", _SEAL_LENGTH))
        self._file.write(_SEAL + self._hash.hexdigest().encode())

    def _put(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self._file.write(data)


def load(path: Path) -> tuple[About, dict[str, Tensor], dict[str, Any]]:
    """Return the description, the state dict (on the CPU) and the training state that `path` holds.

    Raises `BadInput` that names the file when it is missing, damaged, or no checkpoint of finetui's.
    """
    where = clean(str(path))
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadInput(f"{where} is not a file")
        with path.open("rb") as file:
            if not _is_sealed(file):
                raise BadInput(f"{where} is not a checkpoint of finetui's, or is damaged; use another one of the run")
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
        about = msgspec.convert(content["about"], About)
        model = content["model"]
        for name, tensor in model.items():
            if not _is_finite(tensor):
                raise BadInput(f"the weights {clean(name)} in the checkpoint {where} are not finite; use another one")
        return about, model, content["training"]
    except OSError as error:
        raise BadInput(f"the checkpoint {where} cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise BadInput(f"{where} is not a checkpoint, or is damaged: {clean(str(error), 80)}") from error
    except (KeyError, TypeError, msgspec.ValidationError) as error:
        raise BadInput(
            f"{where} is a torch file, but not a checkpoint of finetui's: {clean(str(error), 80)}"
        ) from error


def _is_sealed(file: BinaryIO) -> bool:
    """Tell whether the last bytes of `file` are the checksum of all others."""
    rest = os.fstat(file.fileno()).st_size - _SEAL_LENGTH
    if rest < 0:
        return False
    found = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK))
    file.seek(0)
    while rest > 0:
        count = file.readinto(buffer[: min(rest, _CHUNK)])  # type: ignore[attr-defined]
        if not count:
            return False
        found.update(buffer[:count])
        rest -= count
    return file.read() == _SEAL + found.hexdigest().encode()


def digest(model: Mapping[str, Tensor]) -> str:
    """Return what weights are known by: the SHA-256 of names, dtypes, shapes and bytes, in order of name, as hex.

    The device and the strides do not matter.
    """
    found = hashlib.sha256()
    for name in sorted(model):
        tensor = model[name].detach().cpu().contiguous()
        head = msgspec.json.encode([name, str(tensor.dtype), list(tensor.shape)])
        found.update(struct.pack("<Q", len(head)) + head)
        found.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()
