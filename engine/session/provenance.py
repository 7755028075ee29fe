"""Where a run's results come from, as the engine that trains it knows: journaled when it begins or goes on."""

import hashlib
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import nn

from finetui.engine.data import user_code
from finetui.engine.protocol.config import RunConfig, is_factory
from finetui.engine.protocol.description import DataDescription
from finetui.engine.protocol.paths import code_file
from finetui.engine.protocol.provenance import GitState, Provenance
from finetui.engine.runs.provenance import (
    GitLook,
    current_folder,
    driver_version,
    package_versions,
    shown_command,
    system,
)
from finetui.engine.setup.prepared import Prepared
from finetui.engine.version import __version__

_WAIT_SECONDS = 0.03  # that a run which is prepared waits for git


class ProvenanceLook:
    """Begins with what takes longest, git, while the run of `config` is prepared; `found` has all of it."""

    def __init__(self, config: RunConfig, model: nn.Module | None) -> None:
        self._command = tuple(sys.argv)  # a person's factory may change it
        self._model = model
        self._config = config
        self._git = GitLook(dict.fromkeys([current_folder(), *self._own_folders()]))

    def close(self) -> None:
        """End what was begun, where the run could not be prepared."""
        self._git.close()

    def found(self, prepared: Prepared) -> Provenance:
        """Return what is known of the run that was `prepared`."""
        return provenance_of(
            self._command,
            self._git.states(_WAIT_SECONDS),
            self._own_modules(),
            prepared.device,
            device_name=prepared.device_name(),
            data=_digest(prepared.description),
        )

    def _own_folders(self) -> list[str]:
        """Return the folders of a person's own code: of the network, of the data."""
        names = [name for name in (self._config.model.name, self._config.data.name) if is_factory(name)]
        files = [code_file(name) for name in names]
        if self._model is not None:
            module = sys.modules.get(type(self._model).__module__)
            files.append(Path(getattr(module, "__file__", None) or "."))
        return [str(file.absolute().parent) for file in files if file.is_file()]

    def _own_modules(self) -> list[str]:
        """Return the names of the modules of a person's own code that are loaded."""
        names = [name for name in (self._config.model.name, self._config.data.name) if is_factory(name)]
        own = ["__main__", *(name.rpartition(":")[0] for name in names)]
        own += [name for name in list(sys.modules) if name.startswith(f"{user_code.__name__}.")]
        return [*own, *([type(self._model).__module__] if self._model is not None else [])]


def provenance_of(
    command: Sequence[str],
    git: tuple[GitState, ...],
    own_modules: Iterable[str],
    device: torch.device,
    *,
    device_name: str,
    data: str = "",
) -> Provenance:
    """Return where a run comes from that was begun by `command` and trains on `device`.

    `own_modules` are those of a person's own code that are loaded, `data` is the digest of its images.
    """
    versions = {"finetui": __version__, **package_versions(own_modules)}
    on_gpu = device.type == "cuda"
    if on_gpu:
        versions |= {name: said for name in ("cuda", "hip") if (said := getattr(torch.version, name, None))}
    return Provenance(
        command=shown_command(command, os.environ),
        folder=current_folder(),
        git=git,
        packages=versions,
        system=system(),
        device=device_name,
        driver=driver_version() if on_gpu else "",
        data=data,
    )


def _digest(described: DataDescription | None) -> str:
    """Return one SHA-256 for the images of all parts; empty where one of them is not known."""
    if described is None or not described.parts or not all(part.digest for part in described.parts.values()):
        return ""
    lines = [f"{name} {part.count} {part.digest}" for name, part in sorted(described.parts.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
