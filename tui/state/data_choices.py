"""The data that there is to choose from: sets found on this machine, and what earlier runs were trained on."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import RunConfig, names_a_place
from finetui.engine.protocol.config_file import load
from finetui.engine.protocol.paths import is_code
from finetui.engine.runs.data_places import DataHere, data_here
from finetui.engine.runs.folder import run_folders
from finetui.engine.text import clean

_MOST_RUNS = 100  # whose settings are read


class DataChoice(NamedTuple):
    """Data to train on: `name` and `folder` as `--data` and `--data-dir` have them, a few words, training images.

    `shown` is a name for people where `name` is a long path; `location` says where a named set lies.
    """

    name: str
    folder: str | None
    about: str
    images: int | None = None
    shown: str = ""
    location: str = ""


def data_choices(runs_dir: Path, folders: Sequence[str | None], *, all_folders: bool = False) -> tuple[DataChoice, ...]:
    """Return what can be trained on: the sets found in `folders`, and image folders of the runs in `runs_dir`.

    With `all_folders` also the sets that are found where those runs have found theirs. Reads files: in a thread.
    """
    configs = _configs(runs_dir)
    if all_folders:
        folders = list(dict.fromkeys([*folders, *(config.data.dir for config in configs if config.data.dir)]))
    sets = [
        DataChoice(here.name, here.folder, _about(here), here.images, "", here.location) for here in data_here(folders)
    ]
    places = dict.fromkeys(config.data.name for config in configs if names_a_place(config.data.name))
    # A run's folder may come from anywhere: a name that would have to be cleaned is not offered.
    harmless = [name for name in places if not is_code(name) and clean(name, 4096) == name]
    used = [_place(name) for name in harmless if os.path.isdir(name)]  # noqa: PTH112  # Path.is_dir may raise
    return (*sets, *used)


def _place(name: str) -> DataChoice:
    path = Path(name)
    return DataChoice(name, None, f"folder in {path.parent}", None, f"{path.name}/")


def _about(here: DataHere) -> str:
    return here.location if here.images is None else f"{here.images:,} images"


def _configs(runs_dir: Path) -> list[RunConfig]:
    try:
        folders = run_folders(runs_dir)[:_MOST_RUNS]
    except BadInput:
        return []
    found = []
    for folder in folders:
        try:
            found.append(load(folder.config))
        except BadInput:
            continue  # a run of which only the journal is left
    return found
