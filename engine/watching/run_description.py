"""What is told of a watched loop when it begins: its network, its optimizer, its data, and what it obeys."""

import platform
import sys
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from finetui.engine.models import ModuleGroup
from finetui.engine.models.device import describe
from finetui.engine.protocol.capabilities import Capabilities
from finetui.engine.protocol.config import DataConfig, ModelConfig, RunConfig, TrainingConfig, is_factory
from finetui.engine.protocol.events import DataSummary, LayerGroup, RunPrepared
from finetui.engine.runs.folder import default_run_name
from finetui.engine.text import clean
from finetui.engine.version import __version__
from finetui.engine.watching.optimizers import Optimizers

Setting = str | int | float | bool

_WRAPPED = ("dataset", "iterable")  # what loaders, subsets and progress bars (tqdm) are around
_PLAIN_MODULES = frozenset(("builtins", "itertools", "collections", "numpy"))


def bare(model: nn.Module) -> nn.Module:
    """Return the network within what `torch.compile`, `DataParallel` and such put around it."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            wrapped = type(model).__name__ in ("DataParallel", "DistributedDataParallel")
            inner = getattr(model, "module", None) if wrapped else None
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def script() -> str:
    """Return the file that Python runs; empty in a notebook and where code is typed in."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    return str(Path(file).absolute()) if file else ""


def default_name(model: nn.Module | None) -> str:
    """Return what a run is called by default: date, script and model."""
    return default_run_name(Path(script()).stem or "notebook", type(model).__name__ if model is not None else "loop")


def code_name(kind: type) -> str:
    """Return what names the class `kind` as a person's own code: `path/to/train.py:Net` or `package.module:Net`."""
    name = kind.__qualname__.rpartition(".")[2]
    file = script() if kind.__module__ == "__main__" else ""
    found = f"{file if file.endswith('.py') else kind.__module__}:{name}"
    return clean(found) if is_factory(found) else "loop:network"


def size_of(data: Any) -> int:
    """Return the number of items of `data`; 0 where it has none to tell."""
    try:
        return len(data)
    except (TypeError, NotImplementedError, AttributeError):
        return 0


def _data_class(loader: Any) -> type | None:
    """Return the class that tells what is read: that of the innermost dataset, else of `loader`; None where none does.

    A list, a tuple, a generator, `zip` or a plain array may hold anything.
    """
    for _ in range(10):
        inner = next((inner for name in _WRAPPED if (inner := getattr(loader, name, None)) is not None), None)
        if inner is None:
            break
        loader = inner
    kind = type(loader)
    plain = kind.__module__.partition(".")[0] in _PLAIN_MODULES or issubclass(kind, torch.Tensor)
    return None if plain else kind


def configuration(
    base: RunConfig, model: nn.Module | None, optimizers: Optimizers, loader: Any, epochs: int | None
) -> RunConfig:
    """Return `base` with what can be seen of the loop in the place of what it does not say."""
    replace = msgspec.structs.replace
    seen: dict[str, Any] = {}
    if epochs:
        seen["epochs"] = epochs
    batch = getattr(loader, "batch_size", None)
    if isinstance(batch, int) and batch > 0:
        seen["batch_size"] = batch
    rate = optimizers.rate()
    if rate is not None and 0 < rate < float("inf"):
        seen["lr"] = rate
    kinds = [type(optimizer).__name__ for optimizer in optimizers.there]
    if kinds:
        seen["optimizer"] = "sgd" if kinds[0] == "SGD" else "adamw"
    data = _data_class(loader)
    return replace(
        base,
        data=replace(base.data, name=code_name(data)) if data is not None else base.data,
        model=replace(base.model, name=code_name(type(model))) if model is not None else base.model,
        training=replace(base.training, **seen),
    )


def base_configuration(runs_dir: str, given: RunConfig | Mapping[str, Any] | None) -> RunConfig:
    """Return the configuration to begin with: the `given` one, or one that says as little as can be."""
    if isinstance(given, RunConfig):
        config = given
    else:
        training = TrainingConfig(epochs=1, batch_size=1, lr=0.001, optimizer="sgd", schedule="constant")
        config = RunConfig(data=DataConfig(name="loop:data"), model=ModelConfig(name="loop:network"), training=training)
    return msgspec.structs.replace(config, run=msgspec.structs.replace(config.run, name="", runs_dir=runs_dir))


def settings(
    given: RunConfig | Mapping[str, Any] | None, optimizers: Optimizers, loader: Any, epochs: int | None
) -> dict[str, Setting]:
    """Return the settings that the loop tells of, by its own names and torch's."""
    found: dict[str, Setting] = {"epochs": epochs} if epochs else {}
    batch = getattr(loader, "batch_size", None)
    if isinstance(batch, int):
        found["batch_size"] = batch
    for optimizer in optimizers.there[:1]:
        found["optimizer"] = type(optimizer).__name__
        found |= {
            clean(key, 60): value for key, value in optimizer.defaults.items() if type(value) in (bool, int, float)
        }
    rate = optimizers.rate()
    if rate is not None:
        found["lr"] = rate
    if isinstance(given, Mapping):
        found |= {clean(str(key), 60): _setting(value) for key, value in given.items()}
    # What JSON has no number for is told as text.
    return {
        key: str(value) if isinstance(value, float) and not isfinite(value) else value for key, value in found.items()
    }


def _setting(value: Any) -> Setting:
    return value if type(value) in (bool, int, float) else clean(str(value))


def data_of(loader: Any, classes: Sequence[str], shape: tuple[int, ...]) -> DataSummary:
    """Return what can be seen of the data: sizes by `loader`, channels, height and width by the inputs' `shape`.

    Its name is empty where nothing tells one.
    """
    kind = _data_class(loader)
    name = clean(kind.__name__) if kind is not None else ""
    channels, height, width = shape if len(shape) == 3 else (0, 0, 0)
    size = size_of(getattr(loader, "dataset", None))
    return DataSummary(
        name=name,
        requested=name,
        location="",
        classes=tuple(classes),
        train_size=size,
        test_size=0,
        channels=channels,
        height=height,
        width=width,
        loader="read by your own loop",
    )


def prepared(
    config: RunConfig,
    data: DataSummary,
    model: nn.Module | None,
    groups: Sequence[ModuleGroup],
    layers: tuple[LayerGroup, ...],
    steps_per_epoch: int,
    hparams: dict[str, Setting],
    capabilities: Capabilities,
    world: int,
) -> RunPrepared:
    """Return the event that says what was found."""
    parameters = list(model.parameters()) if model is not None else []
    device = parameters[0].device if parameters else torch.device("cpu")
    return RunPrepared(
        config=config,
        data=data,
        layers=layers,
        device=describe(device) if device.type != "meta" else "meta",
        parameters=sum(parameter.numel() for parameter in parameters),
        steps_per_epoch=steps_per_epoch,
        hparams=hparams,
        versions={"finetui": __version__, "torch": str(torch.__version__), "python": platform.python_version()},
        world=world,
        capabilities=capabilities,
    )
