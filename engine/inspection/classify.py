"""Classifying a person's own image files with a checkpoint."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from finetui.engine.checkpoints.checkpoint import About
from finetui.engine.data import InputTransform, Unreadable
from finetui.engine.data.image_files import decode
from finetui.engine.inspection.bare_weights import check_not_bare, is_bare, open_bare
from finetui.engine.inspection.evaluation import batch_size_for
from finetui.engine.inspection.opened_checkpoint import load_network
from finetui.engine.models.device import reproducible, resolve
from finetui.engine.models.outputs import logits
from finetui.engine.protocol.requests import BareWeights
from finetui.engine.protocol.values import Decoding
from finetui.engine.setup.recorded_data import recorded_data
from finetui.engine.text import clean

_PALE = 128  # of 255: what a border that looks like paper is brighter than


@dataclass(frozen=True, eq=False)
class Classified:
    """What a network says of the image file `path`: its likeliest classes, or what is wrong with the file.

    `pixels` is what the network was given before it was normalised, uint8 `[C, H, W]`; `pale` tells that an image for a
    network of grey images is on a pale ground, where those they learn from are mostly on black.
    """

    path: Path
    top: tuple[tuple[str, float], ...] = ()
    pixels: npt.NDArray[np.uint8] | None = None
    pale: bool = False
    problem: str = ""


def classify(
    checkpoint: Path,
    files: Sequence[Path],
    *,
    top: int = 5,
    model: str = "lenet",
    device: str = "auto",
    invert: bool = False,
    bare: BareWeights = BareWeights(),  # noqa: B008  # frozen
) -> Iterator[Classified]:
    """Yield the `top` likeliest classes of each of `files`, by the checkpoint's network and its input transform.

    Files are decoded as those that the network was trained on; with `invert` light and dark are exchanged first. The
    logits are divided by the checkpoint's temperature. `model` must name the network where that is a person's own code,
    or where the file is a bare state dict, of which `bare` says more. Raises `BadInput` when the checkpoint cannot be
    used.
    """
    target = resolve(device)
    about, network, decoding = _opened(checkpoint, model, target, bare)
    shape = about.architecture
    finish = InputTransform(about.transform, target)
    size = batch_size_for(shape.in_channels, shape.height, shape.width)
    classes = tuple(clean(name) for name in about.classes)
    for start in range(0, len(files), size):
        page = files[start : start + size]
        decoded = [_decoded(path, decoding, invert) for path in page]
        images = [image for image in decoded if not isinstance(image, str)]
        probabilities = torch.empty(0)
        if images:
            with reproducible(str(target)), torch.inference_mode():
                inputs = finish(torch.from_numpy(np.stack(images)).to(target), None)
                probabilities = (logits(network, inputs).float() / about.temperature).softmax(1).cpu()
        rows = iter(probabilities)
        for path, image in zip(page, decoded, strict=True):
            if isinstance(image, str):
                yield Classified(path, problem=image)
                continue
            values, labels = next(rows).sort(descending=True, stable=True)
            likeliest = zip(labels[:top].tolist(), values[:top].tolist(), strict=True)
            pale = shape.in_channels == 1 and _border(image) > _PALE
            yield Classified(path, tuple((classes[label], value) for label, value in likeliest), image, pale)


def _opened(path: Path, model: str, device: torch.device, bare: BareWeights) -> tuple[About, nn.Module, Decoding]:
    """Return what the file `path` says, its network, and how images for it are decoded."""
    if is_bare(path):
        about, network, decoding, _ = open_bare(path, bare, model, device)
    else:
        about, network = load_network(path, model=model, device=str(device))
        check_not_bare(path, bare)
        known = recorded_data(path, about)
        shape = about.architecture
        # Of floats, and of a checkpoint of an earlier version that lies beside no run, nothing else is known.
        as_given = Decoding(channels=shape.in_channels, height=shape.height, width=shape.width)
        decoding = (known.description.decoding if known is not None else None) or as_given
    return about, network, msgspec.structs.replace(decoding, channels=about.architecture.in_channels)


def _decoded(path: Path, decoding: Decoding, invert: bool) -> npt.NDArray[np.uint8] | str:
    if not path.exists():
        return "there is no such file"
    if path.is_dir():
        return "it is a folder; name the files in it"
    try:
        image = decode(str(path), decoding)
    except Unreadable as problem:
        return str(problem)
    return 255 - image if invert else image


def _border(image: npt.NDArray[np.uint8]) -> float:
    """Return the mean of the outermost pixels of `image`, `[C, H, W]`."""
    edges = (image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1])
    return float(np.concatenate([edge.ravel() for edge in edges]).mean())
