"""From a configuration to a data set: a known name, a folder, or a person's own code."""

from collections.abc import Callable
from pathlib import Path

import torch

from engine.config import DataConfig, is_factory
from engine.data import folder, own, sources, torchvision_sets
from engine.data.download import Progress
from engine.data.image_data import ImageData, hold
from engine.errors import BadInput
from engine.text import clean


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

    `seed` divides a folder without a test part; `image_size` is the side that images of different sizes are brought
    to. Raises `BadInput` when it cannot be had, `Cancelled` once `cancelled` answers True.
    """
    name = request.name
    if name in sources.SPECS:
        given = Path(request.dir).expanduser() if request.dir is not None else None
        return sources.load(name, given, device, progress=progress, cancelled=cancelled)
    if name in torchvision_sets.SETS:
        roots = sources.usual_roots(Path(request.dir).expanduser() if request.dir is not None else None)
        cache = sources.cache_folder()
        return torchvision_sets.load(request, roots, cache, device, seed=seed, progress=progress, cancelled=cancelled)
    if is_factory(name) and not Path(name).is_dir():
        return own.from_factory(name, request, device, progress, cancelled)
    root = Path(name).expanduser()
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise BadInput(f"data.name (--data): the image folder {clean(name)} {what}")
    found = folder.find(
        root,
        str(root.absolute()),
        image_size=image_size,
        seed=seed,
        follow_links=request.follow_links,
        progress=progress,
        cancelled=cancelled,
    )
    return hold(found, request, device, progress, cancelled)


def known_classes(name: str) -> tuple[str, ...] | None:
    """Return the classes of the data set `name` where they are known without reading it."""
    spec = sources.SPECS.get(name)
    return spec.classes if spec is not None else None
