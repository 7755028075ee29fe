"""What a library's validation says of each image, collected batch by batch, and in the order of the data set."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import RandomSampler, Subset

from finetui.engine.distributed.ranks import Ranks
from finetui.engine.watching.callbacks.guard import harmless
from finetui.engine.watching.shared_run import SharedRun

_LABELS = ("labels", "label", "targets", "target", "y")
_IMAGES = ("pixel_values", "images", "image", "inputs", "input", "x")
_ACCURACIES = ("accuracy", "acc", "train_accuracy", "train_acc", "val_accuracy", "val_acc", "eval_accuracy")
_LOSSES = ("loss", "train_loss", "val_loss", "eval_loss")
_SCORES = ("logits", "probabilities", "probs", "scores", "preds", "predictions", "y_pred", "y_hat", "output")
_MOST_PIXELS = 2**28  # bytes of images that are kept; of larger ones their files are shown, where these are known
_ON_DEVICE = 2**24  # scores that wait there: moving each batch away would have the device wait


class Validation:
    """The scores `[n, classes]` and labels `[n]` of a validation that `ranks` share.

    With several ranks the images are dealt out one by one (`image`), as torch's DistributedSampler does, or a batch at
    a time (`batch`), as accelerate does; what was dealt out twice to fill up the last batch counts once.
    """

    def __init__(self, ranks: Ranks, dealt_by: Literal["image", "batch"]) -> None:
        self._ranks = ranks
        self._dealt_by = dealt_by
        self.begin()

    def begin(self) -> None:
        """Forget what there is."""
        self._batches: list[tuple[Tensor, Tensor]] | None = []
        self._images: list[Tensor] | None = []
        self._pixels = self._waiting = 0

    def add(self, scores: Tensor | None, labels: Tensor | None, images: Any = None) -> None:
        """Take what was said of a batch: nothing counts where one of them has no scores or labels."""
        if scores is None or labels is None or self._batches is None:
            self._batches = None  # until the next validation begins
            return
        # The network's own may be written over in place, by the loop or by CUDA graphs.
        self._batches.append((scores.detach().to(torch.float32, copy=True), labels.detach().clone()))
        self._waiting += scores.numel()
        if self._waiting > _ON_DEVICE:
            self._batches = [(scores.cpu(), labels.cpu()) for scores, labels in self._batches]
            self._waiting = 0
        if not (isinstance(images, Tensor) and images.ndim in (3, 4) and len(images) == len(scores)):
            self._images = None
        if self._images is not None:
            self._pixels += images.numel() * images.element_size()
            kept = self._pixels <= _MOST_PIXELS
            self._images = [*self._images, images.detach().to("cpu", copy=True)] if kept else None

    def take(self, size: int) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """Return scores, labels, and images where they are known and few, on the first rank; None if there are none.

        All ranks call it. `size` is the number of images in the data set, 0 where that is unknown.
        """
        batches, images = self._batches, self._images
        self.begin()
        try:
            own = [(scores.cpu(), labels.cpu()) for scores, labels in batches] if batches else []
        except RuntimeError:  # of the device; the others wait for this rank all the same
            own = []
        found = self._ranks.gather_first((own, images))
        if found is None or not all(own for own, _ in found):
            return None
        if len({scores.shape[1] for own, _ in found for scores, _ in own}) != 1:
            return None
        order = self._order([[len(labels) for _, labels in own] for own, _ in found])
        order = order[:size] if size and self._ranks.world > 1 else order
        scores = torch.cat([scores for own, _ in found for scores, _ in own])[order]
        labels = torch.cat([labels for own, _ in found for _, labels in own])[order]
        pictures = [image for _, kept in found for image in kept or ()]
        known = all(kept is not None for _, kept in found) and len({picture.shape[1:] for picture in pictures}) == 1
        return scores, labels, torch.cat(pictures)[order] if known else None

    def _order(self, sizes: Sequence[Sequence[int]]) -> Tensor:
        """Return the places of the images, rank after rank, in the data set's order; `sizes` are those of batches."""
        world, turns = len(sizes), []
        for rank, batches in enumerate(sizes):
            dealt = torch.arange(sum(batches))
            if self._dealt_by == "batch":
                dealt = torch.repeat_interleave(torch.arange(len(batches)), torch.tensor(batches))
            turns.append(dealt * world + rank)
        return torch.cat(turns).argsort(stable=True)


class Outputs:
    """Remembers the last scores that `model`, or a module just within it, has returned, while it is open.

    So scores are found that a library's validation step computes and does not return.
    """

    def __init__(self, model: nn.Module, run: SharedRun | None) -> None:
        self._last: Tensor | None = None
        self._run = run
        modules = {module for module in (model, *model.children()) if not isinstance(module, nn.ModuleList)}
        self._handles = [module.register_forward_hook(self._seen) for module in modules]

    def take(self, count: int) -> Tensor | None:
        """Return the scores `[count, classes]` that were returned last since the last call, if there were any."""
        last, self._last = self._last, None
        return scores_in(last, count)

    @harmless
    def _seen(self, _module: nn.Module, _args: Any, output: Any) -> None:
        scores = scores_in(output, None)
        self._last = scores.detach().clone() if scores is not None else self._last

    def close(self) -> None:
        """Look no more."""
        for handle in self._handles:
            handle.remove()


