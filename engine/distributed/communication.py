"""How much of a step goes into exchanging gradients and messages, and waiting for the other ranks."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch.nn.parallel import DistributedDataParallel

from finetui.engine.distributed.ranks import Ranks
from finetui.engine.protocol.values import TimeShares

_NANOSECONDS = 1e9


class CommunicationMeter:
    """Measures what a rank does between two points; `ranks` count the seconds that their messages take."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._waited = self._in_steps = 0.0
        self.restart()

    def restart(self) -> None:
        """Begin anew."""
        self._waited, self._in_steps = self._ranks.waited, 0.0

    @contextmanager
    def in_step(self) -> Iterator[None]:
        """Count what is waited for within this as part of a step."""
        before = self._ranks.waited
        yield
        self._in_steps += self._ranks.waited - before

    def take(self, shares: TimeShares, steps: int, parallel: DistributedDataParallel | None) -> tuple[float, float]:
        """Return which shares of the time since the last call were computing and communicating, and begin anew.

        `shares` and `steps` are of that time; `parallel` is what has exchanged gradients, if anything. Between steps
        only what is left of the time counts: rank 0's evaluations and checkpoints are waited for, too.
        """
        seconds = max(shares.seconds, 1e-9)
        between = (self._ranks.waited - self._waited - self._in_steps) / seconds
        known = sum((shares.waiting, shares.copying, shares.computing, shares.evaluating, shares.saving))
        messages = min(self._in_steps / seconds, shares.computing)
        gradients = min(steps * waited_for_gradients(parallel) / seconds, shares.computing - messages)
        self.restart()
        computing = shares.computing - messages - gradients
        return computing, messages + gradients + min(max(between, 0.0), max(1.0 - known, 0.0))


def waited_for_gradients(parallel: DistributedDataParallel | None) -> float:
    """Return the seconds of a step in which gradients are waited for while nothing is computed.

    By what DistributedDataParallel has measured last: it looks at its first ten steps and at every 100th, on the CPU
    and with CUDA.
    """
    if parallel is None:
        return 0.0
    told = parallel._get_ddp_logging_data()  # type: ignore[no-untyped-call]
    exchanging, overlap = told.get("backward_comm_time", 0), told.get("backward_compute_comm_overlap_time", 0)
    return max(float(exchanging) - float(overlap), 0.0) / _NANOSECONDS
