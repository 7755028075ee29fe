"""Everything that must be there before the first step: device, data, network, starting weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from engine import checkpoint
from engine.config import RunConfig
from engine.data import ImageData, load
from engine.device import resolve
from engine.errors import BadInput
from engine.events import DataSummary
from engine.models import Architecture, ModuleGroup, build, module_groups

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Prepared:
    """What a session trains: all on `device`. `frozen` names the groups that start frozen."""

    device: torch.device
    data: ImageData
    architecture: Architecture
    model: nn.Module
    groups: tuple[ModuleGroup, ...]
    frozen: tuple[str, ...]
    notices: tuple[str, ...]

    def summary(self) -> DataSummary:
        """Return the data in use as the events show it."""
        data = self.data
        return DataSummary(
            name=data.name,
            requested=data.requested,
            location=data.location,
            classes=data.classes,
            train_size=len(data.train),
            test_size=len(data.test),
            channels=data.channels,
            height=data.height,
            width=data.width,
        )


def prepare(config: RunConfig, progress: Progress, cancelled: Callable[[], bool]) -> Prepared:
    """Load and build what `config` names; `progress(phase, done, total)` reports on the way.

    Raises `BadInput` for anything that cannot be had, `Cancelled` once `cancelled` answers True.
    """
    device = resolve(config.training.device)
    folder = Path(config.data.dir).expanduser() if config.data.dir is not None else None
    data = load(config.data.name, folder, device, progress=progress, cancelled=cancelled)
    progress("Building the model", 0, 0)
    architecture = Architecture(
        name=config.model.name,
        num_classes=len(data.classes),
        in_channels=data.channels,
        height=data.height,
        width=data.width,
    )
    if config.finetune is None:
        model = build(architecture, config.training.seed).to(device)
        return Prepared(device, data, architecture, model, module_groups(model), (), data.notices)
    about, weights, _ = checkpoint.load(Path(config.finetune.parent))
    architecture = _probe_architecture(about.architecture, architecture)
    model, notice = linear_probe(architecture, weights, config.training.seed)
    groups = module_groups(model)
    frozen = tuple(group.name for group in groups if group.name != "fc4")
    notices = (*data.notices, f"from {config.finetune.parent_run or 'a checkpoint'}: {notice}")
    return Prepared(device, data, architecture, model.to(device), groups, frozen, notices)


def _probe_architecture(parent: Architecture, wanted: Architecture) -> Architecture:
    sizes = (
        (parent.in_channels, parent.height, parent.width),
        (wanted.in_channels, wanted.height, wanted.width),
    )
    if sizes[0] != sizes[1]:
        raise BadInput(f"the weights take images of (channels, height, width) {sizes[0]}, and the data has {sizes[1]}")
    return msgspec.structs.replace(wanted, name=parent.name, head="features")


def linear_probe(architecture: Architecture, weights: dict[str, Tensor], seed: int) -> tuple[nn.Module, str]:
    """Return the tutorial's finetuning network, and what became of `weights`, as a phrase.

    All layers keep their weights where the shapes fit; the new head `fc4` is always initialised from `seed`.
    """
    model = build(architecture, seed)
    own = model.state_dict()
    fits = {
        name: tensor
        for name, tensor in weights.items()
        if not name.startswith("fc4.") and name in own and own[name].shape == tensor.shape
    }
    model.load_state_dict(own | fits)
    kept = sorted({name.partition(".")[0] for name in fits})
    fresh = sorted({name.partition(".")[0] for name in own if name not in fits})
    return model, f"weights kept in {', '.join(kept)}; new in {', '.join(fresh)}"
