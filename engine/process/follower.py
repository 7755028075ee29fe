"""A process of several that train one run, other than the first: no socket, no commands, a log of its own."""

import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import BinaryIO

import msgspec

from finetui.engine.distributed.batch_job import GRACE_SIGNALS
from finetui.engine.distributed.rank_info import RankInfo
from finetui.engine.errors import BadInput, FinetuiError
from finetui.engine.process.memory import keep_freed
from finetui.engine.process.parent_watch import ParentWatch
from finetui.engine.process.signals import DOUBLED_SECONDS, SignalListener
from finetui.engine.protocol.requests import HostRequest
from finetui.engine.runs.folder import RunFolder


class _Output:
    """Where the process prints to: a file without a name, until there is the run's folder with one for this rank."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        early = tempfile.TemporaryFile()  # noqa: SIM115  # as long as this is
        self._early: BinaryIO | None = early
        self._real = os.dup(2)
        self._lead_to(early.fileno())

    def settle(self, folder: Path) -> None:
        """Print to the log of this rank in `folder`; where that cannot be, as on a node without it, to nowhere."""
        path, early = RunFolder(folder).rank_log(self._rank), self._early
        self._early = None
        with (path if os.access(path.parent, os.W_OK) else Path(os.devnull)).open("ab") as log:
            sys.stdout.flush()
            sys.stderr.flush()
            if early is not None:
                with early:
                    early.seek(0)
                    shutil.copyfileobj(early, log)
                log.flush()
            self._lead_to(log.fileno())

    def reveal(self) -> None:
        """Show what nobody could see, since there was no folder yet."""
        if self._early is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            self._lead_to(self._real)
            self._early.seek(0)
            sys.stderr.write(self._early.read().decode(errors="replace"))
            sys.stderr.flush()

    def _lead_to(self, descriptor: int) -> None:
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)


class _Signals(SignalListener):
    """While entered, the first signal is told rank 0, which has all ranks stop; another one ends the process."""

    def __init__(self) -> None:
        super().__init__([signal.SIGTERM, signal.SIGINT, *GRACE_SIGNALS])
        self.caught: int | None = None
        self._caught_at = 0.0

    def ask(self, number: int) -> None:
        """Do as if the signal `number` had come, where none has."""
        if self.caught is None:
            self.caught, self._caught_at = number, time.monotonic()

    def _listen(self) -> None:
        while (number := self._next()) is not None:
            if number not in self._numbers:
                continue
            if self.caught is None:
                self.ask(number)
            elif time.monotonic() - self._caught_at >= DOUBLED_SECONDS:
                os._exit(128 + self.caught)


def follow(info: RankInfo) -> int:
    """Train as the rank that `info` tells of what rank 0 says, and return the exit status: as the command line's.

    Nothing is printed, but into the run's folder; and what fails before there is one.
    """
    keep_freed()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    output, signals = _Output(info.rank), _Signals()
    try:
        with signals, ParentWatch(lambda: signals.ask(signal.SIGTERM)):
            _take_part(info, output, signals)
    except FinetuiError as error:
        print(f"finetui: rank {info.rank}: {error}", file=sys.stderr, flush=True)
        status = 2 if isinstance(error, BadInput) else 1
    except Exception:  # noqa: BLE001  # the session has told the others
        traceback.print_exc(file=sys.stderr)
        status = 1
    else:
        return 0 if signals.caught is None else 128 + signals.caught
    if status == 1:  # what cannot be used, rank 0 says
        output.reveal()
    return status if signals.caught is None else 128 + signals.caught


def _take_part(info: RankInfo, output: _Output, signals: _Signals) -> None:
    from finetui.engine.distributed.heartbeat import Heartbeat
    from finetui.engine.distributed.ranks import Ranks
    from finetui.engine.protocol.queues import CommandQueue
    from finetui.engine.session.replay import replay_run
    from finetui.engine.session.serve import serve

    def give_up(reason: str) -> None:
        print(f"finetui: rank {info.rank}: {reason}", file=sys.stderr, flush=True)
        output.reveal()
        os._exit(1)

    ranks = Ranks.from_environment()
    ranks.on_folder = output.settle
    with Heartbeat(info, give_up=give_up, asked_to_end=lambda: signals.caught or 0) as heartbeat:
        ranks.heartbeat = heartbeat
        told = heartbeat.await_task()
        if not told:
            return
        task = msgspec.json.decode(told, type=HostRequest)
        if task.replay:
            replay_run(RunFolder(Path(task.replay)), name=task.name, ranks=ranks)
            return
        assert task.config is not None, "what ranks do together is training"
        resume = RunFolder(Path(task.resume)) if task.resume else None
        serve(
            task.config,
            CommandQueue(),
            [],
            autostart=task.autostart,
            stay=lambda _state: True,
            resume=resume,
            resume_from=task.resume_from,
            ranks=ranks,
        )
