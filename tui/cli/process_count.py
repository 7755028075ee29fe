"""`--gpus` and `--nproc`: in how many processes a run is trained on this machine."""

from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import SectionName


def process_count_settings(
    gpus: str | None, nproc: int | None, device: str | None = None
) -> dict[tuple[SectionName, str], object]:
    """Return the settings that `--gpus` and `--nproc` stand for. Raises `BadInput` where they cannot be meant."""
    if gpus is None:
        return {("training", "processes"): nproc}
    other = "--nproc" if nproc is not None else "--device" if device not in (None, "auto", "cuda") else ""
    if other:
        raise BadInput(f"--gpus says where it is trained, and so does {other}; leave one of them out")
    from finetui.engine.machine.gpu_count import chosen_gpus  # it needs psutil, and few ask

    return {("training", "processes"): chosen_gpus(gpus), ("training", "device"): "cuda"}
