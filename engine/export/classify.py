"""Classifying a person's own image files: with a checkpoint, with bare weights, or with an exported file alone."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from finetui.engine.errors import BadInput
from finetui.engine.export.opened import kind_of, open_export
from finetui.engine.inspection.bare_weights import check_not_bare
from finetui.engine.inspection.classify import Classified, Classifier, checkpoint_classifier, classify_files
from finetui.engine.inspection.evaluation import batch_size_for
from finetui.engine.protocol.requests import BareWeights


def classify(
    checkpoint: Path,
    files: Iterable[Path],
    *,
    top: int = 5,
    model: str = "lenet",
    device: str = "auto",
    invert: bool = False,
    bare: BareWeights = BareWeights(),  # noqa: B008  # frozen
) -> Iterator[Classified]:
    """Yield the `top` likeliest classes of each of `files`, by the network and the input transform of `checkpoint`.

    That is a checkpoint, a bare state dict, or a file that `export_checkpoint` wrote, which is run on the CPU.
    Files are decoded as those that the network was trained on; with `invert` light and dark are exchanged first. The
    logits are divided by the checkpoint's temperature. `model` must name the network where that is a person's own code,
    or where the file is a bare state dict, of which `bare` says more. `files` may be any number: they are taken,
    decoded and forgotten by batches. Raises `BadInput` when the checkpoint cannot be used.
    """
    if kind_of(checkpoint) is None:
        classifier = checkpoint_classifier(checkpoint, model=model, device=device, bare=bare)
    else:
        check_not_bare(checkpoint, bare)
        classifier = _exported_classifier(checkpoint, model, device)
    yield from classify_files(classifier, files, top=top, invert=invert)


def _exported_classifier(path: Path, model: str, device: str) -> Classifier:
    if device not in ("auto", "cpu"):
        raise BadInput(f"--device: an exported file is run on the CPU, and not on {device}; leave --device out")
    runner = open_export(path, model=model)
    about = runner.description

    def probabilities(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return runner(pixels.astype(np.float32) / np.float32(255) if about.is_float else pixels)[1]

    shape = about.architecture
    size = batch_size_for(shape.in_channels, shape.height, shape.width)
    return Classifier(about.classes, about.decoding, size, probabilities)
