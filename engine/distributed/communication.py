"""How much of a step goes into exchanging gradients and messages, and waiting for the other ranks."""

from torch.nn.parallel import DistributedDataParallel

from finetui.engine.distributed.ranks import Ranks
from finetui.engine.protocol.values import TimeShares


class CommunicationMeter:
    """Measures what a rank does between two points; `ranks` count the seconds that their messages take."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._waited = self._in_steps = 0.0
        self.restart()

    def restart(self) -> None:
        """Begin anew."""
        self._waited, self._in_steps = self._ranks.waited, 0.0

    def in_step(self, seconds: float) -> None:
        """Count the `seconds` of messages that were exchanged within a step."""
        self._in_steps += seconds

    def take(self, shares: TimeShares, parallel: DistributedDataParallel | None) -> tuple[float, float]:
        """Return which shares of the time since the last call were computing and communicating, and begin anew.

        `shares` are of that time; `parallel` is what has exchanged gradients, if anything. Between steps only what is
        left of the time counts: rank 0's evaluations and checkpoints are waited for, too.
        """
        seconds = max(shares.seconds, 1e-9)
        between = (self._ranks.waited - self._waited - self._in_steps) / seconds
        known = sum((shares.waiting, shares.copying, shares.computing, shares.evaluating, shares.saving))
        messages = min(self._in_steps / seconds, shares.computing)
        gradients = exposed(parallel) * (shares.computing - messages)
        self.restart()
        computing = shares.computing - messages - gradients
        return computing, messages + gradients + min(max(between, 0.0), max(1.0 - known, 0.0))


def exposed(parallel: DistributedDataParallel | None) -> float:
    """Return the share of forward and backward pass in which gradients are waited for while nothing is computed.

    By what DistributedDataParallel measures of its first steps and of every 100th, on the CPU and with CUDA.
    """
    if parallel is None:
        return 0.0
    told = parallel._get_ddp_logging_data()  # type: ignore[no-untyped-call]
    names = (
        "forward_compute_time",
        "backward_compute_time",
        "backward_comm_time",
        "backward_compute_comm_overlap_time",
    )
    forward, backward, exchanging, overlap = (max(float(told.get(f"avg_{name}", 0)), 0.0) for name in names)
    waited = max(exchanging - overlap, 0.0)
    whole = forward + backward + waited
    return waited / whole if whole > 0 else 0.0
