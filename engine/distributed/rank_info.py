"""Which process of a run this is, by the variables that a launcher sets; nothing here loads torch."""

import os
from collections.abc import Mapping

import msgspec

from finetui.engine.errors import BadInput


class RankInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Which of the processes that train one run this is.

    `rank` of `world` processes, `local_rank` of `local_world` on this node, `node` the node's number; all from 0.
    `restarts` counts how often the launcher has started all of them anew.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    node: int = 0
    restarts: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process has the run's folder, its journal and the commands."""
        return self.rank == 0


def rank_info_from(environment: Mapping[str, str] = os.environ) -> RankInfo:
    """Return what torchrun's variables tell; that of a single process where there are none.

    Raises `BadInput` for variables that cannot be true.
    """
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return RankInfo()
    rank, world = _number(environment, "RANK", 0), _number(environment, "WORLD_SIZE", 1)
    info = RankInfo(
        rank=rank,
        world=world,
        local_rank=_number(environment, "LOCAL_RANK", rank),
        local_world=_number(environment, "LOCAL_WORLD_SIZE", world),
        node=_number(environment, "GROUP_RANK", 0),
        restarts=_number(environment, "TORCHELASTIC_RESTART_COUNT", 0),
    )
    if not 0 <= info.rank < info.world or not 0 <= info.local_rank < info.local_world:
        raise BadInput(
            f"RANK is {rank} of WORLD_SIZE {world} (LOCAL_RANK {info.local_rank} of {info.local_world}), which "
            "is impossible; start the processes with torchrun"
        )
    return info


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    value = environment.get(name, "")
    if not value:
        return default
    try:
        return int(value)
    except ValueError:
        raise BadInput(f"{name} must be a whole number, not {value!r}: torchrun sets it for every process") from None
