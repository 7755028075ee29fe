"""What a container may use of the machine: the limits of its control groups, versions 1 and 2.

Files and their units: "Control Group v2" and "Control Groups version 1" of the Linux kernel's documentation.
"""

from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_NO_LIMIT = 2**60  # version 1 writes the largest number of pages where there is none


class Container:
    """The tightest limits of the control groups that this process is in, and what is used of them.

    `memory_limit` is in bytes, `cores` a number of CPU cores; None where there is no limit, as outside of containers.
    """

    def __init__(self, root: Path = _ROOT, membership: Path = _MEMBERSHIP) -> None:
        groups = _memberships(membership)
        self.memory_limit: int | None = None
        self.cores: float | None = None
        self._memory: Path | None = None  # the folder whose limit counts
        self._cpu: Path | None = None
        for folder in _folders(root, groups.get("")):
            self._limit_memory(folder, _number(folder / "memory.max"))
            self._limit_cpu(folder, *_pair(folder / "cpu.max"))
        for folder in _folders(root / "memory", groups.get("memory")):
            self._limit_memory(folder, _number(folder / "memory.limit_in_bytes"))
        for folder in _folders(root / "cpu", groups.get("cpu")):
            quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
            usage = root / "cpuacct" / folder.relative_to(root / "cpu")
            self._limit_cpu(usage, quota, period)

    def _limit_memory(self, folder: Path, limit: int | None) -> None:
        if limit is not None and 0 < limit < min(self.memory_limit or _NO_LIMIT, _NO_LIMIT):
            self.memory_limit, self._memory = limit, folder

    def _limit_cpu(self, folder: Path, quota: int | None, period: int | None) -> None:
        if quota is None or period is None or quota <= 0 or period <= 0:
            return
        if self.cores is None or quota / period < self.cores:
            self.cores, self._cpu = quota / period, folder

    def memory_used(self) -> int | None:
        """Return the bytes that are in use and cannot be had back; None where there is no limit, or it is not told."""
        if self._memory is None:
            return None
        for usage, inactive in (("memory.current", "inactive_file"), ("memory.usage_in_bytes", "total_inactive_file")):
            used = _number(self._memory / usage)
            if used is not None:
                # Copies of files, which the kernel gives up at once when somebody needs the memory.
                return max(used - (_entry(self._memory / "memory.stat", inactive) or 0), 0)
        return None

    def cpu_seconds(self) -> float | None:
        """Return the processor time that all processes have used; None where there is no limit, or it is not told."""
        if self._cpu is None:
            return None
        microseconds = _entry(self._cpu / "cpu.stat", "usage_usec")
        if microseconds is not None:
            return microseconds / 1e6
        nanoseconds = _number(self._cpu / "cpuacct.usage")
        return None if nanoseconds is None else nanoseconds / 1e9


def _memberships(path: Path) -> dict[str, str]:
    """Return the group of each controller; that of version 2 is listed under an empty name."""
    found: dict[str, str] = {}
    for line in (_text(path) or "").splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            found.update(dict.fromkeys(parts[1].split(","), parts[2]))
    return found


def _folders(root: Path, group: str | None) -> list[Path]:
    """Return the folders of `group` and of those around it that can be seen: inside a container, maybe none but one."""
    if group is None:
        return []
    parts = [part for part in group.split("/") if part not in ("", ".", "..")]
    return [root.joinpath(*parts[:count]) for count in range(len(parts), -1, -1)]


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None


def _number(path: Path) -> int | None:
    return _whole(_text(path))


def _pair(path: Path) -> tuple[int | None, int | None]:
    parts = (_text(path) or "").split()
    return (_whole(parts[0]), _whole(parts[1])) if len(parts) == 2 else (None, None)


def _entry(path: Path, name: str) -> int | None:
    for line in (_text(path) or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return _whole(value)
    return None


def _whole(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:  # `max`: no limit
        return None
