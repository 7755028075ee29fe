"""Starts the processes of a run on this machine, as `torchrun --standalone` does: by the elastic agent of PyTorch."""

import logging
import os
import sys
import uuid
from collections.abc import Sequence
from typing import Any, NoReturn

import msgspec
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from finetui.engine.errors import FinetuiError
from finetui.engine.protocol.requests import LAUNCHER_VARIABLE, REQUEST_VARIABLE, HostRequest

_SAVING_SECONDS = 120  # that they have to save and leave, once one of them has failed or all shall end
_FAILED = 1


def launch(command: Sequence[str], request: HostRequest, signals: Sequence[str]) -> NoReturn:
    """Run `command` in as many processes as the `request` wants, which they all get, and end with their exit status.

    That is 0 when all have ended well, 128 + n after a signal n of `signals` (names), which all of them are sent, and
    else that of rank 0 or, where it has none of its own, 1. Raises `FinetuiError` where they cannot be started.
    """
    assert request.config is not None, "what processes do together is training"
    processes = request.config.training.processes
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(cores // processes, 1)))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # or each lost connection is a page of addresses
    os.environ[REQUEST_VARIABLE] = msgspec.json.encode(request).decode()
    os.environ[LAUNCHER_VARIABLE] = str(os.getpid())
    # Not every version of PyTorch that finetui runs with has them.
    recent: dict[str, Any] = {"signals_to_handle": ",".join(signals), "shutdown_timeout": _SAVING_SECONDS}
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        **{name: value for name, value in recent.items() if name in LaunchConfig.__dataclass_fields__},
    )
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # the ranks say better what went wrong
    status = 0
    try:
        elastic_launch(config, command[0])(*command[1:])
    except SignalException as error:
        status = 128 + int(error.sigval)
    except ChildFailedError as error:
        own = error.failures.get(0)
        if own is not None and error.get_first_failure()[0] == 0 and own.exitcode < 0:  # it could not say anything
            print(f"finetui: rank 0 (process {own.pid}) was killed by signal {-own.exitcode}", file=sys.stderr)
        status = own.exitcode if own is not None and own.exitcode > 0 else _FAILED
    except (OSError, RuntimeError) as error:
        raise FinetuiError(f"{processes} processes could not be started: {error}") from error
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # to take down all that torch has loaded takes the interpreter seconds
