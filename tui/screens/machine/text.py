"""What the Machine screen says in words: the figures of each frame, and where the time goes."""

from textual.content import Content

from finetui.engine.protocol.machine import Gpu, GpuProcess, Machine
from finetui.engine.protocol.values import TimeShares
from finetui.tui.state.machine import others_on_cpu, share
from finetui.tui.state.numbers import gigabytes, percent
from finetui.tui.state.store import Store
from finetui.tui.widgets.fitting import Part, fitting

HOT = 84.0  # °C: where GPUs begin to slow down
_NEARLY_FULL = 0.95
_UNKNOWN = Content.styled("–", "$muted")


def _big(value: float | None) -> Content:
    return _UNKNOWN if value is None else Content.styled(percent(value), "bold")


def _dim(text: str) -> Content:
    return Content.styled(text, "$muted")


def cpu_parts(machine: Machine) -> list[Part]:
    """Return what there is to say of the CPU."""
    parts = [Part(_big(machine.cpu), 0)]
    if machine.engine_cpu is not None:
        workers = f" with {machine.workers} workers" if machine.workers > 1 else ""
        parts.append(Part(Content.assemble(_dim("this run "), percent(machine.engine_cpu).strip(), _dim(workers)), 1))
    parts.append(Part(_dim(f"{machine.cores:g} core{'s' * (machine.cores != 1)}"), 2))
    if machine.load is not None:
        parts.append(Part(Content.assemble(_dim("load "), f"{machine.load:.1f}"), 3))
    return parts


def memory_parts(machine: Machine) -> list[Part]:
    """Return what there is to say of the memory."""
    used, total = machine.memory_used, machine.memory_total
    parts = [Part(_big(share(used, total)), 0), Part(_of(used, total), 0)]
    if machine.engine_memory is not None:
        parts.append(Part(Content.assemble(_dim("this run "), f"{gigabytes(machine.engine_memory)} GB"), 1))
    if machine.contained:
        parts.append(Part(_dim("in the container"), 2))
    return parts


def _of(used: int | None, total: int | None) -> Content:
    """Return `11.2/24 GB`, in the colour of a warning where that is nearly all."""
    if used is None:
        return _UNKNOWN
    if total is None:
        return Content(f"{gigabytes(used)} GB")
    full = (share(used, total) or 0.0) >= _NEARLY_FULL
    text = f"{gigabytes(used)}/{gigabytes(total).removesuffix('.0')} GB"
    return Content.styled(text, "$warning") if full else Content(text)


def disk_parts(machine: Machine) -> list[Part]:
    """Return what there is to say of the disk that the run's folder is on."""
    if machine.disk_free is None or machine.disk_total is None:
        return [Part(_dim("known once the run has a folder"), 0)]
    used = machine.disk_total - machine.disk_free
    style = "bold $warning" if used >= _NEARLY_FULL * machine.disk_total else "bold"
    free = Content.assemble((f"{gigabytes(machine.disk_free)} GB", style), _dim(" free"))
    parts = [Part(free, 0), Part(_dim(f"of {gigabytes(machine.disk_total).removesuffix('.0')} GB"), 2)]
    for word, rate in (("reads", machine.disk_read), ("writes", machine.disk_written)):
        if rate is not None:
            parts.append(Part(Content.assemble(_dim(f"{word} "), speed(rate)), 1))
    return parts


def speed(rate: float) -> str:
    """Return bytes a second in few characters that do not move: ` 3.5 MB/s`."""
    megabytes = rate / 2**20
    return f"{megabytes:4.1f} MB/s" if megabytes < 99.95 else f"{megabytes:4.0f} MB/s"


def gpu_title(gpu: Gpu) -> str:
    """Return the title of a GPU's frame."""
    name = gpu.name.removeprefix("NVIDIA ")
    return f"GPU {gpu.index}  {name}" if name else f"GPU {gpu.index}"


