"""From a configuration to a data set: a known name, a folder, or a person's own code."""

import os
from collections.abc import Callable
from pathlib import Path

import torch

from finetui.engine.data import folder, mnist, torchvision_sets, user_datasets
from finetui.engine.data.download import Progress
from finetui.engine.data.image_data import ImageData, hold
from finetui.engine.errors import BadInput, reason_of
from finetui.engine.protocol.config import DataConfig, is_factory


def load(
    request: DataConfig,
    device: torch.device,
    *,
    seed: int = 0,
    image_size: int | None = None,
    progress: Progress = lambda _phase, _done, _total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> ImageData:
    """Return the data that `request` names, on `device` or streamed to it.

    `seed` divides a folder without parts, and draws val images; `image_size` is the side that images of different sizes
    are brought to. Raises `BadInput` when it cannot be had, `Cancelled` once `cancelled` answers True.
    """
    name = request.name
    given = _expanded(request.dir) if request.dir is not None else None
    if name in mnist.SPECS:
        return mnist.load(name, given, device, request=request, seed=seed, progress=progress, cancelled=cancelled)
    if name in torchvision_sets.SETS:
        roots, cache = mnist.usual_roots(given), mnist.cache_folder()
        return torchvision_sets.load(
            request, roots, cache, device, seed=seed, image_size=image_size, progress=progress, cancelled=cancelled
        )
    root = _expanded(name)
    if is_factory(name) and not _is_folder(root):
        return user_datasets.from_factory(
            name, request, device, seed=seed, image_size=image_size, progress=progress, cancelled=cancelled
        )
    if not _is_folder(root):
        what = "is not a folder" if root.exists() else "does not exist"
        raise BadInput(f"data.name (--data): the image folder {name} {what}")
    found = folder.find(
        root,
        str(root.absolute()),
        image_size=image_size or request.image_size,
        seed=seed,
        test=request.test != "none",
        follow_links=request.follow_links,
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
    spec = mnist.SPECS.get(name)
    return spec.classes if spec is not None else None
