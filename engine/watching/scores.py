"""What somebody's loop predicted, as finetui keeps it: scores by class, and every prediction in a file."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from finetui.engine.errors import BadInput
from finetui.engine.inspection.evaluation import Report, predictions_of as predictions_of, report_of
from finetui.engine.inspection.ranking import QUICKLY_RANKED
from finetui.engine.predictions.file import Files, Origin
from finetui.engine.predictions.given_images import as_people_see

_OTHERWISE = "for other tasks than classifying images, use run.evaluated(loss=..., anything=...)"
_ROUNDING = 1e-2  # by which the probabilities of one image may miss 1, in half precision


def class_names(given: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """Return the names of `count` classes; their numbers where none are `given`. Raises `BadInput`."""
    if not given:
        return tuple(map(str, range(count)))
    if len(given) != count:
        raise BadInput(f"there are {len(given)} classes, and predictions for {count}")
    return tuple(map(str, given))


def report(probabilities: Any, labels: Any, classes: Sequence[str] | None) -> tuple[Report, tuple[str, ...]]:
    """Return what `probabilities`, `[n, classes]`, of images with these `labels`, `[n]`, amount to, and the classes.

    Rows that are no probabilities (not from 0 to 1, or not adding up to 1) are taken as logits. Raises `BadInput` for
    what does not fit together.
    """
    values, true = _tensor(probabilities), _tensor(labels)
    if values.ndim != 2 or not values.numel():
        raise BadInput(
            f"predictions(probabilities, ...) takes [n, classes], and was given {tuple(values.shape)}; {_OTHERWISE}"
        )
    if true.ndim == 2 and true.shape == values.shape:
        if not torch.allclose(true.float().sum(1), torch.ones(len(true)), atol=_ROUNDING):
            raise BadInput(f"each image has one label here, and was given several, or none; {_OTHERWISE}")
        true = true.argmax(1)  # one-hot, or shares of several
    if true.shape != values.shape[:1]:
        raise BadInput(f"there are {len(values):,} predictions, and labels of the shape {tuple(true.shape)}")
    if true.is_floating_point() and not torch.equal(true, true.round()):
        raise BadInput("predictions(..., labels) takes whole numbers")
    values, true = values.float(), true.long()
    names = class_names(classes, values.shape[1])
    if int(true.min()) < 0 or int(true.max()) >= len(names):
        raise BadInput(
            f"labels must be from 0 to {len(names) - 1}, and these are from {int(true.min())} to {int(true.max())}"
        )
    if not bool(torch.isfinite(values).all()):
        raise BadInput("some of the predictions are not finite numbers")
    sums = values.sum(1)
    if float(values.min()) >= 0 and bool(((sums - 1).abs() < _ROUNDING).all()):
        values = values.clamp_min(torch.finfo(torch.float32).tiny).log()
    return report_of(values, true, names, ranked=values.numel() <= QUICKLY_RANKED), names


def _tensor(values: Any) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().cpu()
    if isinstance(values, (list, tuple)) and values and isinstance(values[0], Tensor):
        # Batches, or single numbers, as a loop collects them.
        return torch.cat(
            [
                value.detach().cpu().reshape(1, *value.shape[1:]) if not value.ndim else value.detach().cpu()
                for value in values
            ]
        )
    try:
        return torch.as_tensor(np.asarray(values))
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"predictions takes tensors or arrays of numbers, and was given a {type(values).__name__}"
        ) from error


def images(given: Any, count: int) -> tuple[Files, npt.NDArray[np.uint8] | None]:
    """Return the files that `given` names, or the arrays that it holds, of `count` images. Raises `BadInput`."""
    none = Files.of(())
    if given is None:
        return none, None
    if isinstance(given, Tensor):
        given = given.detach().cpu().float().numpy() if given.dtype == torch.bfloat16 else given.detach().cpu().numpy()
    if len(given) != count:
        raise BadInput(f"there are {count:,} predictions, and {len(given):,} images")
    if isinstance(given[0], (str, os.PathLike)):
        return Files.of([os.path.abspath(os.fspath(path)) for path in given]), None  # noqa: PTH100  # names need not be text
    if isinstance(given[0], Tensor):
        given = [image.detach().cpu().numpy() for image in given]
    return none, as_people_see(given)


def origin(classes: tuple[str, ...], data: str, run: str, step: int, part: Any) -> Origin:
    """Return what says what was evaluated."""
    return Origin(classes=classes, data=data, run=run, step=step, part=part)
