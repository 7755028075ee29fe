"""AMD's GPUs, as their Linux driver tells of them in files.

The files and their units: "GPU Power/Thermal Controls and Monitoring" of the kernel's documentation of amdgpu, and its
"Naming and data format standards for sysfs files" (hwmon). AMD's own library is on PyPI only by other people's hand.
"""

import re
from pathlib import Path

from finetui.engine.protocol.machine import Gpu
from finetui.engine.text import clean

_CARDS = Path("/sys/class/drm")


class AmdGpus:
    """The AMD GPUs of this machine; there is nothing to be read of who uses them."""

    def __init__(self, cards: Path = _CARDS) -> None:
        found = (path for path in cards.glob("card*") if re.fullmatch(r"card\d+", path.name))
        ordered = sorted(found, key=lambda path: int(path.name.removeprefix("card")))
        self._devices = [path / "device" for path in ordered if (path / "device" / "gpu_busy_percent").is_file()]

    def read(self) -> tuple[Gpu, ...]:
        """Return what each GPU does now."""
        return tuple(_read(index, device) for index, device in enumerate(self._devices))


def _read(index: int, device: Path) -> Gpu:
    sensors = next(iter(sorted((device / "hwmon").glob("hwmon*"))), device / "hwmon")
    used, total = _number(device / "mem_info_vram_used"), _number(device / "mem_info_vram_total")
    power = _number(sensors / "power1_average", 1e-6)
    return Gpu(
        index=index,
        name=clean(_text(device / "product_name") or "AMD GPU", 60),
        use=_number(device / "gpu_busy_percent", 0.01),
        memory_used=None if used is None else int(used),
        memory_total=None if total is None else int(total),
        temperature=_number(sensors / "temp1_input", 1e-3),
        power=power if power is not None else _number(sensors / "power1_input", 1e-6),
        power_limit=_number(sensors / "power1_cap", 1e-6),
        clock=_number(sensors / "freq1_input", 1e-6),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # also while the GPU sleeps
        return ""


def _number(path: Path, scale: float = 1.0) -> float | None:
    try:
        value = int(_text(path))
    except ValueError:
        return None
    return round(value * scale, 3) if value >= 0 else None
