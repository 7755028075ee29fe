"""A person's own code, named on the command line: `package.module:factory` or `path/to/file.py:factory`.

Its modules live beneath this one, each file's folder being a package whose name holds the path:
`finetui.engine.data.user_code._2fhome_2fme_2fdetr.engine` is `/home/me/detr/engine.py`. So a file is executed once,
however it is reached; two folders may each have a `utils.py`; a file named as a library takes nobody's place; and a
process that unpickles an object of such a module imports this one first, which finds the file.

What these modules import is looked for in their own folder first, and only they get that: each has an `__import__` of
its own. A folder on `sys.path` would serve everybody, also what torch imports an hour later, and an installed `utils`
that is loaded already would be taken for theirs. Names of the standard library and of the libraries below stay what
they are, and so does a module's own: `timm.py` says `import timm`.
"""

import builtins
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from finetui.engine.errors import BadInput
from finetui.engine.text import clean

__path__: list[str] = []  # with it, the import system looks for modules beneath this one
_PREFIX = f"{__name__}."
# `test` is the standard library's too, and nobody means that one.
_LIBRARIES = (sys.stdlib_module_names - {"test"}) | {"finetui", "numpy", "PIL", "torch", "torchvision"}


def load_factory(name: str, option: str) -> Callable[..., Any]:
    """Import what `name` says, unless it is already, and return its factory. This runs the person's code.

    A module is looked for in the current folder first, as `python -m` does. Raises `BadInput` naming `option` when
    there is no such file, module or callable, or when importing it fails.
    """
    where, _, attribute = name.rpartition(":")
    if where.endswith(".py") and not Path(where).exists():
        raise BadInput(f"{option}: {name} cannot be imported: there is no file {where}")
    importlib.invalidate_caches()  # a file may have been written since the folder was last listed
    try:
        module = _import_file(Path(where)) if where.endswith(".py") else _module(str(Path.cwd()), where)
    except (Exception, SystemExit) as error:
        # Whatever a person's module raises is theirs to read; the sentence says where it came from.
        reason = clean(re.sub(rf"{re.escape(_PREFIX)}\w+\.", "", str(error)), 300)
        raise BadInput(f"{option}: {name} cannot be imported ({type(error).__name__}: {reason})") from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise BadInput(f"{option}: {where} has no function or class {attribute!r}")
    return factory  # type: ignore[no-any-return]


@contextmanager
def own_arguments(program: str) -> Iterator[None]:
    """Give a person's code the command line of a script that was started without options."""
    before, sys.argv = sys.argv, [program]
    try:
        yield
    finally:
        sys.argv = before


def _import_file(path: Path) -> ModuleType:
    path = path.expanduser().resolve(strict=True)
    root, dotted = path.parent, path.stem
    while root != root.parent and (root / "__init__.py").is_file():
        root, dotted = root.parent, f"{root.name}.{dotted}"
    if root != path.parent and _imports_from(path, dotted.partition(".")[0]):
        return _module(str(root), dotted)
    folder, name = path.parent, path.stem
    found = PathFinder.find_spec(name, [str(folder)])
    if found is None or found.origin != str(path):  # `a.b.py`, or `a.py` beside a folder `a`
        name = _escaped(path.name)
    elif _is_loaded(name, str(path)):
        return sys.modules[name]
    return importlib.import_module(f"{_package(folder)}.{name}")


def _module(folder: str, name: str) -> ModuleType:
    """Import the module itself, where `import a.b` means `a`."""
    return _import(folder, name, fromlist=("__name__",))


def _imports_from(path: Path, package: str) -> bool:
    """Whether a file is importable as a module of its package alone, by what it imports; others run as a script."""
    imports = rf"^\s*(from\s+\.|(from|import)\s+{re.escape(package)}\b)"
    return re.search(imports, path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE) is not None


