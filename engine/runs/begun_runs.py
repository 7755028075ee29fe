"""Which run a job has begun, so that the same job, started anew by its batch system or by torchrun, goes on with it."""

import sys
from pathlib import Path

import msgspec

from finetui.engine.distributed.batch_job import Job, job_from
from finetui.engine.errors import reason_of
from finetui.engine.protocol.config import RunConfig, with_overrides
from finetui.engine.protocol.events import AnyEvent, RunStarted
from finetui.engine.runs.folder import RunFolder, run_folders


class _Beginning(msgspec.Struct, frozen=True, kw_only=True):
    """What a run's folder keeps of the job that began it: that job, and by which settings (their SHA-256)."""

    system: str
    id: str
    settings: str


_decoder = msgspec.json.Decoder(_Beginning)


class JobNote:
    """A sink that notes in the folder of the first run that begins that it is what this job makes of `config`."""

    def __init__(self, config: RunConfig) -> None:
        job = job_from()
        self._beginning = None if job is None else _beginning(job, config)

    def __call__(self, event: AnyEvent) -> None:
        """Note it with the event that tells of the run's folder."""
        if isinstance(event, RunStarted) and self._beginning is not None:
            path, content = RunFolder(Path(event.path)).job, msgspec.json.encode(self._beginning)
            self._beginning = None
            try:
                path.write_bytes(content)
            except OSError as error:  # training is worth more
                print(f"finetui: a restarted job will not find the run: {reason_of(error)}", file=sys.stderr)


def begun_run(config: RunConfig) -> RunFolder | None:
    """Return the run that this job has begun with `config` and has a checkpoint of; None unless it is started anew.

    Raises `BadInput` where the folder of all runs cannot be read.
    """
    job = job_from()
    if job is None or job.restarts == 0:
        return None
    wanted = _beginning(job, config)
    folders = run_folders(Path(config.run.runs_dir))
    return next((folder for folder in folders if _read(folder) == wanted and folder.last.is_file()), None)


def _beginning(job: Job, config: RunConfig) -> _Beginning:
    import hashlib  # costs 4 MB, OpenSSL's, needed only here

    # As many processes as there are this time: nodes may be fewer after a fault.
    settings = msgspec.json.encode(with_overrides(config, {("training", "processes"): 1}))
    return _Beginning(system=job.system, id=job.id, settings=hashlib.sha256(settings).hexdigest())


def _read(folder: RunFolder) -> _Beginning | None:
    try:
        return _decoder.decode(folder.job.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # of no job, or not readable
        return None
