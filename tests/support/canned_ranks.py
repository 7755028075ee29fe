"""What the ranks of a run tell of themselves, as canned events."""

from finetui.engine.protocol.events import RanksSeen
from finetui.engine.protocol.ranks import RankRow

GB = 2**30
BEGAN = 1_000_000_000.0


def row(rank: int = 0, **changes: object) -> RankRow:
    figures: dict[str, object] = {
        "node": f"gpu{1 + rank // 8:02}",
        "device": f"cuda:{rank % 8} (NVIDIA H100 80GB HBM3)",
        "step": 1234,
        "heard": BEGAN,
        "samples_per_second": 2610.0 + rank,
        "waiting": 0.04,
        "computing": 0.75,
        "communicating": 0.2,
        "memory": 41 * GB,
        "memory_total": 80 * GB,
        **changes,
    }
    return RankRow(rank=rank, **figures)  # type: ignore[arg-type]


def slow_row(rank: int) -> RankRow:
    return row(rank, waiting=0.31, computing=0.66, communicating=0.01)


def seen(*rows: RankRow, **changes: object) -> RanksSeen:
    """Return what they told, a second ago."""
    figures: dict[str, object] = {"world": len(rows), "alike": 1200, "time": BEGAN + 1, "step": 1234, **changes}
    return RanksSeen(rows=rows, **figures)  # type: ignore[arg-type]
