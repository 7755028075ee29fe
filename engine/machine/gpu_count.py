"""How many GPUs a process here may use; without torch, which would take seconds to say."""

import os
from collections.abc import Mapping

from finetui.engine.errors import BadInput
from finetui.engine.machine.nvidia import NvidiaGpus


def chosen_gpus(wanted: str, environment: Mapping[str, str] = os.environ) -> int:
    """Return how many GPUs `wanted` (a number, or all) stands for: of those that CUDA_VISIBLE_DEVICES leaves.

    Raises `BadInput` where there are not so many.
    """
    gpus = NvidiaGpus()
    there = len(gpus)
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        there = min(there, len([name for name in visible.split(",") if name.strip() not in ("", "-1")]))
    if not there:
        why = gpus.problem or "CUDA_VISIBLE_DEVICES leaves none"
        raise BadInput(f"--gpus {wanted}: there is no GPU here ({why}); --nproc N trains in N processes on the CPU")
    if wanted == "all":
        return there
    if not wanted.isascii() or not wanted.isdecimal() or int(wanted) < 1:
        raise BadInput(f"--gpus: give a number of GPUs, or all, not {wanted!r}")
    if int(wanted) > there:
        raise BadInput(f"--gpus {wanted}: there {'is' if there == 1 else 'are'} only {there} here")
    return int(wanted)
