"""The processes that SLURM's `srun` starts, one for each device, told as torchrun would tell it."""

import re
from collections.abc import Mapping, MutableMapping

from finetui.engine.errors import BadInput

_FIRST_PORT, _PORTS = 20_000, 20_000  # where ranks meet; by job and step, so that two on one node do not meet


def adopt_srun(environment: MutableMapping[str, str]) -> None:
    """Set torchrun's variables (RANK, WORLD_SIZE, ...) in `environment` where `srun` has started several tasks.

    Where a launcher has set them already, as torchrun inside a task does, and for a single task all stays as it is. A
    batch script has most of SLURM's variables, too; only what `srun` starts is a step, with a number of its own. Raises
    `BadInput` for variables that cannot be true.
    """
    if "RANK" in environment or "SLURM_STEP_ID" not in environment:
        return
    tasks = _number(environment, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", default=1)
    if tasks == 1:
        return
    node = _number(environment, "SLURM_NODEID", default=0)
    rank = _number(environment, "SLURM_PROCID")
    per_node = _tasks_per_node(environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_TASKS_PER_NODE"))
    found = {
        "RANK": rank,
        "WORLD_SIZE": tasks,
        "LOCAL_RANK": _number(environment, "SLURM_LOCALID"),
        "LOCAL_WORLD_SIZE": per_node[node] if node < len(per_node) else tasks,
        "GROUP_RANK": node,
    }
    environment.update({name: str(value) for name, value in found.items()})
    environment.setdefault("MASTER_ADDR", _first_node(environment))
    job, step = _number(environment, "SLURM_JOB_ID", default=0), _number(environment, "SLURM_STEP_ID")
    environment.setdefault("MASTER_PORT", str(_FIRST_PORT + (7 * job + step) % _PORTS))


def _number(environment: Mapping[str, str], *names: str, default: int | None = None) -> int:
    """Return the number that the first of the variables `names` has that is set; `default` where none is."""
    for name in names:
        value = environment.get(name, "")
        if value:
            if not re.fullmatch(r"\d{1,10}", value):
                raise BadInput(f"{name} must be a whole number, not {value!r}: SLURM sets it for every task")
            return int(value)
    if default is None:
        raise BadInput(f"{names[0]} is not set, and SLURM sets it for every task; start finetui with srun")
    return default


def _tasks_per_node(text: str | None) -> list[int]:
    """Return how many tasks each node has, of SLURM's short form: `4(x2),3` is 4, 4 and 3."""
    counts: list[int] = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text or ""):
        counts += [int(count)] * min(int(times or 1), 100_000)
    return counts


def _first_node(environment: Mapping[str, str]) -> str:
    """Return the host of rank 0: this one of one, else the first of SLURM's list (`gpu[03-05,9],a`: gpu03)."""
    if _number(environment, "SLURM_STEP_NUM_NODES", "SLURM_NNODES", default=1) == 1:
        return "127.0.0.1"
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST") or ""
    first = re.match(r"([^,\[\s]+)(?:\[(\d+)[^\]]*\]([^,\s]*))?", nodes)
    if first is None:
        raise BadInput("SLURM_JOB_NODELIST is not set; set MASTER_ADDR to the host of the first task")
    return "".join(part or "" for part in first.groups())
