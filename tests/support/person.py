"""Somebody at a dashboard, who steers what this process trains through the run's socket: a script in a thread."""

import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from watching import Watcher, until

from finetui.engine.link.socket_link import AttachLink
from finetui.engine.protocol import commands, events
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.lock import is_live


class Person:
    """Does `script(person)` with the first run in `runs_dir`, while it is open; stops the run where that fails."""

    def __init__(self, runs_dir: Path, script: Callable[["Person"], None]) -> None:
        self._runs_dir, self._script = runs_dir, script
        self._thread = threading.Thread(target=self._act, daemon=True)
        self._problem = ""
        self.watcher: Watcher | None = None

    def __enter__(self) -> "Person":
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._thread.join(60)
        assert not self._problem, self._problem
        assert not self._thread.is_alive()

    def _act(self) -> None:
        try:
            until(lambda: self._run() is not None, "there is no run")
            self.watcher = Watcher(AttachLink(self._run()))
            self.watcher.until_state("running")
            self._script(self)
        except BaseException:  # noqa: BLE001  # it fails the test, once the training has ended
            self._problem = traceback.format_exc()
            if self.watcher is not None:
                self.watcher.link.send(commands.Stop())
        finally:
            if self.watcher is not None:
                self.watcher.close()

    def _run(self) -> RunFolder | None:
        folders = [RunFolder(path) for path in self._runs_dir.glob("*") if path.is_dir()]
        return next((folder for folder in folders if is_live(folder)), None)

    def does(self, command: commands.AnyCommand) -> Any:
        """Send `command`, which has to be accepted; return the step that it was at."""
        reply = self.asks(command)
        assert isinstance(reply, events.CommandAccepted), reply
        return reply.step

    def asks(self, command: commands.AnyCommand) -> Any:
        """Send `command` and return its reply."""
        self.watcher.link.send(command)
        return self.watcher.until(lambda event: getattr(getattr(event, "command", None), "id", None) == command.id)

    def waits_for_step(self, step: int) -> None:
        """Wait until so many steps are complete."""
        self.watcher.until(lambda event: event.step >= step)

    def last(self, kind: type) -> Any:
        """Return the last event of this kind that was heard."""
        return next(event for event in reversed(self.watcher.seen) if isinstance(event, kind))


def journal(runs_dir: Path) -> list[Any]:
    """Return the events of the only run in `runs_dir`."""
    (folder,) = (RunFolder(path) for path in runs_dir.glob("*") if path.is_dir())
    return list(JournalReader(folder.journal).read())


def states(told: list[Any]) -> list[str]:
    """Return the states that a run went through."""
    return [event.state for event in told if isinstance(event, events.StateChanged)]
