"""The engine process: `python -m finetui.engine.process.host`, a session leader of its own, steered through a socket.

It reads one JSON object, a `HostRequest`, from standard input. Torch is imported only after the socket is
there, so that a dashboard can show that, too.
"""

import signal
import sys
from pathlib import Path

import msgspec

from finetui.engine.errors import BadInput, FinetuiError
from finetui.engine.machine.watch import MachineWatch
from finetui.engine.process.endpoint import Endpoint
from finetui.engine.process.memory import keep_freed
from finetui.engine.process.signals import EndSignals
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.events import Phase, State
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.protocol.requests import HostRequest
from finetui.engine.runs.folder import RunFolder


class Host:
    """Runs an engine behind a socket until there is nothing left to do for anybody."""

    def __init__(self, request: HostRequest) -> None:
        self._request = request
        self._commands = CommandQueue()
        self._endpoint = Endpoint(
            self._commands,
            # Nothing is lost with an inspection: there is no need to wait for anybody.
            request.config.run.linger_minutes if request.config is not None else 0.0,
            path=Path(request.socket),
            log=Path(request.log),
            detached=request.detached,
        )
        self._signals = EndSignals([signal.SIGTERM], self._commands, self._endpoint.remove_socket)

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
                return self._signals.status or (2 if isinstance(error, BadInput) else 1)
        self._endpoint.remove_early_log()  # nothing went wrong
        return self._signals.status or 0

    def _work(self) -> None:
        if self._request.inspection is not None:
            from finetui.engine.inspection.engine import InspectionEngine

            InspectionEngine(self._request.inspection, self._commands, [self._endpoint.publish]).run(self._stay)
        elif self._request.config is not None:
            with MachineWatch(self._endpoint.publish) as machine:
                self._serve(self._request.config, machine)

    def _serve(self, config: RunConfig, machine: MachineWatch) -> None:
        from finetui.engine.session.serve import serve

        serve(
            config,
            self._commands,
            [self._signals.note, self._endpoint.publish],
            autostart=self._request.autostart,
            stay=self._stay,
            on_journal=self._endpoint.follow,
            socket=self._endpoint.path,
            resume=RunFolder(Path(self._request.resume)) if self._request.resume else None,
            resume_from=self._request.resume_from,
            machine=machine,
        )

    def _stay(self, state: State) -> bool:
        return self._signals.caught is None and self._endpoint.stay(state)


def main() -> int:
    """Run the engine that standard input asks for."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=HostRequest)
    keep_freed()
    return Host(request).run()


if __name__ == "__main__":
    sys.exit(main())
