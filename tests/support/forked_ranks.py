"""Several ranks on the CPU: forked from the tests' own process, which has imported torch, with Gloo between them."""

import os
import pickle
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from finetui.engine.distributed.rank_info import RankInfo
from finetui.engine.distributed.ranks import SINGLE, Ranks

PATIENCE = 150.0  # seconds until ranks that wait for one another are killed
TIMEOUT = 40.0  # seconds that one waits for another

# The first backward pass of a process starts a thread for each device. After `torch.compile` there is one more device,
# of no hardware, and no fork of a process with such threads can do a backward pass: so the first one is here.
torch.zeros(1, requires_grad=True).sum().backward()


def on_ranks(world: int, work: Callable[[Ranks], Any], folder: Path, timeout: float = TIMEOUT) -> list[Any]:
    """Return what `work(ranks)` returns on each of `world` ranks, by rank; with one it is a fork as well.

    What one raises is shown, and fails the test. `folder` is for the results.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = [folder / f"rank-{port}-{rank}" for rank in range(world)]
    pids = [_fork(rank, world, port, work, files[rank], timeout) for rank in range(world)]
    statuses = _waited(pids)
    assert not any(statuses), f"the ranks ended with {statuses}"
    return [pickle.loads(file.read_bytes()) for file in files]


def _fork(rank: int, world: int, port: int, work: Callable[[Ranks], Any], file: Path, timeout: float) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        torch.set_num_threads(1)
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world)}
        info = RankInfo(rank=rank, world=world, local_rank=rank, local_world=world)
        ranks = Ranks(info, timeout) if world > 1 else SINGLE
        found = work(ranks)
        ranks.close()
        file.write_bytes(pickle.dumps(found))
        status = 0
    except BaseException:  # noqa: BLE001  # the child ends here, whatever it was
        print(f"rank {rank}:", file=sys.stderr)
        traceback.print_exc(file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(status)  # nothing of pytest's may run in the child


def _waited(pids: list[int]) -> list[int]:
    deadline, left, found = time.monotonic() + PATIENCE, dict.fromkeys(pids), {}
    while left:
        for pid in list(left):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del left[pid]
                found[pid] = os.waitstatus_to_exitcode(status)
        if left and time.monotonic() > deadline:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    return [found[pid] for pid in pids]
