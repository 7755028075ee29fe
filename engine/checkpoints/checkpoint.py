"""Checkpoints: written whole or not at all, sealed with a checksum, read without running any code, and found again.

`torch.load(path, weights_only=True)["model"]` is the state dict; the other keys are plain types and tensors. The file
is a zip archive as torch writes it, whose comment is a SHA-256 of everything before it.
"""

import hashlib
import math
import pickle
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import torch
from torch import Tensor, nn

from finetui.engine.checkpoints.archive import ArchiveError, MoreThanTensors, audit, is_archive
from finetui.engine.checkpoints.pickle_audit import CHECKPOINT, STATE_DICT
from finetui.engine.checkpoints.seal import Sealer, find_seal, seal_of
from finetui.engine.data.transform import Transform
from finetui.engine.errors import BadInput, FinetuiError, reason_of
from finetui.engine.files import link, remove_stale, replacing
from finetui.engine.models import Architecture
from finetui.engine.protocol.description import DataDescription
from finetui.engine.runs.folder import RunFolder

__all__ = [
    "About", "Checkpoint", "NotFinite", "digest", "find", "link", "load", "read", "remove_stale", "save",
]  # fmt: skip

FORMAT = 2
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_NOT_FINITE = "not finite"
_OTHER = "use another checkpoint of the run (`finetui resume RUN` falls back by itself)"


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What the weights are: how to build their network, how to feed it, what its logits mean.

    Divided by `temperature` the logits give calibrated probabilities; 1 where it was not fitted. `head` names the layer
    that the logits come from, `description` says what the run saw; files of earlier versions have neither.
    """

    architecture: Architecture
    transform: Transform
    classes: tuple[str, ...]
    data: str
    run: str
    temperature: float = 1.0
    head: str = ""
    description: DataDescription | None = None

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"the temperature {self.temperature} is not a positive number")

    def built_by(self, name: str) -> "About":
        """Return the same with the name of the network's code that was given: its file may lie elsewhere now."""
        return msgspec.structs.replace(self, architecture=msgspec.structs.replace(self.architecture, name=name))


class Checkpoint(NamedTuple):
    """What a checkpoint file holds: what the weights are, the state dict, and the state of the training."""

    path: Path
    about: About
    model: dict[str, Any]  # tensors, and the extra state of modules that have some
    training: dict[str, Any]


class NotFinite(FinetuiError):
    """Weights that are infinite or not a number, which are not written."""


def save(path: Path, about: About, model: Mapping[str, Any], training: Mapping[str, Any]) -> None:
    """Write a sealed checkpoint to `path`: a temporary file, flushed and synced, then renamed over the old one.

    `model` is a state dict; extra state of modules in it, and `training`, hold plain types and tensors only, else
    `BadInput`, or TypeError, names what is not. Raises `NotFinite` when weights
    are not, and OSError when the file cannot be written; either way the old file stays as it was.
    """
    content = {
        "format": FORMAT,
        "about": msgspec.to_builtins(about, builtin_types=(tuple,)),
        "model": {name: (_extra if _is_extra(name) else _kept)(name, value) for name, value in model.items()},
        "training": _plain(dict(training), "training"),
    }
    with replacing(path) as file:
        sealer = Sealer(file)
        torch.save(content, sealer)  # type: ignore[arg-type]  # it needs no more of a file
        sealer.finish()
        try:
            audit(file, CHECKPOINT)
        except ArchiveError as error:  # what could not be read must not take the place of what can
            raise FinetuiError(f"the checkpoint {path} cannot be written: {error}") from error


def _is_extra(name: str) -> bool:
    """Whether a state dict has what a module's `get_extra_state` returned under `name`."""
    return name.rpartition(".")[2] == nn.modules.module._EXTRA_STATE_KEY_SUFFIX


def _extra(name: str, value: object) -> Any:
    try:
        return _plain(value, name)
    except TypeError as error:
        raise BadInput(
            f"the network's extra state cannot be saved: {error}; let get_extra_state return plain types and tensors"
        ) from error


