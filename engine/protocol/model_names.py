"""Names of networks with the library in front that has them: `timm:NAME`, `hf:ORG/NAME`, `hf:./folder`."""

import re

_PATTERNS = {
    "timm": r"timm:[\w.\-]+",
    "hf": r"hf:(?:[\w.\-]+/[\w.\-]+|[~./].*)",
    "": r"[a-z][a-z0-9_]*",
}


def hub_of(model: str) -> str:
    """Return which library the name of a `model` is of, `timm` or `hf` (Hugging Face); empty: of none."""
    prefix, colon, name = model.partition(":")
    # `hf:name` may be a factory in a module of a person's own, which earlier versions took it for.
    known = prefix == "timm" or (prefix == "hf" and "/" in name)
    return prefix if colon and name and known else ""


def hub_name(model: str) -> str:
    """Return the name of a `model` without its library: `NAME`, `ORG/NAME`, `./folder`."""
    return model.partition(":")[2] if hub_of(model) else model


def is_model_name(name: str) -> bool:
    """Whether `name` has the form of a network's name; whether there is such a one, only its library can tell."""
    return re.fullmatch(_PATTERNS[hub_of(name)], name) is not None


def is_local(model: str) -> bool:
    """Whether `model` is a folder in the form of a Hugging Face repository: `hf:./folder`."""
    return hub_of(model) == "hf" and hub_name(model).startswith(("~", ".", "/"))
