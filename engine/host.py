"""The engine process: `python -m engine.host`, a session leader of its own, steered through a socket.

It reads one JSON object, a `HostRequest`, from standard input. Torch is imported only after the socket is
there, so that a dashboard can show that, too.
"""

import os
import shutil
import signal
import sys
import threading
from pathlib import Path

import msgspec

from engine import runs
from engine.commands import Stop
from engine.config import RunConfig
from engine.errors import BadInput, FinetuiError
from engine.events import AnyEvent, Phase, RunPrepared, RunStarted, State, StateChanged
from engine.journal import Journal
from engine.lingering import Linger
from engine.queues import CommandQueue
from engine.runs import RunFolder
from engine.server import Server
from engine.signals import EndSignals

_TERMINATED = 128 + signal.SIGTERM
_UNBEGUN_SECONDS = 3.0  # how long a terminated engine that has nothing to save may take to leave


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

    `log` is the file that its output goes to until there is a run. A `detached` engine waits for nobody: it trains,
    and leaves.
    """

    config: RunConfig | None = None
    inspection: Inspection | None = None
    socket: str
    log: str
    autostart: bool = False
    detached: bool = False


class Host:
    """Runs an engine behind a socket until there is nothing left to do for anybody."""

    def __init__(self, request: HostRequest) -> None:
        self._request = request
        self._commands = CommandQueue()
        self._server = Server(Path(request.socket), self._commands, on_moved=self._on_moved)
        # Nothing is lost with an inspection: there is no need to wait for anybody.
        minutes = request.config.run.linger_minutes if request.config is not None else 0.0
        self._linger = Linger(self._server, minutes, detached=request.detached)
        self._early_log: str | None = request.log
        self._folder: RunFolder | None = None
        self._begun = False  # whether there is anything to save
        self._terminated = False

    def run(self) -> int:
        """Serve; return the exit status of the process: as the command line's, 143 after a SIGTERM."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with EndSignals([signal.SIGTERM], self._on_terminate, lambda _number: self._leave_at_once()):
            self._server.start()
            self._server.publish(Phase(name="Importing PyTorch"))
            try:
                self._work()
            except FinetuiError as error:
                print(f"finetui: {error}", file=sys.stderr, flush=True)
                return _TERMINATED if self._terminated else 2 if isinstance(error, BadInput) else 1
            finally:
                self._server.stop()
        if self._early_log is not None:
            Path(self._early_log).unlink(missing_ok=True)  # nothing went wrong, and there was no run
        return _TERMINATED if self._terminated else 0

    def _work(self) -> None:
        if self._request.inspection is not None:
            from engine.inspector import Inspector

            Inspector(self._request.inspection, self._commands, [self._server.publish]).run(self._stay)
        elif self._request.config is not None:
            from engine.service import serve

            serve(
                self._request.config,
                self._commands,
                [self._note, self._server.publish],
                autostart=self._request.autostart,
                stay=self._stay,
                on_journal=self._follow,
                socket=Path(self._request.socket),
            )

    def _stay(self, state: State) -> bool:
        return not self._terminated and self._linger.stay(state)

    # -- signals ----------------------------------------------------------------------------------------

    def _on_terminate(self, _number: int) -> None:
        self._terminated = True
        self._commands.put(Stop())
        if not self._begun:
            # An import or a download cannot always be interrupted, and there is nothing to wait for.
            timer = threading.Timer(_UNBEGUN_SECONDS, self._leave_unless_begun)
            timer.daemon = True
            timer.start()

    def _leave_unless_begun(self) -> None:
        if not self._begun:
            self._leave_at_once()

    def _leave_at_once(self) -> None:
        """End the process here and now; what is on disk stays as it is."""
        self._server.path.unlink(missing_ok=True)
        os._exit(_TERMINATED)

    # -- the run's folder -------------------------------------------------------------------------------

    def _note(self, event: AnyEvent) -> None:
        if isinstance(event, RunPrepared):
            self._begun = False
        elif isinstance(event, StateChanged) and event.state == "running":
            self._begun = True
        elif isinstance(event, RunStarted):
            self._settle(RunFolder(Path(event.path)))

    def _follow(self, journal: Journal) -> None:
        self._server.follow(journal)
        if journal.path is not None:
            self._settle(RunFolder(journal.path.parent))

    def _settle(self, folder: RunFolder) -> None:
        """Once there is a run folder, let the output go on in the run's own log."""
        if folder == self._folder:
            return
        self._folder = folder
        if self._server.path != Path(self._request.socket):
            runs.move_socket(folder, str(self._server.path))
        sys.stdout.flush()
        sys.stderr.flush()
        descriptor = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        if self._early_log is not None:
            early = Path(self._early_log)
            with early.open("rb") as source, os.fdopen(descriptor, "ab", closefd=False) as log:
                shutil.copyfileobj(source, log)
            early.unlink(missing_ok=True)
            self._early_log = None
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)

    def _on_moved(self, path: Path) -> None:
        """Let those who look for the engine find it at the socket `path`."""
        if self._folder is not None:
            runs.move_socket(self._folder, str(path))


def main() -> int:
    """Run the engine that standard input asks for."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=HostRequest)
    return Host(request).run()


if __name__ == "__main__":
    sys.exit(main())
