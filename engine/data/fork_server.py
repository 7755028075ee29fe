"""What the server that loader workers are forked from imports once, for all of them; see `streaming`."""

import os
import signal

from finetui.engine.data.streaming import SAFE_PATH  # and all that each worker would import


def _hear_again() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))


# The server hears no signals; a process that somebody else has forked from it does.
os.register_at_fork(after_in_child=_hear_again)

if os.environ.get(SAFE_PATH[0]) == SAFE_PATH[1]:
    del os.environ[SAFE_PATH[0]]
