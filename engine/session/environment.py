"""The machine that a run computes on, and how it differs from the one that a checkpoint was written on."""

from collections.abc import Mapping

import torch


def machine(device: torch.device) -> dict[str, str]:
    """Return what a computation depends on besides its inputs, for people: another one gives other last digits."""
    found = {"device": device.type, "torch": str(torch.__version__)}
    if device.type == "cpu":
        found |= {"threads": str(torch.get_num_threads()), "instructions": torch.backends.cpu.get_cpu_capability()}
    elif device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return a sentence on how the machine `now` is not that of `before`; nothing where they are alike."""
    changed = [
        f"{key} {before.get(key, 'none')} then, {now.get(key, 'none')} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    if not changed:
        return []
    return [f"the last digits may differ from an uninterrupted run: {', '.join(changed)}"]


def other_world(before: int, now: int) -> list[str]:
    """Return a sentence on a run that `before` processes trained, and `now` do; nothing where they are as many."""
    if before == now:
        return []
    were = f"{before} processes" if before > 1 else "one process"
    return [
        f"the run was trained by {were}, and goes on with {now}, from the same place in the order of the images: the "
        "last digits will differ from those of a run without a break"
    ]
