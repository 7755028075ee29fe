"""State dicts from files, and what of one network's weights fits into another."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from finetui.engine.models.stems import adapt_filters
from finetui.engine.text import clean

_DEEPEST_PREFIX = (
    4  # modules around the network: those of training classes, of DistributedDataParallel, of torch.compile
)
# Names in torchvision's published files that its own loaders translate: densenet.py, vision_transformer.py.
_OLD_NAMES = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"(mlp\.)linear_1\."), r"\g<1>0."),
    (re.compile(r"(mlp\.)linear_2\."), r"\g<1>3."),
)
NEW_LAYER = "reinitialised"
_UNKNOWN = "not in this network"
_SHAPE = "other shape"
_MOST_NAMES = 6
_AVERAGED = {"ema", "teacher", "averaged", "average", "avg", "swa", "shadow"}


@dataclass(frozen=True)
class HeadRows:
    """Rows of the layer `layer`, one for each class: pairs (row in the network, row in the weights)."""

    layer: str
    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Transplant:
    """What becomes of weights in a network.

    `reused`: names of tensors that are taken over as they are called; `renamed`: (name in the weights, name in the
    network); `dropped`: (name in the weights, why it fits nowhere); `fresh`: the network's tensors that get none.
    `adapted`: those of the network's that are taken over for another number of channels. `rows`: what of the head is
    taken over class by class, whether or not all of it is. `prefix`: what the names in the weights have in front, such
    as `module.model.`.
    """

    reused: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    dropped: tuple[tuple[str, str], ...]
    fresh: tuple[str, ...]
    adapted: tuple[str, ...] = ()
    rows: HeadRows | None = None
    prefix: str = ""

    def sentence(self) -> str:
        """Return all of it in one line, by modules."""
        kept = [*self.reused, *(new for _, new in self.renamed)]
        fresh = [name for name in self.fresh if not _counts_batches(name)]
        fates = dict.fromkeys(kept, "kept") | dict.fromkeys(fresh, "new")
        parts = [f"weights kept in {_modules(kept, fates) if fresh else 'all layers'}"] if kept else ["no weights fit"]
        if self.prefix:
            parts[0] += f" (the file's tensors under {clean(self.prefix, 60).rstrip('.')})"
        if self.adapted:
            parts.append(f"{', '.join(map(clean, self.adapted))} adapted to the images' channels")
        if fresh:
            parts.append(f"new in {_modules(fresh, fates)}")
        reasons = {name: why.partition(":")[0] for name, why in self.dropped}
        fates = dict.fromkeys(self.reused, "kept") | dict.fromkeys((old for old, _ in self.renamed), "kept") | reasons
        for reason in dict.fromkeys(reasons.values()):
            names = [name for name, why in reasons.items() if why == reason]
            parts.append(f"dropped {_modules(names, fates)} ({reason})")
        return "; ".join(parts)


def is_averaged(key: str) -> bool:
    """Whether `key` is what averaged weights (of an EMA, SWA, or a teacher that is one) are kept under."""
    return not _AVERAGED.isdisjoint(re.split(r"[._\-]", key.lower()))


def plan_transplant(model: nn.Module, weights: Mapping[str, Tensor], *, skip: Collection[str] = ()) -> Transplant:
    """Return where each of `weights` goes in `model`, by name and shape; nothing is copied, either may be on `meta`.

    The tensors of the layers named in `skip` stay fresh. A prefix of the names, of whatever was around the network, and
    torchvision's older names are translated; of weights and averaged ones under prefixes the averaged are taken;
    filters of a convolution fit if only their channels differ, one against three. What is no tensor (extra state) stays
    the network's.
    """
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    weights = {name: tensor for name, tensor in weights.items() if isinstance(tensor, Tensor)}
    convolutions = (item for item in model.named_modules() if isinstance(item[1], nn.Conv2d) and item[1].groups == 1)
    filters = {f"{name}.weight" if name else "weight" for name, _ in convolutions}
    reused, renamed, dropped, adapted = [], [], [], []
    taken: set[str] = set()
    prefix = _prefix(weights, wanted)
    # Tensors under their own names have precedence over renamed ones.
    for name, tensor in sorted(weights.items(), key=lambda item: item[0] not in wanted):
        target = _target(name, prefix, wanted)
        if target is None or target in taken:
            dropped.append((name, _UNKNOWN))
        elif any(target == layer or target.startswith(f"{layer}.") for layer in skip):
            dropped.append((name, NEW_LAYER))
        elif tensor.shape != wanted[target] and not (
            target in filters and _differ_in_channels(tensor.shape, wanted[target])
        ):
            dropped.append((name, f"{_SHAPE}: {_by(tensor.shape)}, not {_by(wanted[target])}"))
        else:
            taken.add(target)
            if target == name:
                reused.append(name)
            else:
                renamed.append((name, target))
            if tensor.shape != wanted[target]:
                adapted.append(target)
    fresh = tuple(name for name in wanted if name not in taken)
    prefix = prefix if renamed else ""
    return Transplant(tuple(reused), tuple(renamed), tuple(dropped), fresh, tuple(adapted), prefix=prefix)


def apply_transplant(model: nn.Module, weights: Mapping[str, Tensor], moved: Transplant) -> None:
    """Copy `weights` into `model` as `moved`, the plan made for the two, says; dtypes and devices stay the model's."""
    targets = model.state_dict()
    with torch.no_grad():
        for old, new in (*((name, name) for name in moved.reused), *moved.renamed):
            tensor = weights[old]
            if new in moved.adapted:
                tensor = adapt_filters(tensor, targets[new].shape[1])
            targets[new].copy_(tensor)
        if moved.rows is not None:
            _copy_rows(targets, weights, moved.rows)


