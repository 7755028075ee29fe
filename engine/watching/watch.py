"""`finetui.watch`: what makes a run of a person's own training loop."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from finetui.engine.distributed.rank_info import rank_info_from
from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.config_checks import check_run_name
from finetui.engine.watching.loop import Loop
from finetui.engine.watching.shared_run import SharedRun, own_ranks
from finetui.engine.watching.watched_run import WatchedRun


def watch(
    model: nn.Module | None = None,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    *,
    name: str = "",
    runs_dir: str | Path = "checkpoints",
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    classes: Sequence[str] | None = None,
    evaluate: Callable[[], Any] | None = None,
    save: Callable[[Path], Any] | None = None,
    config: RunConfig | Mapping[str, Any] | None = None,
) -> WatchedRun:
    """Return a run for the training loop within its `with` block, which dashboards see and steer (`finetui attach`).

        with finetui.watch(model, optimizer, epochs=10) as run:
            for epoch in range(10):
                for images, labels in run.steps(loader):
                    ...
                    run.log(loss=loss)

    Its folder is made in `runs_dir`, called `name` (which gets a number where it is taken; by default date, script and
    model). `epochs` and `steps_per_epoch` are how many there will be, where that is known; `classes` the names of the
    classes, in the order of the labels. An `optimizer` that is not given is found when it steps.

    `evaluate` is called when a dashboard wants an evaluation: what it returns is a mapping of metrics, or what
    `predictions` takes as a tuple, or nothing where it has called `run.predictions` or `run.evaluated` itself. `save`
    is called with the path of a file to write when a dashboard wants a checkpoint; without it the state dicts of model
    and optimizer are saved. `config` are settings to be kept with the run: a mapping of names to values.

    Where torch's process group is open, as under torchrun, all ranks call this, and take the same number of steps. The
    first one has the run; what a dashboard wants is done by all of them before the same step.

    Raises `BadInput` for arguments that cannot be.
    """
    optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer or ())
    _check(model, optimizers, name, epochs=epochs, steps_per_epoch=steps_per_epoch)
    about: dict[str, Any] = {"epochs": epochs, "steps_per_epoch": steps_per_epoch, "classes": classes}
    given: dict[str, Any] = {"name": name, "runs_dir": str(runs_dir), "config": config}
    given |= {"evaluate": evaluate, "save": save}
    ranks = own_ranks()
    assert ranks is not None, "it is None only where another number than torch's was given"
    if ranks.world > 1 and model is not None:
        return SharedRun(ranks, model, optimizers, about=lambda: about, **given)
    if not (ranks.is_first and rank_info_from().is_first):
        return WatchedRun(None)
    return WatchedRun(lambda: Loop(model, optimizers, **about, **given))


def _check(model: Any, optimizers: Sequence[Any], name: str, **counts: int | None) -> None:
    if model is not None and not isinstance(model, nn.Module):
        raise BadInput(f"finetui.watch takes a torch.nn.Module, and was given a {type(model).__name__}")
    for one in optimizers:
        if not isinstance(one, Optimizer):
            raise BadInput(f"finetui.watch takes a torch.optim.Optimizer, and was given a {type(one).__name__}")
    if name:
        check_run_name(name, "name")
    for field, value in counts.items():
        if value is not None and value < 1:
            raise BadInput(f"{field} must be at least 1, not {value}")
