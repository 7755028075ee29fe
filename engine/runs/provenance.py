"""What a run's provenance is made of that needs no torch: the command line, git, packages, the driver."""

import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import TypeAlias

from finetui.engine.protocol.provenance import GitState
from finetui.engine.text import clean

_SECRET = r"(?:api[-_]?key|access[-_]?key|token|secret|passw(?:or)?d|passphrase|credentials?|auth)"
_NAMES_SECRET = re.compile(rf"^-{{0,2}}[\w.-]*{_SECRET}[\w.-]*$", re.IGNORECASE)
_GIVES_SECRET = re.compile(rf"^(-{{0,2}}[\w.-]*{_SECRET}[\w.-]*[=:]).+", re.IGNORECASE | re.DOTALL)
_SECRET_VARIABLE = re.compile(rf"{_SECRET}|_key$", re.IGNORECASE)
_IN_ADDRESS = re.compile(r"(\w+://[^/\s:@]*):[^/\s@]+@")
# Tokens that say what they are: of Hugging Face, GitHub, GitLab, OpenAI, AWS.
_TOKEN = re.compile(r"\b(?:hf_|gh[opsu]_|github_pat_|glpat-|sk-|AKIA)[A-Za-z0-9_-]{12,}")
_SHORTEST_SECRET = 6  # a variable's value that is shorter may be in any word
_HIDDEN = "***"
_MOST_ARGUMENTS, _LONGEST_ARGUMENT = 200, 1000
_MOST_PACKAGES = 100
_FILTERS_SECONDS = 1.0  # that git may take to say which filters there are, a few milliseconds as a rule
_DRIVERS = ("/sys/module/nvidia/version", "/sys/module/amdgpu/version")
# No file of the repository says what is run: not its hooks, nor its monitor; for filters see `_FILTERS`.
_GIT = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
_ALWAYS = ("torch", "torchvision", "numpy")


