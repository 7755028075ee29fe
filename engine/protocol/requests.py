"""What an engine process is asked to do when it starts."""

from typing import Literal

import msgspec

from finetui.engine.protocol.config import RunConfig

ClassesBy = Literal["name", "position"]  # how the classes of data are found among those of a network


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
    scratch: str = ""


class HostRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine process is for: a run, or an inspection.

    `log` is the file that its output goes to until there is a run. A `detached` engine waits for nobody: it trains,
    and leaves. `resume` is the folder of a run, configured by `config`, that goes on from its last checkpoint, or from
    the one that is kept as `resume_from`.
    """

    config: RunConfig | None = None
    inspection: Inspection | None = None
    socket: str
    log: str
    autostart: bool = False
    detached: bool = False
    resume: str = ""
    resume_from: str = ""
