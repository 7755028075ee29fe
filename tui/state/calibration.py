"""A reliability diagram in characters: how often the network is right when it is how sure."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetui.engine.predictions.metrics import Bin

_SHORTEST = 10


def diagram(bins: "Sequence[Bin]", width: int = 79) -> Iterator[str]:
    """Yield a heading and one line for each of `bins`, none longer than `width` cells.

    The bar is the accuracy, `│` the mean confidence: where the bar ends before it the network is too sure.
    """
    head = f"{'confidence':<12} {'images':>8} {'accuracy':>8} {'mean conf.':>10}"
    room = max(width - len(head) - 2, _SHORTEST)
    yield f"{head}  {'bar: accuracy, │ confidence' if room >= 27 else ''}".rstrip()
    for found in bins:
        span = f"{100 * found.low:3.0f} to {found.high:4.0%}"
        if not found.count:
            yield f"{span:<12} {0:>8} {'-':>8} {'-':>10}"
            continue
        cells = ["━" if cell < round(found.accuracy * room) else " " for cell in range(room)]
        cells[min(int(found.confidence * room), room - 1)] = "│"
        numbers = f"{found.count:>8,} {found.accuracy:>8.1%} {found.confidence:>10.1%}"
        yield f"{span:<12} {numbers}  {''.join(cells)}".rstrip()
