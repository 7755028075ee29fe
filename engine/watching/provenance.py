"""Where a watched run comes from: found out beside the loop, which waits for none of it."""

import sys
import time
from pathlib import Path

from torch import nn

from finetui.engine.models.device import describe
from finetui.engine.protocol.provenance import Provenance
from finetui.engine.runs.provenance import GitLook, current_folder
from finetui.engine.session.provenance import provenance_of
from finetui.engine.watching.run_description import script
from finetui.engine.watching.saving import device_of

_LONGEST = 30.0  # seconds that git may take
_AT_THE_END = 0.03  # seconds that a loop waits for it that ends before


class LoopProvenance:
    """Begins to ask git about the folder that the loop runs in, and those of its script and of its `model`'s code."""

    def __init__(self, model: nn.Module | None) -> None:
        self._command = tuple(getattr(sys, "argv", ()))
        self._model = model
        self._git = GitLook(dict.fromkeys((current_folder(), *_own_folders(model))), wait=False)
        self._until = time.monotonic() + _LONGEST

    def ready(self) -> bool:
        """Whether all is known that will be. This waits for nothing."""
        return self._git.ready() or time.monotonic() > self._until

    def found(self, last: bool) -> Provenance:
        """Return what is known; the `last` time somewhat longer is waited for git."""
        device = device_of(self._model)
        states = self._git.states(_AT_THE_END if last else 0.0)
        modules = ["__main__", *_own_module(self._model)]
        return provenance_of(self._command, states, modules, device, device_name=describe(device))

    def forsake(self) -> None:
        """In a forked child: it is none of its business."""
        self._git.forsake()


def _own_module(model: nn.Module | None) -> list[str]:
    return [type(model).__module__] if model is not None else []


def _own_folders(model: nn.Module | None) -> list[str]:
    """Return the folders of a person's own code: none of packages that are installed."""
    modules = [sys.modules.get(name) for name in _own_module(model)]
    files = [Path(file) for file in (script(), *(getattr(module, "__file__", None) for module in modules)) if file]
    installed = {"site-packages", "dist-packages"}
    return [str(file.absolute().parent) for file in files if file.is_file() and not installed & set(file.parts)]
