"""What the machine that trains is busy with, as its engine sees it."""

import msgspec


class _Figures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the figures; None: not to be had here."""


class GpuProcess(_Figures, frozen=True, kw_only=True):
    """A process on a GPU, with the bytes of GPU memory that it has taken; `mine` is this run's engine, or a worker.

    `name` and `user` are empty where the system does not tell, as in a container of other processes.
    """

    pid: int
    memory: int | None = None
    name: str = ""
    user: str = ""
    mine: bool = False


class Gpu(_Figures, frozen=True, kw_only=True):
    """One GPU, as its driver numbers it: `use` is the share of the time in which it computed (0 to 1).

    Memory is in bytes, `temperature` in °C, `power` and `power_limit` in watts, `clock` and `clock_limit` (of its
    multiprocessors) in MHz. `processes` are those with most memory, of `process_count`; None: the driver does not tell.
    """

    index: int
    name: str = ""
    use: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    temperature: float | None = None
    power: float | None = None
    power_limit: float | None = None
    clock: float | None = None
    clock_limit: float | None = None
    processes: tuple[GpuProcess, ...] = ()
    process_count: int | None = None

    @property
    def others(self) -> int | None:
        """How many processes are not this run's; None where the driver tells of none."""
        if self.process_count is None:
            return None
        return self.process_count - sum(process.mine for process in self.processes)


class Machine(_Figures, frozen=True, kw_only=True):
    """The machine `host`, or what a container may use of it (`contained`).

    `cores` is the number of CPU cores that may be used, a fraction where a container has a part of one; `cpu` and
    `engine_cpu` are shares of them (0 to 1): of all processes, and of the engine with its `workers` (processes that
    load images). `load` is the mean number of processes that wanted a core during the last minute. Memory is in bytes,
    `engine_memory` without what workers share with others; disk figures are bytes of the file system of the run's
    folder, and bytes a second that the engine and its workers read and wrote. Where there are no `gpus`, `no_gpu` says
    why, in a few words.
    """

    host: str = ""
    contained: bool = False
    cores: float = 0.0
    cpu: float | None = None
    engine_cpu: float | None = None
    workers: int = 0
    load: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    engine_memory: int | None = None
    disk_free: int | None = None
    disk_total: int | None = None
    disk_read: float | None = None
    disk_written: float | None = None
    gpus: tuple[Gpu, ...] = ()
    no_gpu: str = ""
