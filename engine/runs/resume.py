"""Which runs can go on, with which configuration, and a branch of one."""

from collections.abc import Mapping
from typing import Any

import msgspec

from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import RunConfig, SectionName, TrainingConfig, with_overrides
from finetui.engine.protocol.config_file import load
from finetui.engine.runs import kept_checkpoints
from finetui.engine.runs.derived import branch_config
from finetui.engine.runs.folder import RunFolder, checkpoint_names, how_it_began, is_own_loop, no_checkpoint
from finetui.engine.runs.lock import holder_of
from finetui.engine.runs.summaries import summarise_run
from finetui.engine.runs.trust import check_run_trusted


def resumable(
    folder: RunFolder, checkpoint: str = "", *, model: str | None = None, data: str | None = None, epochs: int = 0
) -> RunConfig:
    """Return the configuration with which the run in `folder` goes on from `checkpoint`, by default its last one.

    One that has finished can, where it shall have more than its `epochs` in all.

    A person's own code that it uses has to be named as `model` and `data`: a run folder may come from anywhere. Raises
    `BadInput` that says what can be done instead when the run cannot go on.
    """
    name = folder.name
    there = holder_of(folder)
    if there is not None:
        raise BadInput(f"the run {name} is live ({there}): finetui attach {folder.argument}")
    check_trained_by_engine(folder)
    if not checkpoint_names(folder):
        raise BadInput(
            f"the run {name} has no checkpoint to resume from: it was interrupted before its first one was written"
        )
    if checkpoint and not folder.checkpoint(checkpoint).is_file():
        raise no_checkpoint(folder, checkpoint)
    summary = summarise_run(folder) if folder.journal.is_file() else None
    if summary is not None and epochs and not checkpoint and epochs <= summary.epoch - (summary.state != "finished"):
        trained = f"{summary.epoch} epoch{'s' if summary.epoch != 1 else ''}"
        raise BadInput(f"the run {name} has already trained {trained}; --epochs is the total, so give a larger number")
    if summary is not None and summary.state == "finished" and not checkpoint and not epochs:
        raise BadInput(
            f"the run {name} has finished all its epochs; start a finetune from it (finetui finetune "
            f"{folder.argument}), let it go on to N in all (finetui extend {folder.argument} --epochs N), or go back "
            f"to a checkpoint (finetui resume {folder.argument}:CHECKPOINT)"
        )
    config = configuration(folder)
    check_run_trusted(config, model=model, data=data)
    return config


def check_trained_by_engine(folder: RunFolder) -> None:
    """Raise `BadInput` for the run of a person's own loop: only that can go on with it, or train it again."""
    if is_own_loop(folder):
        raise BadInput(
            f"the run {folder.name} was trained by your own loop, which finetui only watched: start that loop again"
        )


def configuration(folder: RunFolder) -> RunConfig:
    """Return the configuration of the run in `folder`, kept where it lies now. Raises `BadInput`."""
    began = None if folder.config.is_file() else how_it_began(folder)
    config = began.config if began is not None else load(folder.config)
    return with_overrides(config, {("run", "runs_dir"): str(folder.path.absolute().parent)})


def branched(folder: RunFolder, checkpoint: str, name: str, epochs: int | None) -> RunConfig:
    """Return the configuration of a new run that goes on from a kept `checkpoint` of the run in `folder`.

    The checkpoint is kept from now on, whatever that run writes. Raises `BadInput`.
    """
    check_trained_by_engine(folder)
    config = configuration(folder)
    if epochs is not None:
        config = with_overrides(config, {("training", "epochs"): epochs})
    branch_config(config, folder.last, folder.name, name)  # a name that is taken is said before anything is kept
    pinned = kept_checkpoints.pin(folder, kept_checkpoints.of(folder), checkpoint)
    return branch_config(config, folder.path / pinned.file, folder.name, name)


# How the same steps are computed, and where: no part of what a run is trained by.
HOW = ("device", "fast", "precision", "compile", "features", "processes", "sync_bn", "accumulate")
_READING = ("loader", "workers")  # how the same images are read


def changed_training(before: RunConfig, now: RunConfig) -> bool:
    """Return whether a run that goes on is trained by other settings, but for how its steps are computed."""
    how = {name: getattr(now.training, name) for name in HOW}
    same = msgspec.structs.replace(before.training, **how) == now.training
    return not same or before.guards.early_stop != now.guards.early_stop


def settings_in(state: Mapping[str, Any], config: RunConfig) -> RunConfig:
    """Return the configuration by which the run of `config` had been trained when it was in a checkpoint's `state`."""
    if "settings" not in state:
        return config
    guards = msgspec.structs.replace(config.guards, early_stop=state["early_stop"])
    training = msgspec.convert(state["settings"], TrainingConfig)
    return msgspec.structs.replace(config, training=training, guards=guards)


def changed_settings(before: RunConfig, now: RunConfig) -> str:
    """Return in a sentence where the settings of a run that goes on are not those it began with; empty: nowhere.

    What it is trained by is left out: where that changes, the journal tells. So is how the same images are read.
    """
    same = {name: getattr(now.data, name) for name in _READING}
    before = msgspec.structs.replace(before, data=msgspec.structs.replace(before.data, **same))
    changed = [name for name in ("data", "model") if getattr(before, name) != getattr(now, name)]
    if any(getattr(before.training, name) != getattr(now.training, name) for name in HOW):
        changed.append("training")
    where = " and ".join(f"[{name}]" for name in changed)
    return where and f"config.toml has changed since the run began, in {where}: it continues with the new settings"


def handled_otherwise(before: RunConfig, now: RunConfig) -> str:
    """Return in words how the same images are read, or checkpoints written, in other ways than `before`; else empty."""
    words = {"loader": f"loader {now.data.loader}", "workers": f"{now.data.workers} workers"}
    found = [words[name] for name in _READING if getattr(before.data, name) != getattr(now.data, name)]
    if before.checkpoints != now.checkpoints:
        found.append("other settings in [checkpoints]")
    return ", ".join(found)


def with_changes(config: RunConfig, changes: Mapping[tuple[SectionName, str], object]) -> RunConfig:
    """Return the configuration of a run that goes on by other settings; None leaves one as it is. Raises `BadInput`."""
    all_changes = dict(changes)
    if changes.get(("training", "optimizer")) == "adamw":
        all_changes["training", "nesterov"] = False
    return with_overrides(config, all_changes)


def extended(folder: RunFolder, epochs: int, *, model: str | None = None, data: str | None = None) -> RunConfig:
    """Return the configuration with which the run in `folder`, finished or not, goes on to `epochs` epochs in all.

    It goes on without early stopping. Raises `BadInput`, also where it has as many already.
    """
    config = resumable(folder, model=model, data=data, epochs=epochs)
    return with_overrides(config, {("training", "epochs"): epochs, ("guards", "early_stop"): 0})