def gpu_parts(gpu: Gpu) -> list[Part]:
    """Return what there is to say of a GPU; what its driver does not tell is left out."""
    parts = [Part(_big(gpu.use), 0), Part(_of(gpu.memory_used, gpu.memory_total), 0)]
    if gpu.temperature is not None:
        hot = gpu.temperature >= HOT
        parts.append(Part(Content.styled(f"{gpu.temperature:.0f} °C", "$warning" if hot else ""), 1))
    if gpu.power is not None:
        limit = "" if gpu.power_limit is None else f"/{gpu.power_limit:.0f}"
        parts.append(Part(Content(f"{gpu.power:.0f}{limit} W"), 3))
    if gpu.clock is not None:
        parts.append(Part(Content(f"{gpu.clock / 1000:.2f} GHz"), 4))
    if gpu.others:
        text = f"{gpu.others} other{'s' * (gpu.others > 1)}"
        parts.append(Part(Content.styled(text, "$warning"), 2))
    return parts


def process_lines(gpu: Gpu) -> list[Content]:
    """Return a line for each process on `gpu`."""
    return [_process(one) for one in gpu.processes]


def _process(one: GpuProcess) -> Content:
    memory = "" if one.memory is None else f"{gigabytes(one.memory)} GB"
    if one.mine:
        who: tuple[str, str] = ("this run", "bold")
    else:
        who = (one.user or "another", "$warning")
    return Content.assemble(f"{memory:>8}  ", who, _dim(f"  {one.name or 'a process'} {one.pid}"))


# -- where the time goes ------------------------------------------------------------------------------------

_WORDS = (
    ("waiting", "waiting for images", "$warning"),
    ("copying", "copying", "$third-curve"),
    ("computing", "computing", "$accent"),
    ("evaluating", "evaluating", "$success"),
    ("saving", "saving", "$evaluation-curve"),
)
_MOST = 0.5  # of the processors, from which on it is said that others have them
_REST = ("other", "$frame")


def _slices(shares: TimeShares) -> list[tuple[str, str, float]]:
    found = [(word, style, max(getattr(shares, name), 0.0)) for name, word, style in _WORDS]
    whole = max(sum(value for *_, value in found), 1.0)
    found.append((*_REST, whole - sum(value for *_, value in found)))
    return [(word, style, value / whole) for word, style, value in found if value / whole >= 0.005]


def time_bar(shares: TimeShares, width: int) -> Content:
    """Return a bar of `width` cells, divided as the time of a step is, with gaps that show without colour."""
    slices = _slices(shares)
    room = max(width - len(slices) + 1, len(slices))
    pieces, done, drawn = list[Content](), 0.0, 0
    for _, style, value in slices:
        done += value
        cells = max(round(done * room) - drawn, 1)
        drawn += cells
        pieces.append(Content.styled("█" * cells, style))
    return Content(" ").join(pieces)


def time_legend(shares: TimeShares, width: int) -> Content:
    """Return what the slices of the bar stand for, in their order; the smallest go where there is no room."""
    slices = _slices(shares)
    order = sorted(range(len(slices)), key=lambda index: -slices[index][2])
    gap = "   "
    parts = [Part(_entry(*one), order.index(index)) for index, one in enumerate(slices)]
    if sum(part.text.cell_length + len(gap) for part in parts) - len(gap) > width:
        gap = "  "
        short = [(w.removesuffix(" for images"), style, value) for w, style, value in slices]
        parts = [Part(_entry(*one), order.index(index)) for index, one in enumerate(short)]
    return fitting(parts, width, gap)


def busy_elsewhere(store: Store) -> str:
    """Return what to do where other programs have most of the processors; empty where they have not."""
    others = others_on_cpu(store.machine)
    if store.view.state != "running" or others is None or others < _MOST:
        return ""
    # Threads that wait for one that gets no processor cost more than they save.
    fewer = ", or set OMP_NUM_THREADS=1" if store.view.device.startswith("cpu") else ""
    return f"other programs use {others:.0%} of the CPU: stop them{fewer}"


def _entry(word: str, style: str, value: float) -> Content:
    return Content.assemble(("■ ", style), f"{word} ", (f"{100 * value:.0f}%", "bold"))
