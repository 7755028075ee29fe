"""Whether the library is there that a log needs."""

from collections.abc import Iterable
from importlib.util import find_spec

from finetui.engine.errors import BadInput


def check_loggers(names: Iterable[str]) -> None:
    """Raise `BadInput` where the library of one of the logs `names` is not installed; CSV needs none."""
    for name in names:
        if name != "csv" and find_spec(name) is None:
            raise BadInput(f"run.log (--log): {name} is not installed: pip install 'finetui[{name}]'")