def _import(
    folder: str,
    name: str,
    globals: Mapping[str, object] | None = None,  # noqa: A002  # as `__import__` has them
    locals: Mapping[str, object] | None = None,  # noqa: A002
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """Do as `__import__` does, for the code in `folder`."""
    top = name.partition(".")[0]
    if level or not _is_own(folder, top, (globals or {}).get("__file__")):
        return builtins.__import__(name, globals, locals, fromlist or (), level)
    package = _package(folder)
    if fromlist:
        return builtins.__import__(f"{package}.{name}", globals, locals, fromlist)
    importlib.import_module(f"{package}.{name}")
    return sys.modules[f"{package}.{top}"]


def _is_own(folder: str, top: str, importer: object = None) -> bool:
    """Whether `import top` in the file `importer` means what lies in `folder`, and `sys.path` does not lead to that."""
    if top in _LIBRARIES:
        return False
    found = PathFinder.find_spec(top, [folder])
    if found is None or found.origin == importer is not None:
        return False
    if f"{_package(folder)}.{top}" in sys.modules:
        return True
    other = PathFinder.find_spec(top)
    if found.origin is None:  # a folder without `__init__.py`: any other package or module goes before it
        return top not in sys.modules and (other is None or other.origin is None)
    if top in sys.modules:
        return not _is_loaded(top, found.origin)
    return other is None or other.origin != found.origin


def _is_loaded(name: str, file: str) -> bool:
    """Whether a script that lies beside `file` has imported that as `name`."""
    loaded = getattr(sys.modules.get(name), "__file__", None)
    return loaded is not None and os.path.realpath(loaded) == os.path.realpath(file)


def _package(folder: str | Path) -> str:
    return _PREFIX + _escaped(str(folder))


def _escaped(name: str) -> str:
    return re.sub(rb"[^A-Za-z0-9]", lambda found: b"_%02x" % ord(found[0]), os.fsencode(name)).decode()


def _unescaped(name: str) -> str:
    return os.fsdecode(re.sub(rb"_([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), name.encode()))


class _OwnLoader(SourceFileLoader):
    """Executes a file with an `__import__` that knows its folder."""

    def exec_module(self, module: ModuleType) -> None:
        folder = _folder_of(module.__name__)
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": partial(_import, folder)}
        with own_arguments(self.path):
            super().exec_module(module)


def _folder_of(name: str) -> str:
    """Return the folder whose package the module `name` is in."""
    return _unescaped(name.removeprefix(_PREFIX).partition(".")[0])


class _Finder(MetaPathFinder):
    """Finds the modules beneath this one."""

    def find_spec(self, name: str, path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        parent, _, last = name.rpartition(".")
        if not name.startswith(_PREFIX):
            owner = getattr(sys.modules.get(parent), "__name__", "")
            return _same(name, f"{owner}.{last}") if owner.startswith(_PREFIX) and owner != parent else None
        if parent == __name__:
            if not Path(_unescaped(last)).is_dir():
                return None
            folder = ModuleSpec(name, None, is_package=True)
            folder.submodule_search_locations = [_unescaped(last)]
            return folder
        spec = PathFinder.find_spec(name, path)
        if spec is None and last.endswith("_2epy") and path:
            spec = spec_from_file_location(name, Path(path[0]) / _unescaped(last))
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _OwnLoader(spec.loader.name, spec.loader.path)
        return spec


class _LastFinder(MetaPathFinder):
    """Finds modules for a person's code that does not say `import`: `importlib.import_module`, or `torch.load`.

    It is asked when nobody else has a module of that name, and looks at who asks: some caller's folder has it.
    """

    def find_spec(self, name: str, path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        frame: FrameType | None = sys._getframe(1) if path is None else None
        while frame is not None:
            caller = str(frame.f_globals.get("__name__"))
            if caller.startswith(_PREFIX):
                folder = _folder_of(caller)
                return _same(name, f"{_package(folder)}.{name}") if _is_own(folder, name) else None
            frame = frame.f_back
        return None


def _same(name: str, own: str) -> ModuleSpec | None:
    return ModuleSpec(name, _SecondName(own))


class _SecondName(Loader):
    """Gives a module a second name, without executing it again."""

    def __init__(self, own: str) -> None:
        self._own = own

    def create_module(self, _spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._own)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


sys.meta_path.insert(0, _Finder())
sys.meta_path.append(_LastFinder())
