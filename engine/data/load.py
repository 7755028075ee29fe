"""From a configuration to a data set: a known name, a folder, or a person's own code."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import torch

from finetui.engine.data import folder, mnist, torchvision_sets, user_datasets
from finetui.engine.data.choose_decoding import sized
from finetui.engine.data.download import Progress
from finetui.engine.data.image_data import ImageData, hold
from finetui.engine.data.recorded_data import RecordedData, all_keys, differences, is_of
from finetui.engine.errors import BadInput, reason_of
from finetui.engine.protocol.config import DataConfig, is_factory
from finetui.engine.protocol.paths import absolute_data
from finetui.engine.protocol.values import Decoding
from finetui.engine.runs import data_places


def load(
    request: DataConfig,
    device: torch.device,
    *,
    seed: int = 0,
    decoding: Decoding | None = None,
    known: RecordedData | None = None,
    progress: Progress = lambda _phase, _done, _total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> ImageData:
    """Return the data that `request` names, on `device` or streamed to it.

    `seed` divides a folder without parts, and draws val images. Pictures become what `decoding` says, what is 0 in it
    as they need it; where it is None, what the configuration says, or their sizes. With `known`, what a run saw, they
    are decoded as for that run, and if this is its data, the classes, the seed and the parts are that run's too, and
    `differences` of the result says what is not as it was. Raises `BadInput` when it cannot be had, `Cancelled` once
    `cancelled` answers True.
    """
    request = absolute_data(request)
    if known is not None:
        seed, decoding = known.description.seed, decoding or known.description.decoding
    decoding = decoding or sized(request.image_size)
    data = _load(request, device, seed, decoding, known, progress, cancelled)
    if known is None or data.description is None or not is_of(known, request, all_keys(data.keys)):
        return data
    told = differences(known, data.description, data.keys, data.unused)
    return dataclasses.replace(data, differences=tuple(told))


def _load(
    request: DataConfig,
    device: torch.device,
    seed: int,
    decoding: Decoding,
    known: RecordedData | None,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> ImageData:
    name = request.name
    given = _expanded(request.dir) if request.dir is not None else None
    if name in data_places.SPECS:
        return mnist.load(
            name, given, device, request=request, seed=seed, decoding=decoding, progress=progress, cancelled=cancelled
        )
    if name in torchvision_sets.SETS:
        roots, cache = data_places.usual_roots(given), data_places.cache_folder()
        return torchvision_sets.load(
            request, roots, cache, device, seed=seed, decoding=decoding, progress=progress, cancelled=cancelled
        )
    root = _expanded(name)
    if is_factory(name) and not _is_folder(root):
        return user_datasets.from_factory(
            name, request, device, seed=seed, decoding=decoding, progress=progress, cancelled=cancelled
        )
    if not _is_folder(root):
        what = "is not a folder" if root.exists() else "does not exist"
        raise BadInput(f"data.name (--data): the image folder {name} {what}")
    found = folder.find(
        root,
        request,
        decoding=decoding,
        seed=seed,
        known=known,
        progress=progress,
        cancelled=cancelled,
    )
    return hold(found, request, device, progress, cancelled, seed=seed)


def _expanded(path: str) -> Path:
    # Not Path.expanduser, which raises where there is no such user.
    return Path(os.path.expanduser(path))  # noqa: PTH111


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        where = str(path)
        raise BadInput(f"data.name (--data): {where} cannot be read: {reason_of(error)}") from error


def known_classes(name: str) -> tuple[str, ...] | None:
    """Return the classes of the data set `name` where they are known without reading it."""
    spec = data_places.SPECS.get(name)
    return spec.classes if spec is not None else None
