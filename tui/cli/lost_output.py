"""Output that may lose its reader: a terminal that closes, or a pipe that nobody reads any more."""

import errno
import os
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOST = (errno.EIO, errno.EPIPE)


class LostOutput:
    """Lets a program print on when standard output or error has lost its reader: to nowhere, then.

    For a terminal that has closed that is all, since nobody decided anything by it. Who leaves a pipe (`head`, say) has
    seen enough, so that `on_left` is called, once.
    """

    def __init__(self, on_left: Callable[[], None]) -> None:
        self.left = False
        self._on_left = on_left

    @contextmanager
    def printing(self) -> Iterator[None]:
        """Within it, what cannot be printed because nobody is left to read it is dropped."""
        try:
            yield
        except OSError as error:
            if error.errno not in _LOST:
                raise
            discard_lost_output()
            if error.errno == errno.EPIPE and not self.left:
                self.left = True
                self._on_left()


def discard_lost_output() -> None:
    """Let each of standard output and error whose reader is gone lead nowhere, so that no later write fails.

    What is buffered for it would otherwise fail once more when the interpreter ends.
    """
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)
    lost = [descriptor for descriptor, events in poll.poll(0) if events & (select.POLLERR | select.POLLHUP)]
    if lost:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in lost:
            os.dup2(nowhere, descriptor)
        os.close(nowhere)
