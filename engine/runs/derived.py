"""From a run and a plan to the configuration of its finetune; without torch, so that a form can check what is typed."""

from pathlib import Path

import msgspec

from finetui.engine.errors import BadInput
from finetui.engine.protocol.commands import FinetunePlan
from finetui.engine.protocol.config import BranchConfig, FinetuneConfig, ModelConfig, RunConfig, with_overrides
from finetui.engine.protocol.config_checks import check_run_name

# The epochs that a recipe has besides those that it is given: fastai's `fine_tune(5)` trains six.
_EPOCHS_BESIDE = {"fastai": 1}


def finetune_epochs(recipe: str, given: int | None, parent: RunConfig) -> int:
    """Return how many epochs a finetune by `recipe` of a run configured by `parent` has in all.

    `given` None: as many as the parent, not counting those that a recipe of its own had besides.
    """
    own = _EPOCHS_BESIDE.get(parent.finetune.recipe, 0) if parent.finetune is not None else 0
    return (max(parent.training.epochs - own, 1) if given is None else given) + _EPOCHS_BESIDE.get(recipe, 0)


def child_config(config: RunConfig, plan: FinetunePlan, parent: Path, parent_run: str) -> RunConfig:
    """Return the configuration of the finetune `plan` of the run `parent_run` (configured by `config`).

    Its weights come from the checkpoint `parent`. Raises `BadInput` for a plan that cannot be.
    """
    finetune = FinetuneConfig(
        parent=str(parent), parent_run=parent_run, recipe=plan.recipe, head=plan.head, freeze=plan.freeze
    )
    data = config.data if plan.data is None else msgspec.structs.replace(config.data, name=plan.data)
    # A warm-up longer than the finetune was the parent's wish, not this plan's.
    child = msgspec.structs.replace(
        config,
        data=data,
        model=ModelConfig(name=config.model.name),
        training=msgspec.structs.replace(config.training, warmup_epochs=0.0),
        run=msgspec.structs.replace(config.run, name=""),
        finetune=finetune,
    )
    return with_overrides(
        child,
        {
            ("data", "val"): plan.val,
            ("training", "epochs"): finetune_epochs(plan.recipe, plan.epochs, config),
            ("training", "lr"): plan.lr,
            ("training", "schedule"): plan.schedule,
            ("training", "optimizer"): plan.optimizer,
            ("training", "nesterov"): False if plan.optimizer == "adamw" else None,
        },
    )


def branch_config(config: RunConfig, start: Path, parent_run: str, name: str = "") -> RunConfig:
    """Return the configuration of a run that goes on from the checkpoint `start` of `parent_run`, as `config` says.

    `name` empty: the parent's with `-branch`, and a number where that is taken. Raises `BadInput` when `name` is taken.
    """
    runs_dir = Path(config.run.runs_dir)
    if name:
        check_run_name(name)
        if (runs_dir / name).exists():
            raise BadInput(f"a run named {name!r} exists already; choose another name")
    return msgspec.structs.replace(
        config,
        run=msgspec.structs.replace(config.run, name=name or free_name(runs_dir, f"{parent_run}-branch")),
        branch=BranchConfig(parent=str(start.absolute()), parent_run=parent_run),
    )


def free_name(runs_dir: Path, wanted: str) -> str:
    """Return `wanted`, with a number if there is such a run in `runs_dir`."""
    number = 1
    while (runs_dir / (name := wanted if number == 1 else f"{wanted}-{number}")).exists():
        number += 1
    return name