def scores_in(output: Any, count: int | None) -> Tensor | None:
    """Return the scores `[count, classes]` that `output` is or has in it; None where there are none."""
    if isinstance(output, Mapping):
        found = (scores_in(output[name], count) for name in _SCORES if name in output)
        return next((scores for scores in found if scores is not None), None)
    if isinstance(output, tuple | list):
        return next((scores for part in output if (scores := scores_in(part, count)) is not None), None)
    if not isinstance(output, Tensor):
        logits = getattr(output, "logits", None)
        return scores_in(logits, count) if logits is not None else None
    fits = output.ndim == 2 and output.shape[1] > 1 and output.is_floating_point()
    return output if fits and count in (None, len(output)) else None


def labels_in(batch: Any) -> Tensor | None:
    """Return the labels `[n]`, whole numbers, in a batch: its second part, or what is called so."""
    labels = _part(batch, 1, _LABELS)
    whole = isinstance(labels, Tensor) and labels.ndim == 1 and not labels.is_floating_point()
    return labels if whole else None


def images_in(batch: Any) -> Any:
    """Return the images in a batch: its first part, or what is called so."""
    return batch if isinstance(batch, Tensor) else _part(batch, 0, _IMAGES)


def count_in(batch: Any) -> int:
    """Return how many images a batch has; 0 where that is not seen."""
    for part in (labels_in(batch), images_in(batch)):
        if isinstance(part, Tensor) and part.ndim:
            return len(part)
    return 0


def _part(batch: Any, place: int, names: Sequence[str]) -> Any:
    if isinstance(batch, Mapping):
        return next((batch[name] for name in names if name in batch), None)
    return batch[place] if isinstance(batch, tuple | list) and len(batch) > place else None


def files_of(loader: Any, count: int) -> list[str] | None:
    """Return the files of `count` images that `loader` gives in the order of its data set, an ImageFolder, say."""
    dataset, sampler = getattr(loader, "dataset", None), getattr(loader, "sampler", None)
    if isinstance(sampler, RandomSampler) or getattr(sampler, "shuffle", False):
        return None
    places: Sequence[int] = range(count)
    while isinstance(dataset, Subset):
        if len(dataset) < count:
            return None
        places = [dataset.indices[place] for place in places]
        dataset = dataset.dataset
    samples = getattr(dataset, "samples", None)
    if not isinstance(samples, Sequence) or max(places, default=-1) >= len(samples):
        return None
    found = (samples[place] for place in places)
    files = [sample[0] for sample in found if isinstance(sample, tuple | list) and isinstance(sample[0], str)]
    return files if len(files) == len(places) else None


def size_of(loader: Any) -> int:
    """Return how many images the data set of `loader` has; 0 where it does not tell."""
    try:
        return len(loader.dataset)
    except Exception:  # noqa: BLE001  # a data set may be anybody's; this is asked for on all ranks
        return 0


def classes_of(loader: Any) -> list[str] | None:
    """Return the names of the classes where the data set of `loader` tells them, as torchvision's do."""
    dataset = getattr(loader, "dataset", None)
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    classes = getattr(dataset, "classes", None)
    names = list(classes) if isinstance(classes, list | tuple) else []
    return names if names and all(isinstance(name, str) for name in names) else None


def mean(values: Sequence[Any]) -> Any:
    """Return the mean of numbers or tensors; of a single one itself."""
    return values[0] if len(values) == 1 else sum(values[1:], values[0]) / len(values)


def named(metrics: Mapping[str, Any], without: str = "") -> dict[str, Any]:
    """Return `metrics` with loss and accuracy by these names, whatever the library calls them; not `without`."""
    found = {name: value for name, value in metrics.items() if name not in ("self", "part", "n")}
    for ours, theirs in (("accuracy", _ACCURACIES), ("loss", _LOSSES)):
        name = next((name for name in theirs if name in found), None)
        if name is not None:
            found[ours] = found.pop(name)
    found.pop(without, None)
    return found


def tell(run: SharedRun, validation: Validation, loader: Any, metrics: Mapping[str, Any]) -> None:
    """Tell `run` what a `validation` over what `loader` gives has said, or only its `metrics`; all ranks call it."""
    size = size_of(loader)
    found = validation.take(size)
    if found is not None:
        scores, labels, images = found
        run.validated(scores, labels, files_of(loader, len(labels)) or images, metrics)
    else:
        run.evaluated(n=size, **named(metrics))