def _copy_rows(targets: Mapping[str, Tensor], weights: Mapping[str, Tensor], rows: HeadRows) -> None:
    ours, theirs = (list(side) for side in zip(*rows.pairs, strict=True))
    prefix = _prefix(weights, targets)
    for name in (f"{rows.layer}.weight", f"{rows.layer}.bias"):
        old = next((key for key in weights if _target(key, prefix, targets) == name), None)
        # A layer of the same name with other inputs is another layer.
        if old is not None and name in targets and weights[old].shape[1:] == targets[name].shape[1:]:
            targets[name][ours] = weights[old][theirs].to(targets[name])


def _prefix(names: Iterable[str], wanted: Collection[str]) -> str:
    """Return what most of `names` that are `wanted` have in front; of averaged weights, where there are as many."""
    counts: Counter[str] = Counter()
    for name in names:
        pieces = name.split(".")
        for count in range(1, min(len(pieces), _DEEPEST_PREFIX + 1)):
            if _renamed(".".join(pieces[count:])) in wanted:
                counts["".join(f"{piece}." for piece in pieces[:count])] += 1
    return max(counts, key=lambda prefix: (counts[prefix], is_averaged(prefix), -len(prefix)), default="")


def _renamed(name: str) -> str:
    """Return a name of torchvision's published files as its networks have it."""
    for old, new in _OLD_NAMES:
        name = old.sub(new, name)
    return name


def _target(name: str, prefix: str, wanted: Collection[str]) -> str | None:
    """Return the name in the network that a tensor called `name` belongs to."""
    plain = name.removeprefix(prefix)
    for candidate in (name, plain):
        if candidate in wanted:
            return candidate
    plain = _renamed(plain)
    return plain if plain in wanted else None


def _differ_in_channels(have: torch.Size, want: torch.Size) -> bool:
    same = len(have) == len(want) == 4 and (have[0], *have[2:]) == (want[0], *want[2:])
    return same and {have[1], want[1]} == {1, 3}


def _modules(names: Iterable[str], fates: Mapping[str, str]) -> str:
    """Return the highest modules all of whose tensors share a fate, and that hold `names`."""
    names = list(names)
    paths = list(dict.fromkeys(_highest(names, fates)))
    shown = ", ".join(clean(path, 60) for path in paths[:_MOST_NAMES])
    return shown if len(paths) <= _MOST_NAMES else f"{shown} and {len(paths) - _MOST_NAMES} more"


def _highest(names: Iterable[str], fates: Mapping[str, str]) -> Iterator[str]:
    fates_below: dict[str, set[str]] = {}
    for name, fate in fates.items():
        for path in _ancestors(name):
            fates_below.setdefault(path, set()).add(fate)
    for name in names:
        yield next((path for path in _ancestors(name) if len(fates_below[path]) == 1), name)


def _ancestors(name: str) -> Iterator[str]:
    """Yield the modules that a tensor is in, from the top, and then its own name."""
    pieces = name.split(".")
    for count in range(1, len(pieces) + 1):
        yield ".".join(pieces[:count])


def _counts_batches(name: str) -> bool:
    # Older files have none, and only a normalisation without a momentum reads it.
    return name.rpartition(".")[2] == "num_batches_tracked"


def _by(shape: torch.Size) -> str:
    return "×".join(map(str, shape)) or "one number"
