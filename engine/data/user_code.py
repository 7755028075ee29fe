"""A person's own code, named on the command line: `package.module:factory` or `path/to/file.py:factory`."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finetui.engine.errors import BadInput, reason_of
from finetui.engine.text import clean


def load_factory(name: str, option: str) -> Callable[..., Any]:
    """Import what `name` says and return its factory. This runs the person's code.

    A module is looked for in the current folder first, as `python -m` does. Raises `BadInput` naming `option` when
    there is no such file, module or callable, or when importing it fails.
    """
    where, _, attribute = name.rpartition(":")
    shown = clean(name, 200)
    try:
        module = _import_file(Path(where)) if where.endswith(".py") else _import_module(where)
    except Exception as error:
        # Whatever a person's module raises is theirs to read; the sentence says where it came from.
        raise BadInput(f"{option}: {shown} cannot be imported ({type(error).__name__}: {reason_of(error)})") from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise BadInput(f"{option}: {where} has no function or class {clean(attribute, 60)!r}")
    return factory  # type: ignore[no-any-return]


def _import_module(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return importlib.import_module(name)


def _import_file(path: Path) -> Any:
    path = path.expanduser().resolve(strict=True)
    # Workers of a DataLoader find the module again by its name, through the folder.
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError("not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
