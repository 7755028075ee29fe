"""Sessions in forked processes, so that one can be killed without importing torch again for the next."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence

from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.events import AnyEvent, StateChanged
from finetui.engine.runs.folder import RunFolder
from finetui.engine.session.session import Session

PATIENCE = 60.0


class ForkedSession:
    """Runs a session in a child; `until_running` waits until it trains."""

    def __init__(
        self,
        config: RunConfig,
        *,
        resume: RunFolder | None = None,
        before: Callable[[], None] = lambda: None,
        sinks: Sequence[Callable[[AnyEvent], None]] = (),
        step_seconds: float = 0.0,
    ) -> None:
        reader, writer = os.pipe()
        self._running = reader
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reader)
            status = 70
            try:
                before()

                def tell(event: AnyEvent) -> None:
                    if isinstance(event, StateChanged) and event.state == "running":
                        os.write(writer, b"x")

                # However fast the machine is, a step takes `step_seconds`: so many kills come before the end.
                Session(config, resume=resume, sinks=[tell, *sinks], on_step=lambda *_: time.sleep(step_seconds)).run()
                status = 0
            except BaseException:  # noqa: BLE001  # the child ends here, whatever it was
                traceback.print_exc(file=sys.stderr)
            finally:
                os._exit(status)  # nothing of pytest's may run in the child
        os.close(writer)

    def until_running(self) -> bool:
        """Return whether it trains; False when it has ended before that."""
        return os.read(self._running, 1) == b"x"

    def kill(self) -> None:
        """End it without a warning, if it is still there."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Return the exit status, negative for a signal."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                os.close(self._running)
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        self.kill()
        os.waitpid(self.pid, 0)
        raise AssertionError("the session did not end")
