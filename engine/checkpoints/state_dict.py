"""State dicts of others: found in the wrappings that people publish, and audited before they are loaded."""

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from finetui.engine.checkpoints.archive import (
    ArchiveError,
    MoreThanTensors,
    OldFormat,
    audit,
    find_damage,
    is_archive,
    is_big_endian,
    read_storages,
)
from finetui.engine.checkpoints.pickle_audit import SymbolicTensor
from finetui.engine.checkpoints.stand_ins import WEIGHTS, Array
from finetui.engine.checkpoints.stated_input import StatedInput, find_stated_input
from finetui.engine.checkpoints.wrappings import find_state_dict
from finetui.engine.errors import BadInput, reason_of
from finetui.engine.text import clean

_WRAPPER_PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile
_STORAGE_DTYPES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64", "Int": "int32",
    "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexDouble": "complex128",
    "ComplexFloat": "complex64",
}  # fmt: skip
_HEAD = 512  # bytes that tell what a file is
_LONGEST_HEADER = 100_000_000  # bytes, of safetensors' own limit
_KINDS = (
    (rb"version https://git-lfs", "it is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"),
    (
        rb"(?i)\s*(<!--.*?-->\s*)?<(!doctype html|html|head|body)",
        "it is a web page (HTML), downloaded in place of the file; open it in a browser to see why",
    ),
    (rb"\s*<\?xml", "it is an XML document, perhaps a server's error message in place of the file"),
    (rb"\x89HDF\r\n", "it is an HDF5 file, as written by Keras; convert its weights to a state dict first"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ\x00|\x28\xb5\x2f\xfd", "it is a compressed file; unpack it first"),
    (rb"\x93NUMPY", "it is a NumPy array; save the network's state_dict()"),
    (rb"\s*[{\[]", "it is JSON, not weights"),
)
_SAVE = "if you trust it, save the network's state_dict() instead: torch.save(network.state_dict(), 'weights.pt')"


@dataclass(frozen=True)
class WeightsFile:
    """A state dict on the CPU; what the file says about the network's input, if it does; what a person should know."""

    tensors: dict[str, Tensor]
    stated: StatedInput | None = None
    notices: tuple[str, ...] = ()


def read_state_dict(path: Path, *, published: bool = False) -> dict[str, Tensor]:
    """Return the tensors of `read_weights`."""
    return read_weights(path, published=published).tensors


def read_weights(path: Path, *, published: bool = False) -> WeightsFile:
    """Return the state dict that the file at `path` holds, written by `torch.save` or as safetensors.

    It may be the file's whole content or within it, see `find_state_dict`; as tensors, parameters or NumPy arrays. No
    code in the file is run, and no class in it is looked up. A file that is `published` has the checksum that its
    publisher gave, and may be in the format of torch before 1.6, as torchvision's oldest are. Raises `BadInput` naming
    the file, and what it is, when it is missing, damaged, holds no tensors or numbers that are not finite.
    """
    where = str(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise BadInput(f"the weights file {where} cannot be read: {reason_of(error)}") from error
    with file:
        found = _read_any(file, path, published)
    _check_finite(found.tensors, where)
    return found


def _read_any(file: BinaryIO, path: Path, published: bool) -> WeightsFile:
    where = str(path)
    head = file.read(_HEAD)
    if not head:
        raise BadInput(f"{where} is not a weights file, or is damaged: it is empty")
    if is_safetensors(head):
        return _read_safetensors(path)
    for pattern, what in _KINDS:
        if re.match(pattern, head, re.DOTALL):
            raise BadInput(f"{where} is not a weights file: {what}")
    try:
        if published and not is_archive(file):
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
            return WeightsFile(_without_prefixes(find_state_dict(content, _is_tensor, where).tensors))
        return _read_archive(file, where)
    except OldFormat as error:
        raise BadInput(f"the weights file {where} cannot be read: {error}") from error
    except (MoreThanTensors, pickle.UnpicklingError) as error:
        named = reason_of(error, 80)
        program = "; save torch.jit.load(FILE).state_dict()" if "TorchScript" in named else ""
        raise BadInput(
            f"the weights file {where} holds more than tensors ({named}), or is damaged; it was not loaded, since it "
            f"could run code; {_SAVE}{program}"
        ) from error
    # Of a file that its own writer did not write, torch's parsers raise what they do.
    except (ArchiveError, OSError, RuntimeError, EOFError, ValueError, TypeError, LookupError) as error:
        raise BadInput(f"{where} is not a weights file, or is damaged: {reason_of(error, 80)}") from error


def _read_archive(file: BinaryIO, where: str) -> WeightsFile:
    if is_archive(file):
        # Whoever reads tensors must check the archive's checksums: a flipped bit would load as a wrong weight.
        damaged = find_damage(file)
        if damaged is not None:
            raise BadInput(f"the weights file {where} is damaged (checksum of {damaged}); download it again")
    content = audit(file, WEIGHTS)
    found = find_state_dict(content, _is_tensor, where)
    if is_big_endian(file):
        raise ArchiveError("it was written on a machine with another byte order; load and save it there as safetensors")
    wanted = {tensor.key for tensor in found.tensors.values() if isinstance(tensor, SymbolicTensor)}
    storages = read_storages(file, wanted)
    tensors = {name: _made(tensor, storages) for name, tensor in found.tensors.items()}
    return WeightsFile(_without_prefixes(tensors), find_stated_input(content), found.notices)


def _is_tensor(value: object) -> bool:
    return isinstance(value, (Tensor, SymbolicTensor)) or (isinstance(value, Array) and value.dtype is not None)


def _made(tensor: SymbolicTensor | Array, storages: Mapping[str, bytearray]) -> Tensor:
    """Return the tensor that was described; those that share a storage share it."""
    if isinstance(tensor, Array):
        return torch.from_numpy(tensor.numpy())
    dtype: Any = getattr(torch, _STORAGE_DTYPES.get(tensor.dtype.name, tensor.dtype.name))
    data = storages[tensor.key]
    numbers = len(data) // tensor.dtype.itemsize
    if not numbers:
        return torch.empty(tensor.shape, dtype=dtype)
    flat = torch.frombuffer(data, dtype=torch.uint8, count=numbers * tensor.dtype.itemsize).view(dtype)
    return flat.as_strided(tensor.shape, tensor.stride, tensor.offset)


def is_safetensors(head: bytes) -> bool:
    """Tell whether a file that begins with `head` is one of safetensors."""
    return 2 <= int.from_bytes(head[:8], "little") <= _LONGEST_HEADER and head[8:9] == b"{"


def _read_safetensors(path: Path) -> WeightsFile:
    from safetensors import SafetensorError, safe_open

    where = str(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
            metadata: dict[str, str] = file.metadata() or {}
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError) as error:
        raise BadInput(f"the safetensors file {where} is damaged: {reason_of(error, 80)}; download it again") from error
    found = find_state_dict(tensors, _is_tensor, where)
    return WeightsFile(_without_prefixes(found.tensors), find_stated_input(metadata), found.notices)


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _WRAPPER_PREFIXES * 2:  # either may be around the other
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    bad = [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and tensor.numel() and not torch.isfinite(tensor.float()).all()
    ]
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise BadInput(
            f"the weights file {where} has values that are not finite (NaN or infinity), in {clean(bad[0], 60)}"
            f"{more}; the training had diverged by then, so use an earlier file"
        )