def _kept(name: str, tensor: Tensor) -> Tensor:
    """Return `tensor` of a network as it is kept: on the CPU, contiguous, nothing else in its storage."""
    if not isinstance(tensor, Tensor) or type(tensor.detach()) is not Tensor:
        raise FinetuiError(f"{name} is a {type(tensor).__name__}, which a checkpoint cannot hold")
    kept = tensor.detach().cpu()
    if kept.layout == torch.strided:
        kept = _alone(kept.contiguous())
    problem = _problem(kept)
    if problem == _NOT_FINITE:
        raise NotFinite(f"the weights were not saved: {name} is {problem}")
    if problem is not None:
        raise FinetuiError(f"the weights cannot be saved: {name} is {problem}")
    return kept


def _alone(tensor: Tensor) -> Tensor:
    # torch writes the whole storage that a tensor is a part of.
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _problem(tensor: Tensor) -> str | None:
    """Return what is wrong with a tensor of a network's, or None."""
    if tensor.layout != torch.strided or not tensor.is_contiguous():
        return "not dense and contiguous"
    numbers = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    if numbers.is_floating_point():
        if numbers.dtype not in _FLOATS:
            return f"of {str(tensor.dtype).removeprefix('torch.')}, which torch does not train"
        if numbers.numel():
            # One pass without a copy; what is not a number comes through as such.
            low, high = torch.aminmax(numbers)
            if not (torch.isfinite(low) and torch.isfinite(high)):
                return _NOT_FINITE
    return None


def _plain(value: Any, where: str) -> Any:
    """Return `value` with its tensors on the CPU. Raises TypeError that names what is no plain type and no tensor."""
    if type(value) in (type(None), bool, int, float, str):
        return value
    if type(value) is Tensor and value.layout == torch.strided:
        return _alone(value.detach().cpu())
    if type(value) in (list, tuple):
        return type(value)(_plain(item, f"{where}[{index}]") for index, item in enumerate(value))
    if type(value) is dict:
        for key in value:
            if type(key) not in (str, int):
                raise TypeError(f"a key of {where} is a {type(key).__name__}, which a checkpoint cannot hold")
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    kind = f"{value.layout} tensor" if type(value) is Tensor else type(value).__name__
    raise TypeError(f"{where} is a {kind}, which a checkpoint cannot hold")


def load(path: Path) -> tuple[About, dict[str, Any], dict[str, Any]]:
    """Return the description, the state dict (on the CPU) and the training state that `path` holds.

    The seal is verified over the whole file, then what it describes is audited, and only then is anything loaded.
    Raises `BadInput` that names the file and says what to do when it is missing, damaged, made to harm, of an older
    version or no checkpoint of finetui's, or when its weights are not finite, not dense, or not of a dtype that torch
    trains.
    """
    where = f"the checkpoint {path}"
    try:
        # A pipe would be waited for, a device would never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadInput(f"{where} is not a file; {_OTHER}")
        with path.open("rb") as file:
            _verify(file, where)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BadInput(f"{where} cannot be read: {reason_of(error)}; {_OTHER}") from error
    except MoreThanTensors as error:
        raise BadInput(
            f"{where} was not loaded, since it holds more than tensors ({reason_of(error)}); {_OTHER}"
        ) from error
    except ArchiveError as error:
        raise BadInput(f"{where} cannot be loaded: {error}; {_OTHER}") from error
    # What torch makes of a file that its own writer did not write; its reader raises whatever its parsers do.
    except (RuntimeError, EOFError, ValueError, TypeError, LookupError, pickle.UnpicklingError) as error:
        raise BadInput(f"{where} cannot be loaded: {reason_of(error, 80)}; {_OTHER}") from error
    return _checked(content, where)


