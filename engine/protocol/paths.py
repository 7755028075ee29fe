"""What a name means, wherever one is: image folders, files of a person's code, files of weights. Needs no torch."""

import os
from pathlib import Path

import msgspec

from finetui.engine.protocol.config import DATASETS, TORCHVISION_DATASETS, DataConfig, RunConfig, is_factory
from finetui.engine.protocol.model_names import hub_name, is_local

_WEIGHTS = ("none", "default")


def absolute(path: str) -> str:
    """Return `path` from the root of the file system; as it is where a text file could not hold that."""
    found = Path(os.path.expanduser(path)).absolute()  # noqa: PTH111  # no such user: no error
    if ".." in found.parts:
        found = found.resolve()
    try:
        str(found).encode()
    except UnicodeEncodeError:
        return path
    return str(found)


def is_code(name: str) -> bool:
    """Whether the data `name` is a person's own code; a folder with a colon in its name is none."""
    return is_factory(name) and not os.path.isdir(os.path.expanduser(name))  # noqa: PTH111, PTH112


def absolute_code(name: str) -> str:
    """Return `path/to/file.py:factory` with the file's absolute path; a module's name, and any other, as it is."""
    where, _, factory = name.rpartition(":")
    return f"{absolute(where)}:{factory}" if is_factory(name) and where.endswith(".py") else name


def absolute_model(name: str) -> str:
    """Return the name of a network so that it means the same in any folder."""
    return f"hf:{absolute(hub_name(name))}" if is_local(name) else absolute_code(name)


def absolute_data(config: DataConfig) -> DataConfig:
    """Return `config` with places that mean the same in any folder."""
    name = config.name
    if is_code(name):
        name = absolute_code(name)
    elif name not in DATASETS and name not in TORCHVISION_DATASETS:
        name = absolute(name)
    return msgspec.structs.replace(config, name=name, dir=absolute(config.dir) if config.dir else config.dir)


def absolute_places(config: RunConfig) -> RunConfig:
    """Return `config` with data, code, weights and parents named so that they mean the same in any folder."""
    replace = msgspec.structs.replace
    model = replace(config.model, name=absolute_model(config.model.name))
    if model.weights not in _WEIGHTS:
        model = replace(model, weights=absolute(model.weights))
    finetune, branch = config.finetune, config.branch
    return replace(
        config,
        data=absolute_data(config.data),
        model=model,
        finetune=finetune and replace(finetune, parent=absolute(finetune.parent)),
        branch=branch and replace(branch, parent=absolute(branch.parent)),
    )


def code_file(name: str) -> Path:
    """Return the file of the code `name`, or what stands for it where a module is named."""
    where = name.rpartition(":")[0]
    file = where if where.endswith(".py") else f"{where.replace('.', '/')}.py"
    return Path(os.path.abspath(os.path.expanduser(file)))  # noqa: PTH100, PTH111  # no such user: no error


def same_code(name: str, other: str) -> bool:
    """Whether two names mean the same factory of the same file."""
    if name == other:
        return True
    if not (is_factory(name) and is_factory(other)) or name.rpartition(":")[2] != other.rpartition(":")[2]:
        return False
    return os.path.realpath(code_file(name)) == os.path.realpath(code_file(other))


def same_data(one: DataConfig, other: DataConfig) -> bool:
    """Whether two configurations name the same images; where a named set lies is not asked."""
    one, other = absolute_data(one), absolute_data(other)
    if one.name == other.name or same_code(one.name, other.name):
        return True
    folders = "/" in one.name and "/" in other.name
    return folders and os.path.realpath(one.name) == os.path.realpath(other.name)


def short(name: str) -> str:
    """Return `name` for people: the file of a person's code, or the folder of a network, without its folders."""
    if is_local(name):
        return f"hf:{os.path.basename(name)}"  # noqa: PTH119
    where, _, factory = name.rpartition(":")
    return f"{os.path.basename(where)}:{factory}" if is_factory(name) and where.endswith(".py") else name  # noqa: PTH119
