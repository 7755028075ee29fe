"""Events about what trains a run: the machine, the ranks, the job they belong to, and the engine itself.

They are among the events of `finetui.engine.protocol.events`, which says what all have.
"""

from finetui.engine.protocol.event import Event
from finetui.engine.protocol.machine import Machine
from finetui.engine.protocol.provenance import Provenance
from finetui.engine.protocol.ranks import RankRow


class MachineSample(Event, frozen=True, kw_only=True):
    """What the machine that trains was busy with during the last `seconds`: means, and the most memory.

    The journal gets one for each 10 seconds, and fewer in a long run; who looks on gets more, without a number.
    """

    machine: Machine
    seconds: float


class RanksSeen(Event, frozen=True, kw_only=True):
    """What the `world` ranks that train the run told of themselves: `rows`, of many ranks the first and the slowest.

    `alike` is the step at which all were last found to have the same parameters (-1: not compared yet); where they have
    not, `differs` names the first tensors. Journaled as rarely as `MachineSample`.
    """

    rows: tuple[RankRow, ...]
    world: int
    alike: int = -1
    differs: str = ""


class JobFound(Event, frozen=True, kw_only=True):
    """The run is trained by a job of the batch `system` (SLURM, say), which calls it `id`.

    `ends` is when the job's time is over, in Unix seconds (0: nobody says), and `restarts` how often the job was
    started anew, by the system or by torchrun.
    """

    system: str
    id: str
    ends: float = 0.0
    restarts: int = 0


class ProvenanceTold(Event, frozen=True, kw_only=True):
    """What the engine that trains the run from here on knows of itself; journaled with each beginning and going on."""

    provenance: Provenance
