"""The engine process: `python -m finetui.engine.process.host`, a session leader of its own, steered through a socket.

It reads one JSON object, a `HostRequest`, from standard input. Torch is imported only after the socket is
there, so that a dashboard can show that, too.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

import msgspec

from finetui.engine.errors import BadInput, FinetuiError
from finetui.engine.link.server import Server
from finetui.engine.process.linger import Linger
from finetui.engine.process.memory import keep_freed
from finetui.engine.process.signals import EndSignals
from finetui.engine.protocol.events import AnyEvent, Phase, RunStarted, State
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.protocol.requests import HostRequest
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import Journal
from finetui.engine.runs.lock import move_socket


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
        self._signals = EndSignals([signal.SIGTERM], self._commands, self._remove_socket)

    def run(self) -> int:
        """Serve; return the exit status of the process: as the command line's, 143 after a SIGTERM."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with self._signals:
            self._server.start()
            self._server.publish(Phase(name="Importing PyTorch"))
            try:
                self._work()
            except FinetuiError as error:
                print(f"finetui: {error}", file=sys.stderr, flush=True)
                return self._signals.status or (2 if isinstance(error, BadInput) else 1)
            finally:
                self._server.stop()
        if self._early_log is not None:
            Path(self._early_log).unlink(missing_ok=True)  # nothing went wrong, and there was no run
        return self._signals.status or 0

    def _work(self) -> None:
        if self._request.inspection is not None:
            from finetui.engine.inspection.engine import InspectionEngine

            InspectionEngine(self._request.inspection, self._commands, [self._server.publish]).run(self._stay)
        elif self._request.config is not None:
            from finetui.engine.session.serve import serve

            serve(
                self._request.config,
                self._commands,
                [self._signals.note, self._note, self._server.publish],
                autostart=self._request.autostart,
                stay=self._stay,
                on_journal=self._follow,
                socket=Path(self._request.socket),
                resume=RunFolder(Path(self._request.resume)) if self._request.resume else None,
                resume_from=self._request.resume_from,
            )

    def _stay(self, state: State) -> bool:
        return self._signals.caught is None and self._linger.stay(state)

    def _remove_socket(self) -> None:
        self._server.path.unlink(missing_ok=True)

    # -- the run's folder -------------------------------------------------------------------------------

    def _note(self, event: AnyEvent) -> None:
        if isinstance(event, RunStarted):
            self._settle(RunFolder(Path(event.path)))

    def _follow(self, journal: Journal) -> None:
        # The log first: whoever is told of the folder takes the output to be there.
        if journal.path is not None:
            self._settle(RunFolder(journal.path.parent))
        self._server.follow(journal)

    def _settle(self, folder: RunFolder) -> None:
        """Once there is a run folder, let the output go on in the run's own log."""
        if folder == self._folder:
            return
        self._folder = folder
        if self._server.path != Path(self._request.socket):
            self._on_moved(self._server.path)
        try:
            self._open_log(folder.log)
        except OSError as error:  # training is worth more than what is printed meanwhile
            print(f"finetui: the log {folder.log} cannot be written: {error.strerror or error}", flush=True)

    def _open_log(self, path: Path) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            if self._early_log is not None:
                early = Path(self._early_log)
                with early.open("rb") as source, os.fdopen(descriptor, "ab", closefd=False) as log:
                    shutil.copyfileobj(source, log)
                early.unlink()
                self._early_log = None
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
        finally:
            os.close(descriptor)

    def _on_moved(self, path: Path) -> None:
        """Let those who look for the engine find it at the socket `path`."""
        if self._folder is not None:
            try:
                move_socket(self._folder, str(path))
            except OSError as error:
                print(f"finetui: nobody can be told of the new socket {path}: {error.strerror or error}", flush=True)


def main() -> int:
    """Run the engine that standard input asks for."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=HostRequest)
    keep_freed()
    return Host(request).run()


if __name__ == "__main__":
    sys.exit(main())
