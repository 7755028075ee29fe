"""`finetui finetune`: a new run that goes on from the weights of another one."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

import finetui
from finetui.engine.protocol.config import (
    HEADS,
    RECIPES,
    DataConfig,
    FinetuneConfig,
    ModelConfig,
    RunConfig,
    RunSection,
    with_overrides,
)
from finetui.engine.protocol.config_file import load
from finetui.engine.runs import kept_checkpoints
from finetui.engine.runs.derived import finetune_epochs
from finetui.engine.runs.folder import RunFolder, find_checkpoint
from finetui.engine.runs.trust import check_trusted_data
from finetui.tui.cli.complete import one_of
from finetui.tui.cli.options import Checkpoint, RunMode, RunOptions
from finetui.tui.cli.start import start


def finetune(
    run: Checkpoint,
    /,
    *,
    recipe: Annotated[str | None, Parameter(completer=one_of(*RECIPES))] = None,
    freeze: Annotated[list[str] | None, Parameter(negative=(), consume_multiple=True)] = None,
    head: Annotated[str | None, Parameter(completer=one_of(*HEADS))] = None,
    options: RunOptions | None = None,
    mode: RunMode | None = None,
) -> int:
    """Finetune a run or a checkpoint: a new run that records its parent and leaves it unchanged.

    Settings not given are taken from the parent. With --dashboard and no settings, a form asks for them.

    Parameters
    ----------
    recipe
        linear-probe (only a new head), lp-ft (default: head, then all), gradual (thaw from the top), full, or fastai
        (its fine_tune: one epoch of the head, and --epochs of all).
    freeze
        Layer groups or layers that stay frozen throughout.
    head
        keep, replace, features (a new layer on the flattened features), or auto (default: by recipe and classes).
    """
    given, mode = options or RunOptions(), mode or RunMode()
    found = find_checkpoint(run, Path(given.runs_dir or "checkpoints"))
    folder = RunFolder(found.absolute().parent)
    asks = recipe is None and head is None and not freeze and replace(given, runs_dir=None) == RunOptions()
    if mode.dashboard and asks and folder.journal.is_file() and found.suffix == ".ckpt":
        from finetui.tui.app.launch import open_finished_run

        return open_finished_run(folder, images=mode.images, notify=mode.notify, finetune=found.stem)
    path = kept_checkpoints.lasting(found)
    config = _config(path, given, recipe=recipe or "lp-ft", head=head or "auto", freeze=tuple(freeze or ()))
    return start(config, mode)


def _config(path: Path, options: RunOptions, *, recipe: str, head: str, freeze: tuple[str, ...]) -> RunConfig:
    """Return the configuration of a finetune of the checkpoint `path`: its run's settings, and `options` over them.

    Raises `BadInput`, also where the parent used a person's own code that `options` does not name: a run folder may
    come from anywhere.
    """
    folder = RunFolder(path.absolute().parent)
    in_run = folder.config.is_file() and folder.journal.is_file()
    parent = load(folder.config) if in_run else RunConfig(data=_data_of(path))
    if options.data is None:
        check_trusted_data("the parent's data is", parent.data.name, None)
    finetune = FinetuneConfig(
        parent=str(path.absolute()),
        parent_run=folder.name if in_run else "",
        recipe=recipe,
        head=head,
        freeze=freeze,
    )
    # The network's name is the checkpoint's; a parent's warm-up, name and folder are its own.
    base = msgspec.structs.replace(
        parent,
        model=ModelConfig(),
        training=msgspec.structs.replace(parent.training, warmup_epochs=0.0),
        run=RunSection(log=parent.run.log),
        finetune=finetune,
    )
    config = options.to_config(base)
    if config.finetune is None:
        config = msgspec.structs.replace(config, finetune=finetune)
    if options.config is not None and options.epochs is None:
        return config  # a file says how many there are in all
    assert config.finetune is not None
    epochs = finetune_epochs(config.finetune.recipe, options.epochs, parent)
    return with_overrides(config, {("training", "epochs"): epochs})


def _data_of(path: Path) -> DataConfig:
    """Return the data that the checkpoint `path`, which lies beside no run, was trained on."""
    about = finetui.read_about(path)
    return about.description.request if about.description is not None else DataConfig(name=about.data)
