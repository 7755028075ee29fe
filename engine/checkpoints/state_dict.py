"""State dicts of others: found in the wrappings that people publish, and audited before they are loaded."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from finetui.engine.checkpoints.archive import ArchiveError, MoreThanTensors, OldFormat, audit, find_damage, is_archive
from finetui.engine.checkpoints.pickle_audit import STATE_DICT
from finetui.engine.errors import BadInput, reason_of

_WRAPPERS = ("model", "state_dict", "model_state_dict")
_MOST_WRAPPERS = 3  # a mapping can hold itself
_WRAPPER_PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile


def read_state_dict(path: Path, *, published: bool = False) -> dict[str, Tensor]:
    """Return the tensors that the file at `path`, written by `torch.save`, holds under their names, on the CPU.

    The state dict may be the file's whole content or under `model`, `state_dict` or `model_state_dict`. No code in the
    file is run. A file that is `published` has the checksum that its publisher gave, and may be in the format of torch
    before 1.6, as torchvision's oldest are. Raises `BadInput` naming the file when it is missing, damaged, or holds no
    tensors.
    """
    where = str(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise BadInput(f"the weights file {where} cannot be read: {reason_of(error)}") from error
    with file:
        content = _read(file, where, published)
    tensors = _without_prefixes(_tensors(content))
    if not tensors:
        raise BadInput(f"the weights file {where} holds no tensors under names; save the network's state_dict()")
    return tensors


def _read(file: BinaryIO, where: str, published: bool) -> object:
    try:
        if is_archive(file):
            # torch reads without checking the archive's checksums: a flipped bit would load as a wrong weight.
            damaged = find_damage(file)
            if damaged is not None:
                raise BadInput(f"the weights file {where} is damaged (checksum of {damaged}); get it again")
        if not published or is_archive(file):
            audit(file, STATE_DICT)
        file.seek(0)
        content: object = torch.load(file, map_location="cpu", weights_only=True)
    except OldFormat as error:
        raise BadInput(f"the weights file {where} is not read: {error}") from error
    except (MoreThanTensors, pickle.UnpicklingError) as error:
        raise BadInput(
            f"the weights file {where} is damaged, or holds more than tensors ({reason_of(error, 80)}), which is not "
            "loaded since it could run code; save the network's state_dict() instead"
        ) from error
    # Of a file that its own writer did not write, torch's parsers raise what they do.
    except (ArchiveError, OSError, RuntimeError, EOFError, ValueError, TypeError, LookupError) as error:
        raise BadInput(f"{where} is not a weights file, or is damaged: {reason_of(error, 80)}") from error
    return content


def _tensors(content: object) -> dict[str, Tensor]:
    for _ in range(_MOST_WRAPPERS + 1):
        if not isinstance(content, Mapping):
            break
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            return {name: t for name, t in content.items() if isinstance(name, str) and isinstance(t, Tensor)}
        content = inner
    return {}


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _WRAPPER_PREFIXES * 2:  # either may be around the other
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors
