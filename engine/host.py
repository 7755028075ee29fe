"""The engine process: `python -m engine.host`, a session leader of its own, steered through a socket.

It reads one JSON object, a `HostRequest`, from standard input. Torch is imported only after the socket is
there, so that a dashboard can show that, too.
"""

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import msgspec

from engine.commands import Stop
from engine.config import RunConfig
from engine.errors import FinetuiError
from engine.events import AnyEvent, Phase, RunStarted, State
from engine.queues import CommandQueue
from engine.runs import RunFolder
from engine.server import Server

FIRST_CLIENT_SECONDS = 60.0  # an engine that nobody ever connects to leaves after this
NO_CLIENT_SECONDS = 1.0  # one with nothing to do whose last client has left, after this
PAUSED_SECONDS = 600.0  # a paused run waits this long for somebody to come back, then saves and stops


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that questions are to be answered about; the fields are those of `open_checkpoint`.

    `scratch` is the file that predictions are written to.
    """

    checkpoint: str
    data: str | None = None
    data_dir: str | None = None
    model: str = "lenet"
    device: str = "auto"
    scratch: str = ""


class HostRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine process is for: a run, or an inspection.

    `log` is the file that its output goes to until there is a run.
    """

    config: RunConfig | None = None
    inspection: Inspection | None = None
    socket: str
    log: str
    autostart: bool = False


class Host:
    """Runs an engine behind a socket until there is nothing left to do for anybody."""

    def __init__(self, request: HostRequest) -> None:
        self._request = request
        self._commands = CommandQueue()
        self._server = Server(Path(request.socket), self._commands)
        self._early_log: str | None = request.log
        self._terminated = False
        self._alone_since = time.monotonic()

    def run(self) -> int:
        """Serve; return the exit status of the process."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._on_terminate)
        self._server.start()
        self._server.publish(Phase(name="Importing PyTorch"))
        try:
            self._work()
        except FinetuiError as error:
            print(f"finetui: {error}", file=sys.stderr, flush=True)
            return 1
        finally:
            self._server.stop()
        return 128 + signal.SIGTERM if self._terminated else 0

    def _work(self) -> None:
        if self._request.inspection is not None:
            from engine.inspector import Inspector

            Inspector(self._request.inspection, self._commands, [self._server.publish]).run(self._stay)
        elif self._request.config is not None:
            from engine.service import serve

            serve(
                self._request.config,
                self._commands,
                [self._keep_log, self._server.publish],
                autostart=self._request.autostart,
                stay=self._stay,
                on_journal=self._server.follow,
                socket=Path(self._request.socket),
            )

    def _on_terminate(self, _number: int, _frame: FrameType | None) -> None:
        self._terminated = True
        self._commands.put(Stop())

    def _stay(self, state: State) -> bool:
        if self._terminated:
            return False
        now = time.monotonic()
        if self._server.has_clients():
            self._alone_since = now
            return True
        patience = NO_CLIENT_SECONDS if self._server.ever_connected else FIRST_CLIENT_SECONDS
        return now - self._alone_since < (PAUSED_SECONDS if state == "paused" else patience)

    def _keep_log(self, event: AnyEvent) -> None:
        """Once there is a run folder, let the output go on in the run's own log."""
        if isinstance(event, RunStarted):
            log = RunFolder(Path(event.path)).log
            sys.stdout.flush()
            sys.stderr.flush()
            if self._early_log is not None:
                shutil.copyfile(self._early_log, log)
                self._early_log = None
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            os.close(descriptor)


def main() -> int:
    """Run the engine that standard input asks for."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=HostRequest)
    return Host(request).run()


if __name__ == "__main__":
    sys.exit(main())
