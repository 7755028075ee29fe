"""What the numbers of a training are called by those who write them down, and which of finetui's they are.

One table for all sources: names as PyTorch's and torchvision's examples, Lightning, Keras, Hugging Face, Ultralytics,
and timm give them. A name that is not in it stays what it is: a number of the run's own, plotted under its name.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

Kind = Literal["train", "val", "test", "other", "step", "epoch", "time"]
_TRAIN = ("train", "training")
_VAL = ("val", "valid", "validation", "eval", "evaluation", "dev")
PARTS: Mapping[str, Kind] = {**dict.fromkeys(_TRAIN, "train"), **dict.fromkeys(_VAL, "val"), "test": "test"}
_ACCURACIES = ("accuracy", "acc", "categorical_accuracy", "sparse_categorical_accuracy", "binary_accuracy",
               "accuracy_top1", "top1_accuracy", "multiclass_accuracy", "multiclassaccuracy")  # fmt: skip
_PERCENT = ("top1", "acc1", "acc_1", "prec1", "prec_1")  # timm's and torchvision's, from 0 to 100
# What is left of a name without the part that it is of and what it is a mean over.
_FIGURES: Mapping[str, tuple[str, float]] = {
    **dict.fromkeys(("loss", "cross_entropy", "ce_loss", "loss_total", "total_loss"), ("loss", 1.0)),
    **dict.fromkeys(_ACCURACIES, ("accuracy", 1.0)),
    **dict.fromkeys(_PERCENT, ("accuracy", 0.01)),
    **dict.fromkeys(("lr", "learning_rate", "lr0", "x_lr0"), ("lr", 1.0)),
    **dict.fromkeys(("grad_norm", "gradient_norm", "total_grad_norm", "grad_2_0_norm_total"), ("grad_norm", 1.0)),
    **dict.fromkeys(("samples_per_second", "images_per_second", "img_s", "images_s"), ("speed", 1.0)),
}
_EVALUATED = ("loss", "accuracy")
_STEPS = ("step", "global_step", "trainer_global_step", "iteration", "iter", "train_global_step")
_EPOCHS = ("epoch", "epochs", "train_epoch", "current_epoch")
_TIMES = ("time", "timestamp", "wall_time", "created_at", "elapsed_time")
# Ends of names with a rate that are of a later group, or of what Lightning's LearningRateMonitor logs beside the rate.
_NO_RATE = re.compile(r"(?:pg|group)?[1-9]\d*|momentum|decay")
_UNSPLIT = re.compile(r"[^a-z0-9]+")


class Meaning(NamedTuple):
    """What a number is: of which kind, which figure of that (`loss`, `accuracy`, `lr`, ...), and in which unit."""

    kind: Kind
    figure: str = ""
    factor: float = 1.0


@lru_cache(maxsize=4096)
def meaning(name: str) -> Meaning:
    """Return what the number called `name` is."""
    words = [word for word in _UNSPLIT.split(name.lower()) if word]
    whole = "_".join(words)
    for kind, names in (("step", _STEPS), ("epoch", _EPOCHS), ("time", _TIMES)):
        if whole in names:
            return Meaning(kind)  # type: ignore[arg-type]  # each is a kind
    part: Kind | None = None
    for at in (0, -1):
        if words and len(words) > 1 and words[at] in PARTS:
            part = PARTS[words.pop(at)]
            break
    if words[:1] == ["metrics"]:  # Ultralytics: of the validation images
        part, words = part or "val", words[1:]
    if words[:2] == ["learning", "rate"]:
        words = ["lr", *words[2:]]
    if words[:1] == ["lr"] and len(words) > 1 and not _NO_RATE.fullmatch(words[-1]):
        words = ["lr"]  # one optimizer's, or its first group's
    if len(words) > 1 and words[0] == "epoch":  # Keras
        words = words[1:]
    elif len(words) > 1 and words[-1] == "epoch" and part in (None, "train"):
        return Meaning("other")  # Lightning: the mean of what was told step by step
    elif len(words) > 1 and words[-1] == ("epoch" if part is not None and part != "train" else "step"):
        words = words[:-1]
    found = _FIGURES.get("_".join(words))
    if found is None or (part in ("val", "test") and found[0] not in _EVALUATED):
        return Meaning("other")
    return Meaning(part or "train", *found)


def is_place(name: str) -> bool:
    """Whether the number called `name` says where in the training a row is, and none of its figures."""
    return meaning(name).kind in ("step", "epoch", "time")


def setting_name(name: str) -> str:
    """Return what a setting is called here; finetui's own logs name the section of its configuration, too."""
    section, dot, field = name.partition(".")
    if dot and section in ("training", "model"):
        return "model" if name == "model.name" else field
    return name


def tells_of_training(names: Mapping[str, object] | list[str]) -> bool:
    """Whether one at least of `names` is a figure of a training: how a table of numbers is recognised as one."""
    return any(meaning(name).kind in ("train", "val", "test") for name in names)
