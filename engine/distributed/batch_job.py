"""The job of a batch system that a process runs in, by the variables which that sets; nothing here loads torch."""

import os
import re
import signal
import socket
from collections.abc import Mapping

import msgspec

from finetui.engine.protocol.requests import LAUNCHER_VARIABLE

# What tells a job that its time is almost over, besides SIGTERM: SLURM's --signal, Grid Engine's -notify, LSF's -wa.
GRACE_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job: the batch `system` (or torchrun) and the `id` that it gave it.

    `ends` is when its time is over, in Unix seconds (0: nobody says). `restarts` counts how often the system, or
    torchrun, has started it anew; the id stays.
    """

    system: str
    id: str
    ends: float = 0.0
    restarts: int = 0


# The variables of the job's id, and of whether it was started anew (a count, or a word for yes).
_SYSTEMS = (
    ("SLURM", "SLURM_JOB_ID", "SLURM_RESTART_COUNT"),
    ("PBS", "PBS_JOBID", ""),
    ("LSF", "LSB_JOBID", "LSB_RESTART"),
    ("HTCondor", "CONDOR_JOB_ID", ""),
    ("Grid Engine", "JOB_ID", "RESTARTED"),
)


def job_from(environment: Mapping[str, str] = os.environ) -> Job | None:
    """Return the job that `environment` tells of, else the restarts that torchrun tells of; None without either."""
    again = _count(environment.get("TORCHELASTIC_RESTART_COUNT", ""))
    for system, id_name, restart_name in _SYSTEMS:
        job = environment.get(id_name, "")
        # JOB_ID alone could be anybody's.
        if not job or (system == "Grid Engine" and "SGE_TASK_ID" not in environment):
            continue
        restarts = _count(environment.get(restart_name, "")) + again
        end = environment.get("SLURM_JOB_END_TIME", "") if system == "SLURM" else ""
        ends = float(end) if re.fullmatch(r"\d{1,12}", end) else 0.0
        return Job(system=system, id=job, ends=ends, restarts=restarts)
    if "TORCHELASTIC_RUN_ID" not in environment or LAUNCHER_VARIABLE in environment:  # finetui's own is never restarted
        return None
    run = environment["TORCHELASTIC_RUN_ID"]
    # Without a rendezvous of their own all have the same id; then it is the agent that outlives a restart.
    run = f"{socket.gethostname()} {os.getppid()}" if run in ("", "none") else run
    return Job(system="torchrun", id=run, restarts=again)


def restarts_left(environment: Mapping[str, str] = os.environ) -> int:
    """Return how often torchrun would still start this process anew if it failed."""
    most = _count(environment.get("TORCHELASTIC_MAX_RESTARTS", ""))
    return max(most - _count(environment.get("TORCHELASTIC_RESTART_COUNT", "")), 0)


def _count(text: str) -> int:
    """Return the number of restarts that `text` tells: a number, or Y for one."""
    return int(text) if re.fullmatch(r"\d{1,9}", text) else int(text.upper() in ("Y", "YES"))
