"""The command line in processes that train one run together: those that it starts itself, torchrun's and srun's."""

import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

import msgspec

from finetui.engine.distributed.batch_job import GRACE_SIGNALS
from finetui.engine.distributed.rank_info import rank_info_from
from finetui.engine.distributed.slurm import adopt_srun
from finetui.engine.process.first_rank import leave, release
from finetui.engine.process.follower import follow
from finetui.engine.protocol.requests import REQUEST_VARIABLE, HostRequest

# The commands that train, which several processes do together; whatever else is asked, each does for itself.
_TRAINING = ("train", "finetune", "resume", "extend", "branch", "replay")


def run_as_rank(run: Callable[[], int], guarded: Callable[[Callable[[], int]], int]) -> int:
    """Do what this process is for, and return the exit status: `run`, unless it is one of several that train together.

    Of these the first reads the command line, for all; the others are told by it what to do. `guarded` says what goes
    wrong with the work that it is given, and returns the exit status. Raises `BadInput` where a launcher's variables
    cannot be true.
    """
    adopt_srun(os.environ)
    info = rank_info_from()
    told = os.environ.pop(REQUEST_VARIABLE, "")
    together = told or (info.world > 1 and len(sys.argv) > 1 and sys.argv[1] in _TRAINING)
    if not together:
        return run()
    if not info.is_first:
        return leave(info, follow(info))
    status = guarded(lambda: _train(told)) if told else run()
    release(info)  # of what has finished already, or was only asked for its options
    return leave(info, status)


def _train(request: str) -> int:
    from finetui.tui.cli.headless import train_headless
    from finetui.tui.cli.replaying import replay_here

    task = msgspec.json.decode(request, type=HostRequest)
    sys.argv = list(task.command)  # it is done for that command
    return replay_here(task) if task.replay else train_headless(task)


def launch(task: HostRequest) -> NoReturn:
    """Train `task` in as many processes as it wants, which this one starts, and end with their exit status."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from finetui.engine.distributed.launcher import launch as launch_all

    command = [sys.executable, "-P", "-m", "finetui"]
    launch_all(command, task, ["SIGTERM", "SIGINT", *(number.name for number in GRACE_SIGNALS)])
