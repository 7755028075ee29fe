"""The engine process: `python -m finetui.engine.process.host`, a session leader of its own, steered through a socket.

It reads one JSON object, a `HostRequest`, from standard input. Torch is imported only after the socket is
there, so that a dashboard can show that, too. Of a run that several processes train, it starts these, as torchrun
does; the first of them has the socket.
"""

import os
import signal
import sys
from pathlib import Path

import msgspec

from finetui.engine.distributed.batch_job import GRACE_SIGNALS
from finetui.engine.distributed.rank_info import RankInfo, rank_info_from
from finetui.engine.errors import BadInput, FinetuiError, RankLost
from finetui.engine.machine.watch import MachineWatch
from finetui.engine.process.endpoint import Endpoint
from finetui.engine.process.first_rank import leading, leave
from finetui.engine.process.follower import follow
from finetui.engine.process.memory import keep_freed
from finetui.engine.process.signals import DOUBLED_SECONDS, EndSignals
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.events import Phase, State
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.protocol.requests import REQUEST_VARIABLE, HostRequest
from finetui.engine.runs.begun_runs import JobNote
from finetui.engine.runs.folder import RunFolder


class Host:
    """Runs an engine behind a socket until there is nothing left to do for anybody; `info` is that of a first rank."""

    def __init__(self, request: HostRequest, info: RankInfo = RankInfo()) -> None:  # noqa: B008  # immutable
        self._request, self._info = request, info
        self._commands = CommandQueue()
        self._endpoint = Endpoint(
            self._commands,
            # Nothing is lost with an inspection: there is no need to wait for anybody.
            request.config.run.linger_minutes if request.config is not None else 0.0,
            path=Path(request.socket),
            log=Path(request.log),
            detached=request.detached,
        )
        several = info.world > 1
        self._signals = EndSignals(
            [signal.SIGTERM, *(GRACE_SIGNALS if several else ())],
            self._commands,
            self._endpoint.remove_socket,
            doubled_seconds=DOUBLED_SECONDS if several else 0.0,
        )

    def run(self) -> int:
        """Serve; return the exit status of the process: as the command line's, 143 after a SIGTERM."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with self._signals, self._endpoint:
            self._endpoint.publish(Phase(name="Importing PyTorch"))
            try:
                self._work()
            except Exception as error:
                if self._signals.caught is None:
                    self._endpoint.await_first_client()
                if not isinstance(error, FinetuiError):
                    raise
                print(f"finetui: {error}", file=sys.stderr, flush=True)
                return self._status_of(error)
        self._endpoint.remove_early_log()  # nothing went wrong
        return self._signals.status or 0

    def _status_of(self, error: FinetuiError) -> int:
        if self._signals.status is not None and not isinstance(error, RankLost):
            return self._signals.status
        return 2 if isinstance(error, BadInput) else 1

    def _work(self) -> None:
        if self._request.inspection is not None:
            from finetui.engine.inspection.engine import InspectionEngine

            InspectionEngine(self._request.inspection, self._commands, [self._endpoint.publish]).run(self._stay)
        elif self._request.config is not None:
            with MachineWatch(self._endpoint.publish) as machine:
                self._serve(self._request.config, machine)

    def _serve(self, config: RunConfig, machine: MachineWatch) -> None:
        from finetui.engine.session.serve import serve

        with leading(self._info, self._request, self._signals, self._endpoint.remove_socket) as ranks:
            serve(
                config,
                self._commands,
                [self._signals.note, self._endpoint.publish, JobNote(config)],
                autostart=self._request.autostart,
                stay=self._stay,
                on_journal=self._endpoint.follow,
                socket=self._endpoint.path,
                resume=RunFolder(Path(self._request.resume)) if self._request.resume else None,
                resume_from=self._request.resume_from,
                machine=machine,
                ranks=ranks,
            )

    def _stay(self, state: State) -> bool:
        return self._signals.caught is None and self._endpoint.stay(state)


def _launch(request: HostRequest) -> int:
    """Start the processes that `request` wants, and end as they do; return the exit status where they do not begin."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from finetui.engine.distributed.launcher import launch

    command = [sys.executable, "-P", "-m", "finetui.engine.process.host"]
    try:
        launch(command, request, ["SIGTERM", *(number.name for number in GRACE_SIGNALS)])
    except FinetuiError as error:
        print(f"finetui: {error}", file=sys.stderr, flush=True)
        return 1


def main() -> int:
    """Run the engine that standard input asks for, or one of the processes that another engine has started for it."""
    told = os.environ.pop(REQUEST_VARIABLE, "")
    request = msgspec.json.decode(told or sys.stdin.buffer.read(), type=HostRequest)
    sys.argv = list(request.command)  # it stands for that command
    if not told and request.config is not None and request.config.training.processes > 1:
        return _launch(request)
    info = rank_info_from() if told else RankInfo()
    if not info.is_first:
        return leave(info, follow(info))
    keep_freed()
    return leave(info, Host(request, info).run())


if __name__ == "__main__":
    sys.exit(main())
