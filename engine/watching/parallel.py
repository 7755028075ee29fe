"""Freezing under DistributedDataParallel, which waits for the gradients of the parameters that it began with."""

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

_DIVIDING = {
    "FullyShardedDataParallel": "FullyShardedDataParallel",
    "FSDPModule": "fully_shard",
    "DeepSpeedEngine": "DeepSpeed",
}


def wrapper_in(model: nn.Module) -> DistributedDataParallel | None:
    """Return what averages the gradients of `model` over the processes, where that is `model` or just within it."""
    compiled = getattr(model, "_orig_mod", model)
    return compiled if isinstance(compiled, DistributedDataParallel) else None


def divided_by(model: nn.Module) -> str:
    """Return what divides the parameters of `model` among the processes; empty where each process has them all."""
    names = {kind.__name__ for module in model.modules() for kind in type(module).__mro__}
    found = next((words for name, words in _DIVIDING.items() if name in names), "")
    return found or ("DTensor" if any(hasattr(p, "device_mesh") for p in model.parameters()) else "")


def why_no_freezing(model: nn.Module) -> str:
    """Return why no layer of `model`, as it is wrapped, can be frozen or unfrozen, as a sentence; empty where it can.

    Raises nothing, and changes nothing.
    """
    divided = divided_by(model)
    if divided:
        return f"{divided} divides the parameters among the processes by what trains at the start"
    if "DataParallel" in {kind.__name__ for kind in type(model).__mro__}:
        return "torch.nn.DataParallel makes copies of the layers for each step; start the script with torchrun instead"
    parallel = wrapper_in(model)
    if parallel is None:
        return ""
    if parallel.static_graph:
        return "DistributedDataParallel(static_graph=True) was promised that the same layers train at every step"
    if parallel.process_group is not dist.distributed_c10d._get_default_group():
        return "DistributedDataParallel averages over only some of the processes"
    return ""


def set_up_again(parallel: DistributedDataParallel) -> None:
    """Have `parallel` wait for the gradients of exactly the parameters that train now; all ranks call it between steps.

    Otherwise it would wait for those of layers that were frozen since, and fail; and the gradients of layers that were
    frozen when it was made would stay each rank's own. It is put together anew in place, as it is when it was
    unpickled, for whoever trains holds on to it.
    """
    hooks = list(parallel._comm_hooks)
    parallel.__setstate__(parallel.__getstate__())  # type: ignore[no-untyped-call]
    for hook, state in hooks:
        dist.distributed_c10d._register_comm_hook(parallel.reducer, state, hook)  # type: ignore[attr-defined]