def shown_command(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return a command line as it may be kept: without its program's folder, and without secrets.

    These are the values of options that are named like one, what variables of the `environment` that are named like one
    hold, passwords in addresses, and tokens that are known by their beginning.
    """
    values = [v for name, v in environment.items() if _SECRET_VARIABLE.search(name) and len(v) >= _SHORTEST_SECRET]
    shown, hidden = [], False
    for place, argument in enumerate(arguments[:_MOST_ARGUMENTS]):
        if hidden and not argument.startswith("-"):
            shown.append(_HIDDEN)
            hidden = False
            continue
        hidden = place > 0 and argument.startswith("-") and _NAMES_SECRET.match(argument) is not None
        shown.append(clean(_without_secrets(argument if place else _program(argument), values), _LONGEST_ARGUMENT))
    return tuple(shown)


def _without_secrets(argument: str, values: Iterable[str]) -> str:
    for value in values:
        argument = argument.replace(value, _HIDDEN)
    argument = _GIVES_SECRET.sub(rf"\1{_HIDDEN}", argument)
    return _TOKEN.sub(_HIDDEN, _IN_ADDRESS.sub(rf"\1:{_HIDDEN}@", argument))


def _program(path: str) -> str:
    """Return the name of the program; `finetui` where it was started as `python -m finetui`."""
    file = Path(path)
    return "finetui" if file.parts[-2:] == ("finetui", "__main__.py") else file.name


class GitLook:
    """Asks git, in processes of its own from the start, which commit each of `folders` is at; reads it with `states`.

    It is no fault where there is no git, no repository, or no commit yet. One that does not `wait` takes no time from
    whoever makes it: `ready` has to be called now and then, from the same thread.
    """

    def __init__(self, folders: Iterable[str], *, wait: bool = True) -> None:
        self._begun = [(folder, self._ask(folder, *_HEAD), self._ask(folder, *_FILTERS)) for folder in folders]
        self._asked: list[tuple[_Process, _Process]] = []
        if wait:
            self._ask_for_changes(time.monotonic() + _FILTERS_SECONDS)

    def _ask_for_changes(self, deadline: float) -> None:
        self._asked += [
            (head, None if _has_filters(filters, deadline) else self._ask(folder, *_STATUS))
            for folder, head, filters in self._begun
        ]
        self._begun = []

    def ready(self) -> bool:
        """Whether all is answered; ask what comes next where it is not. This waits for nothing."""
        if any(filters is not None and filters.poll() is None for _, _, filters in self._begun):
            return False
        self._ask_for_changes(0.0)
        return all(process is None or process.poll() is not None for pair in self._asked for process in pair)

    @staticmethod
    def _ask(folder: str, *question: str) -> "_Process":
        try:
            return subprocess.Popen(
                [*_GIT, "-C", folder, *question],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
            )
        except (OSError, ValueError):  # there is no git, or nothing can be started
            return None

    def states(self, seconds: float) -> tuple[GitState, ...]:
        """Return what git has said by now, or says within `seconds`, once for each repository."""
        deadline = time.monotonic() + seconds
        self._ask_for_changes(deadline)
        found: dict[str, GitState] = {}
        for head, status in self._asked:
            lines = _answer(head, deadline).splitlines()
            changes = _answer(status, deadline, none="?")
            if len(lines) == 2 and re.fullmatch(r"[0-9a-f]{40,64}", lines[1]):
                changed = None if changes == "?" else bool(changes)
                found.setdefault(lines[0], GitState(folder=clean(lines[0], 4096), commit=lines[1], changed=changed))
        self._asked = []
        return tuple(found.values())

    def close(self) -> None:
        """End what git was asked and nobody wants to know any more."""
        self.states(0.0)

    def forsake(self) -> None:
        """In a forked child: what was begun is the parent's."""
        for process in [
            *(one for _, *pair in self._begun for one in pair),
            *(one for pair in self._asked for one in pair),
        ]:
            if process is not None and process.stdout is not None:
                process.stdout.close()
                process.returncode = 0
        self._begun, self._asked = [], []


_Process: TypeAlias = "subprocess.Popen[bytes] | None"
_HEAD = ("rev-parse", "--show-toplevel", "HEAD")
# `git status` runs the filters that its files ask for, by commands of the configuration: the person's own may be run.
_FILTERS = ("config", "--show-scope", "--get-regexp", r"^filter\.")
# One line is enough to know; what git does not track is no change.
_STATUS = ("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")


def _has_filters(asked: _Process, deadline: float) -> bool:
    """Whether the repository has filters of its own; also where git does not say so: an old one, or none."""
    lines = _answer(asked, deadline).splitlines()
    # 1: there are none at all.
    return (
        asked is None or asked.returncode not in (0, 1) or any(line.startswith(("local", "worktree")) for line in lines)
    )


def _answer(asked: _Process, deadline: float, none: str = "") -> str:
    """Return what a process prints until `deadline`; `none` where it has none by then, fails, or cannot be heard."""
    if asked is None:
        return none
    try:
        left = max(deadline - time.monotonic(), 0.0) if asked.poll() is None else 1.0
        output, _ = asked.communicate(timeout=left)
    except (subprocess.TimeoutExpired, OSError):  # waiting itself may fail: no run ends for what is only noted
        asked.kill()
        asked.communicate()
        return none
    return os.fsdecode(output) if asked.returncode == 0 else none


def package_versions(own: Iterable[str] = ()) -> dict[str, str]:
    """Return the versions of Python, of what every run uses, and of the packages that the modules `own` import.

    `own` are names in `sys.modules`.
    """
    found = {"python": platform.python_version()}
    for name in dict.fromkeys((*_ALWAYS, *_imported_by(own))):
        version = _version(name)
        if version:
            found[name] = version
    return found


def _imported_by(own: Iterable[str]) -> list[str]:
    """Return the top-level packages, not of Python itself, whose modules and objects the modules `own` hold."""
    names: dict[str, None] = {}
    for name in own:
        for value in list(vars(sys.modules[name]).values()) if name in sys.modules else []:
            module = getattr(value, "__name__", "") if issubclass(type(value), type(sys)) else _module_of(value)
            names.setdefault(module.partition(".")[0])
    found = [name for name in names if name in sys.modules and name not in sys.stdlib_module_names]
    return [name for name in found if not name.startswith("_")][:_MOST_PACKAGES]


def _module_of(value: object) -> str:
    # An instance is not asked: it may answer whatever it likes, as one that is made when it is first used.
    kind = type(value)
    asked = value if kind in (FunctionType, BuiltinFunctionType) or issubclass(kind, type) else kind
    module = getattr(asked, "__module__", "")
    return module if isinstance(module, str) else ""


def _version(package: str) -> str:
    """Return the version of a package, as it says itself where it is loaded, else as it was installed; else nothing."""
    said = getattr(sys.modules.get(package), "__version__", None)
    if said is None:
        with suppress(Exception):  # a damaged installation: whatever reads it raises whatever it likes
            said = metadata.version(package)
    return clean(str(said), 60) if said is not None else ""


def driver_version() -> str:
    """Return the version of the GPU's driver, as Linux tells; empty elsewhere, and where there is none."""
    for path in _DRIVERS:
        with suppress(OSError, UnicodeDecodeError):
            return clean(Path(path).read_text(encoding="utf-8").strip(), 60)
    return ""


def current_folder() -> str:
    """Return the folder that the process is in; empty where somebody has deleted it."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def system() -> str:
    """Return the system's name, its version and the kind of processor."""
    return f"{platform.system()} {platform.release()} {platform.machine()}"