def _verify(file: BinaryIO, where: str) -> None:
    """Raise `BadInput` unless `file` is sealed and its content is what a checkpoint's may be; leave it at its start."""
    seal = find_seal(file)
    if seal is None:
        raise BadInput(_why_unsealed(file, where))
    if seal != seal_of(file):
        raise BadInput(f"{where} is damaged: its checksum is wrong; {_OTHER}")
    if not is_archive(file):
        raise BadInput(f"{where} is damaged: it is not an archive; {_OTHER}")
    audit(file, CHECKPOINT)
    file.seek(0)


def _why_unsealed(file: BinaryIO, where: str) -> str:
    """Return the sentence on a file without a seal; it is never loaded, only looked at."""
    try:
        content = audit(file, STATE_DICT)
    except MoreThanTensors as error:
        return f"{where} is not a finetui checkpoint: it holds more than tensors ({reason_of(error)}); {_OTHER}"
    except ArchiveError as error:
        return f"{where} is not a checkpoint, or is damaged: {error}; {_OTHER}"
    if isinstance(content, dict) and content.get("format") == 1 and "about" in content:
        return (
            f"{where} was written by an older version of finetui, without a checksum, and cannot be used; load its "
            f"weights alone with --weights, or {_OTHER}"
        )
    return f"{where} is a torch file, but not a finetui checkpoint; {_OTHER}"


def _checked(content: Any, where: str) -> tuple[About, dict[str, Any], dict[str, Any]]:
    """Return the parts of `content`. Raises `BadInput` unless they are what `save` writes."""
    try:
        if content["format"] != FORMAT:
            raise BadInput(f"{where} has the format {content['format']!r}, which this version does not know; {_OTHER}")
        about = msgspec.convert(content["about"], About)
        model, training = content["model"], content["training"]
        if type(model) is not dict or type(training) is not dict:
            raise TypeError("its weights have no names")
    except (LookupError, TypeError, msgspec.ValidationError) as error:
        raise BadInput(
            f"{where} is a torch file, but not a finetui checkpoint: {reason_of(error, 80)}; {_OTHER}"
        ) from error
    for name, tensor in model.items():
        if _is_extra(name):
            continue
        problem = "not a tensor" if type(tensor) is not Tensor else _problem(tensor)
        if problem is not None:
            raise BadInput(f"{where} cannot be used: its {name} is {problem}; {_OTHER}")
    return about, model, training


def read(path: Path) -> Checkpoint:
    """Return what the checkpoint `path` holds. Raises `BadInput`."""
    return Checkpoint(path, *load(path))


def find(folder: RunFolder, name: str = "") -> tuple[Checkpoint, list[str]]:
    """Return the checkpoint of a run that is kept as `name`, by default the last one.

    The last one falls back to another where it is damaged; the list says why such were passed over. Raises `BadInput`
    when there is none that can be used.
    """
    if name:
        path = folder.checkpoint(name)
        if not path.is_file():
            known = ", ".join(sorted(found.stem for found in folder.path.glob("*.ckpt")))
            raise BadInput(f"the run {folder.name} has no checkpoint {name!r}; it has: {known or 'none'}")
        return read(path), []
    problems: list[str] = []
    first = (folder.last, folder.checkpoint("previous"))
    others = sorted(set(folder.path.glob("*.ckpt")) - set(first), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in (*first, *others):
        if not path.is_file():
            continue
        try:
            return read(path), problems
        except BadInput as error:
            problems.append(str(error))
    why = "; ".join(problems) or "it was killed before the first one was written"
    raise BadInput(f"the run {folder.name} has no checkpoint to resume from: {why}")


def digest(model: Mapping[str, Any]) -> str:
    """Return what weights are known by: the SHA-256 of names, dtypes, shapes and bytes, in order of name, as hex.

    The device and the strides do not matter, and extra state is no weight.
    """
    found = hashlib.sha256()
    for name in sorted(name for name in model if not _is_extra(name)):
        tensor = model[name].detach().cpu().contiguous()
        head = msgspec.json.encode([name, str(tensor.dtype), list(tensor.shape)])
        found.update(struct.pack("<Q", len(head)) + head)
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
