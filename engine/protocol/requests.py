"""What an engine process is asked to do when it starts."""

import sys
from typing import Literal

import msgspec

from finetui.engine.protocol.config import RunConfig


def _command_line() -> tuple[str, ...]:
    """Return that of this process, as text that can be sent."""
    return tuple(argument.encode(errors="replace").decode() for argument in sys.argv)


ClassesBy = Literal["name", "position"]  # how the classes of data are found among those of a network


class BareWeights(msgspec.Struct, frozen=True, kw_only=True):
    """What a file of weights does not say, where it takes the place of a checkpoint: the `classes` in their order
    (empty: those of the data, or numbers), and the input as in `ModelConfig`.
    """

    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: int = 0
    crop: int = 0
    interpolation: str = ""


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that questions are to be answered about; the fields are those of `open_checkpoint`.

    `scratch` is the file that predictions are written to.
    """

    checkpoint: str
    data: str | None = None
    data_dir: str | None = None
    model: str = "lenet"
    device: str = "auto"
    classes_by: ClassesBy = "name"
    bare: BareWeights = BareWeights()
    scratch: str = ""


class HostRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine process is for: a run, or an inspection.

    `log` is the file that its output goes to until there is a run. A `detached` engine waits for nobody: it trains,
    and leaves. `resume` is the folder of a run, configured by `config`, that goes on from its last checkpoint, or from
    the one that is kept as `resume_from`. `json`: what happens is printed as JSON, where it is printed.
    `replay` is the folder of a run that is run again from its journal instead, as `name`. `command` is the command line
    that wants it.
    """

    config: RunConfig | None = None
    inspection: Inspection | None = None
    socket: str = ""
    log: str = ""
    autostart: bool = False
    detached: bool = False
    resume: str = ""
    resume_from: str = ""
    json: bool = False
    replay: str = ""
    name: str = ""
    command: tuple[str, ...] = msgspec.field(default_factory=_command_line)


REQUEST_VARIABLE = "FINETUI_REQUEST"  # where processes of one run that were started together find what they are for
LAUNCHER_VARIABLE = "FINETUI_LAUNCHER"  # and the process that has started them
