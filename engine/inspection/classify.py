"""Classifying a person's own image files with a checkpoint."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from finetui.engine.data.parallel import for_each
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


@dataclass(frozen=True)
class Classifier:
    """A network for classifying image files: how they are decoded, and how many are looked at at once.

    `probabilities` takes pixels, uint8 `[B, C, H, W]`, and returns float32 `[B, classes]`.
    """

    classes: tuple[str, ...]
    decoding: Decoding
    batch_size: int
    probabilities: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


def checkpoint_classifier(path: Path, *, model: str, device: str, bare: BareWeights) -> Classifier:
    """Return the network and the input transform of the checkpoint or the bare weights `path`; see `classify`."""
    target = resolve(device)
    about, network, decoding = _opened(path, model, target, bare)
    finish = InputTransform(about.transform, target)
    shape = about.architecture

    def probabilities(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        with reproducible(str(target)), torch.inference_mode():
            inputs = finish(torch.from_numpy(pixels).to(target), None)
            found: npt.NDArray[np.float32] = (
                (logits(network, inputs).float() / about.temperature).softmax(1).cpu().numpy()
            )
        return found

    size = batch_size_for(shape.in_channels, shape.height, shape.width)
    return Classifier(about.classes, decoding, size, probabilities)


def classify_files(
    classifier: Classifier, files: Iterable[Path], *, top: int, invert: bool = False
) -> Iterator[Classified]:
    """Yield the `top` likeliest classes of each of `files`, which may be any number: a batch is held at a time."""
    classes = tuple(clean(name) for name in classifier.classes)
    waiting = iter(files)
    while page := list(itertools.islice(waiting, classifier.batch_size)):
        decoded = _decoded_page(page, classifier.decoding, invert)
        images = [image for image in decoded if not isinstance(image, str)]
        rows = iter(classifier.probabilities(np.stack(images)) if images else np.empty((0, 0), np.float32))
        for path, image in zip(page, decoded, strict=True):
            if isinstance(image, str):
                yield Classified(path, problem=image)
                continue
            values = next(rows)
            likeliest = np.argsort(-values, kind="stable")[:top].tolist()
            pale = classifier.decoding.channels == 1 and _border(image) > _PALE
            yield Classified(path, tuple((classes[label], float(values[label])) for label in likeliest), image, pale)


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


def _decoded_page(page: Sequence[Path], decoding: Decoding, invert: bool) -> list[npt.NDArray[np.uint8] | str]:
    """Return the pixels of each file in `page`, or what is wrong with it."""
    found: list[npt.NDArray[np.uint8] | str] = [""] * len(page)

    def decode_one(place: int) -> None:
        found[place] = _decoded(page[place], decoding, invert)

    for_each(decode_one, len(page), tell=lambda _done: None, cancelled=lambda: False)
    return found


def _decoded(path: Path, decoding: Decoding, invert: bool) -> npt.NDArray[np.uint8] | str:
    if not path.exists():
        return "there is no such file"
    try:
        image = decode(str(path), decoding)
    except Unreadable as problem:
        return str(problem)
    return 255 - image if invert else image


def _border(image: npt.NDArray[np.uint8]) -> float:
    """Return the mean of the outermost pixels of `image`, `[C, H, W]`."""
    edges = (image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1])
    return float(np.concatenate([edge.ravel() for edge in edges]).mean())
