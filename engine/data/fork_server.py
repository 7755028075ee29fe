"""What the server that loader workers are forked from imports once, for all of them; see `streaming`."""

import os
import signal

import finetui.engine.data.streaming  # noqa: F401  # what each worker would import


def _hear_again() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))


# The server hears no signals; a process that somebody else has forked from it does.
os.register_at_fork(after_in_child=_hear_again)
