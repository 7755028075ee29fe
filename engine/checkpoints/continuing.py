"""From what an earlier engine left in a run's folder to the checkpoint that the run goes on from."""

from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from finetui.engine.checkpoints import checkpoint
from finetui.engine.checkpoints.checkpoint import About
from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import RunConfig
from finetui.engine.runs.folder import RunFolder


class Checkpoint(NamedTuple):
    """What a checkpoint file holds: what the weights are, the state dict, and the state of the training."""

    path: Path
    about: About
    model: dict[str, Tensor]
    training: dict[str, Any]


def read(path: Path) -> Checkpoint:
    """Return what the checkpoint `path` holds. Raises `BadInput`."""
    return Checkpoint(path, *checkpoint.load(path))


def find(folder: RunFolder, name: str = "") -> tuple[Checkpoint, list[str]]:
    """Return the checkpoint of a run that is kept as `name`, by default the last one.

    The last one falls back to another where it is damaged; the list says why such were passed over. Raises `BadInput`
    when there is none that can be used.
    """
    if name:
        path = folder.checkpoint(name)
        if not path.is_file():
            known = ", ".join(sorted(found.stem for found in folder.path.glob("*.ckpt")))
            raise BadInput(f"the run {folder.name} has no checkpoint {name!r}; there are: {known or 'none'}")
        return read(path), []
    problems: list[str] = []
    first = (folder.last, folder.checkpoint("previous"))
    others = sorted(set(folder.path.glob("*.ckpt")) - set(first), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in (*first, *others):
        if not path.is_file():
            continue
        try:
            return read(path), problems
        except BadInput as error:
            problems.append(str(error))
    why = "; ".join(problems) or "it was killed before the first one was written"
    raise BadInput(f"the run {folder.name} has no checkpoint to go on from: {why}")


def changes(before: RunConfig, now: RunConfig) -> str:
    """Return in a sentence where the settings of a run that goes on are not those it began with; empty: nowhere."""
    changed = [name for name in ("data", "model", "training") if getattr(before, name) != getattr(now, name)]
    where = " and ".join(f"[{name}]" for name in changed)
    return where and f"config.toml is not what the run began with, in {where}: it goes on by the new settings"
