"""Checks of what a configuration is given, each with the sentence that says what must be there instead."""

import math

from finetui.engine.errors import BadInput
from finetui.engine.text import clean, similar

_MAX_NAME = 100


def require(condition: bool, field: str, need: str, value: object) -> None:
    """Raise `BadInput`, that `field` must be `need` and not `value`, unless `condition` holds."""
    if not condition:
        raise BadInput(f"{field} must be {need}, not {str(value)!r}")


def require_known(value: str, known: tuple[str, ...], field: str, what: str) -> None:
    """Raise `BadInput` naming `field`, with the name that is close, unless the `what` called `value` is `known`."""
    if value in known:
        return
    close = similar(value, known, most=1)
    hint = f"did you mean {close[0]!r}? Known" if close else "known"
    raise BadInput(f"{field}: there is no {what} {value!r}; {hint}: {', '.join(known)}")


def check_learning_rate(value: float, field: str) -> None:
    """Raise `BadInput` naming `field` unless `value` is finite and positive."""
    require(math.isfinite(value) and value > 0, field, "a positive number", value)


def check_device(name: str) -> None:
    """Raise `BadInput` unless `name` is that of a kind of device; whether it is here, only torch can tell."""
    kind, _, index = name.partition(":")
    known = kind in ("auto", "cpu", "cuda", "mps") and (not index or (kind == "cuda" and index.isdecimal()))
    require(known, "training.device (--device)", "auto, cpu, cuda, cuda:N or mps", name)


def check_run_name(name: str, field: str = "run.name (--name)") -> None:
    """Raise `BadInput` naming `field` unless `name` can be the name of a folder and be printed as it is."""
    fits = 0 < len(name) <= _MAX_NAME and not name.startswith((".", "-")) and name == name.strip()
    harmless = clean(name) == name and not any(char in name for char in '/\\:*?"<>|')
    need = f'a folder name of 1 to {_MAX_NAME} characters, without / \\ : * ? " < > | or a leading . or -'
    require(fits and harmless, field, need, name)


def check_checkpoint_name(name: str) -> None:
    """Raise `BadInput` unless a person may keep a checkpoint as `name`."""
    check_run_name(name, "the checkpoint's name")
    if name in ("last", "previous", "best"):
        raise BadInput(f"the checkpoint's name: {name!r} is used by finetui itself; choose another one")
