"""From a run and a plan to the configuration of its finetune; without torch, so that a form can check what is typed."""

from pathlib import Path

import msgspec

from engine.commands import FinetunePlan
from engine.config import FinetuneConfig, ModelConfig, RunConfig, with_overrides


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
            ("training", "epochs"): plan.epochs,
            ("training", "lr"): plan.lr,
            ("training", "schedule"): plan.schedule,
            ("training", "optimizer"): plan.optimizer,
            ("training", "nesterov"): False if plan.optimizer == "adamw" else None,
        },
    )
