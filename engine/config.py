"""What a run is: small frozen sections, read from and written to TOML, each validated where it is declared."""

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import tomli_w

from engine.errors import BadInput
from engine.text import clean

DATASETS = ("mnist", "fashion-mnist", "mnist-sample")
MODELS = ("lenet",)
RECIPES = ("linear-probe",)
_MAX_NAME = 100


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every section: immutable, named fields only, unknown names refused."""


def _require(condition: bool, field: str, need: str, value: object) -> None:
    if not condition:
        raise BadInput(f"{field} must be {need}, not {clean(str(value), 60)!r}")


def _require_known(value: str, known: tuple[str, ...], field: str, what: str) -> None:
    import difflib  # costs 10 ms of start-up, needed only here

    if value in known:
        return
    close = difflib.get_close_matches(value, known, n=1)
    hint = f"did you mean {close[0]!r}? Known" if close else "known"
    raise BadInput(f"{field}: there is no {what} {clean(value, 60)!r}; {hint}: {', '.join(known)}")


def check_learning_rate(value: float, field: str) -> None:
    """Raise `BadInput` naming `field` unless `value` is finite and positive."""
    _require(math.isfinite(value) and value > 0, field, "a positive number", value)


def check_device(name: str) -> None:
    """Raise `BadInput` unless `name` is that of a kind of device; whether it is here, only torch can tell."""
    kind, _, index = name.partition(":")
    known = kind in ("auto", "cpu", "cuda", "mps") and (not index or (kind == "cuda" and index.isdecimal()))
    _require(known, "training.device (--device)", "auto, cpu, cuda, cuda:N or mps", name)


def check_run_name(name: str) -> None:
    """Raise `BadInput` unless `name` can be the name of a folder and be printed as it is."""
    fits = 0 < len(name) <= _MAX_NAME and not name.startswith((".", "-")) and name == name.strip()
    harmless = clean(name) == name and not any(char in name for char in '/\\:*?"<>|')
    need = f'a folder name of 1 to {_MAX_NAME} characters, without / \\ : * ? " < > | or a leading . or -'
    _require(fits and harmless, "run.name (--name)", need, name)


class DataConfig(_Section, frozen=True, kw_only=True):
    """Which images: `name` of a data set, and `dir`, where to look for it first."""

    name: str = "mnist"
    dir: str | None = None

    def __post_init__(self) -> None:
        _require_known(self.name, DATASETS, "data.name (--data)", "data set")


class ModelConfig(_Section, frozen=True, kw_only=True):
    """Which network: `name` of an architecture."""

    name: str = "lenet"

    def __post_init__(self) -> None:
        _require_known(self.name, MODELS, "model.name (--model)", "model")


class TrainingConfig(_Section, frozen=True, kw_only=True):
    """How it is trained: SGD with momentum on the cross entropy.

    `lr` is the base learning rate, `weight_decay` is never applied to biases and one-dimensional tensors,
    `thaw_warmup_steps` is the length of the linear warm-up of a group that is unfrozen while training, and
    `device` is `auto` (CUDA, else MPS, else CPU), `cpu`, `cuda`, `cuda:N` or `mps`.
    """

    epochs: int = 10
    batch_size: int = 64
    lr: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 0.0
    seed: int = 0
    device: str = "auto"
    thaw_warmup_steps: int = 100

    def __post_init__(self) -> None:
        at_least_1 = "a whole number of at least 1"
        _require(self.epochs >= 1, "training.epochs (--epochs)", at_least_1, self.epochs)
        _require(self.batch_size >= 1, "training.batch_size (--batch-size)", at_least_1, self.batch_size)
        check_learning_rate(self.lr, "training.lr (--lr)")
        _require(0 <= self.momentum < 1, "training.momentum (--momentum)", "at least 0 and below 1", self.momentum)
        decay_ok = math.isfinite(self.weight_decay) and self.weight_decay >= 0
        _require(decay_ok, "training.weight_decay", "a number of at least 0", self.weight_decay)
        _require(0 <= self.seed < 2**63, "training.seed (--seed)", "a whole number from 0 to 2^63 - 1", self.seed)
        check_device(self.device)
        _require(self.thaw_warmup_steps >= 0, "training.thaw_warmup_steps", "at least 0", self.thaw_warmup_steps)


class RunSection(_Section, frozen=True, kw_only=True):
    """Where it is kept: `name` of the run (empty: date, data and model), and the folder of all runs."""

    name: str = ""
    runs_dir: str = "checkpoints"

    def __post_init__(self) -> None:
        if self.name:
            check_run_name(self.name)


class FinetuneConfig(_Section, frozen=True, kw_only=True):
    """What a finetuning run starts from.

    `parent` is the checkpoint file whose weights are used, `parent_run` the name of its run. The recipe
    `linear-probe` freezes the convolutions and trains one new linear layer on their flattened features.
    """

    parent: str
    parent_run: str = ""
    recipe: str = "linear-probe"

    def __post_init__(self) -> None:
        _require_known(self.recipe, RECIPES, "finetune.recipe", "recipe")


class RunConfig(_Section, frozen=True, kw_only=True):
    """Everything that decides what a run does; `finetune` is None for a training from scratch."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    run: RunSection = RunSection()
    finetune: FinetuneConfig | None = None


SectionName = Literal["data", "model", "training", "run", "finetune"]


def with_overrides(config: RunConfig, overrides: Mapping[tuple[SectionName, str], Any]) -> RunConfig:
    """Return `config` with each `(section, field)` replaced; values that are None leave the field as it is.

    Raises `BadInput` when a value is not valid.
    """
    for (section, field), value in overrides.items():
        if value is not None:
            changed = msgspec.structs.replace(getattr(config, section), **{field: value})
            config = msgspec.structs.replace(config, **{section: changed})
    return config


def to_toml(config: RunConfig) -> str:
    """Return `config` as TOML text that `load` reads back to an equal value."""
    sections = msgspec.to_builtins(config)
    present = {
        name: {field: value for field, value in section.items() if value is not None}
        for name, section in sections.items()
        if section is not None
    }
    return tomli_w.dumps(present)


def load(path: Path) -> RunConfig:
    """Read a `RunConfig` from the TOML file at `path`.

    Raises `BadInput` that names the file, and the field, when it cannot be read or is not valid.
    """
    where = clean(str(path))
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        return msgspec.convert(table, RunConfig)
    except OSError as error:
        raise BadInput(f"the configuration {where} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"the configuration {where} is not TOML: {clean(str(error))}") from error
    except msgspec.ValidationError as error:
        problem = clean(str(error)).replace("`$.", "`")
        raise BadInput(f"the configuration {where} is not valid: {problem}") from error
    except BadInput as error:
        raise BadInput(f"the configuration {where} is not valid: {error}") from error
