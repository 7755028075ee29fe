"""An exported network beside its checkpoint, image by image, on the very same pixels."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from finetui.engine.data import InputTransform, Transform
from finetui.engine.errors import BadInput
from finetui.engine.export.runner import Runner
from finetui.engine.inspection.evaluation import Collector, Report, batch_size_for
from finetui.engine.inspection.opened_checkpoint import OpenedCheckpoint
from finetui.engine.models.device import reproducible
from finetui.engine.models.outputs import logits as forward
from finetui.engine.protocol.values import Part


@dataclass(frozen=True, eq=False)
class Compared:
    """The reports of the checkpoint and of the exported network on the same images, in the same order.

    `differs` tells of each image whether the two take it for different classes, or the exported logits are no numbers:
    bool `[n]`; `logit_difference` and `probability_difference` are the largest of each image: float64 `[n]`.
    """

    checkpoint: Report
    exported: Report
    differs: npt.NDArray[np.bool_]
    logit_difference: npt.NDArray[np.float64]
    probability_difference: npt.NDArray[np.float64]


def compare_with(
    opened: OpenedCheckpoint,
    runner: Runner,
    part: Part,
    progress: Callable[[str, int, int], None] = lambda _phase, _done, _total: None,
) -> Compared:
    """Run the exported network and the checkpoint's over the images of `part`. Raises `BadInput`.

    Both are given each image as it is decoded for `finetui evaluate`; what is done to it afterwards is each one's own.
    """
    subject, about = opened.subject, opened.about
    data, shape = subject.data, about.architecture
    # As they are stored: bytes over 255, which give back the bytes, or floats.
    split = data.part(part).with_transform(Transform(mean=(0.0,) * data.channels, std=(1.0,) * data.channels))
    transform = InputTransform(about.transform, subject.device)
    order = torch.nonzero(split.labels >= 0)[:, 0]
    places = order.tolist()
    size = batch_size_for(shape.in_channels, shape.height, shape.width)
    # The areas under the curves, which sort all images once for each class, are for the predictions file.
    both = [Collector(len(places), len(data.classes), about.temperature, ranked=ranked) for ranked in (False, True)]
    differences: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = []
    with reproducible(str(subject.device)), torch.inference_mode():
        for number, (values, labels) in enumerate(split.batches(order, size)):
            batch = places[number * size : (number + 1) * size]
            if len(labels):
                indices = [index for index in batch if index not in split.skipped]
                pixels = values.clone() if runner.description.is_float else (values * 255).round().to(torch.uint8)
                logits, probabilities = (torch.from_numpy(found) for found in runner(pixels.cpu().numpy()))
                expected = forward(subject.model, transform(pixels, None)).float()
                for collector, found in zip(both, (expected, logits), strict=True):
                    collector.add(indices, found, labels)
                wanted = (expected / about.temperature).softmax(1)
                differences.append((_largest(logits, expected), _largest(probabilities, wanted)))
            progress("Comparing", min((number + 1) * size, len(places)), len(places))
    if not differences:
        raise BadInput(f"none of the {part} images could be read")
    of_logits, of_probabilities = (np.concatenate(parts) for parts in zip(*differences, strict=True))
    checkpoint, exported = (collector.report(data.classes) for collector in both)
    differs = (checkpoint.columns["predicted"] != exported.columns["predicted"]) | ~np.isfinite(of_logits)
    return Compared(checkpoint, exported, differs, of_logits, of_probabilities)


def _largest(found: Tensor, expected: Tensor) -> npt.NDArray[np.float64]:
    """Return the largest difference of each row; infinite where one of its numbers is none."""
    difference = (found.double() - expected.double()).abs().amax(1)
    return torch.nan_to_num(difference, nan=float("inf")).numpy(force=True)
