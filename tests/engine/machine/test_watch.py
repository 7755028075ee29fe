"""A look at this machine, the mean of many, and what of them reaches the journal."""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_nvml import GB, FakeNvml

from finetui.engine.machine import watch
from finetui.engine.machine.averages import average
from finetui.engine.machine.container import Container
from finetui.engine.machine.processes import EngineProcesses
from finetui.engine.machine.sampler import Sampler
from finetui.engine.machine.watch import MachineWatch, journal_seconds
from finetui.engine.protocol.events import Log, MachineSample, ThinnedPoint, TrainPoint
from finetui.engine.protocol.machine import Gpu, GpuProcess, Machine
from finetui.engine.runs.journal import Journal, JournalReader, encode_line
from finetui.engine.runs.reporter import Reporter
from finetui.engine.runs.thinning import thinned

# -- a look -------------------------------------------------------------------------------------------------


def test_a_look_at_this_machine(tmp_path: Path) -> None:
    sampler = Sampler(nvml=FakeNvml(2))
    sampler.folder = tmp_path
    first = sampler.read()
    assert first.cpu is None and first.engine_cpu is None and first.disk_written is None, "the first has no rates"
    (tmp_path / "file").write_bytes(os.urandom(2**20))
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    now = sampler.read()
    assert now.cpu is not None and 0 < now.cpu <= 1
    assert now.engine_cpu is not None and 0 < now.engine_cpu <= 1
    assert now.memory_used is not None and now.memory_total is not None and 0 < now.memory_used < now.memory_total
    assert now.engine_memory is not None and now.engine_memory > 10 * 2**20
    assert now.disk_free is not None and now.disk_total is not None and 0 < now.disk_free <= now.disk_total
    assert now.cores >= 0.01 and now.host
    assert [gpu.use for gpu in now.gpus] == [0.97, 0.97]


def test_the_limits_of_a_container_count(tmp_path: Path) -> None:
    (tmp_path / "fs").mkdir()
    files = {"memory.max": 2**30, "memory.current": 2**29, "cpu.max": "50000 100000", "cpu.stat": "usage_usec 1000000"}
    for name, text in files.items():
        (tmp_path / "fs" / name).write_text(f"{text}\n")
    (tmp_path / "cgroup").write_text("0::/\n")
    now = [0.0]
    sampler = Sampler(nvml=FakeNvml(), container=Container(tmp_path / "fs", tmp_path / "cgroup"), clock=lambda: now[0])
    sampler.read()
    (tmp_path / "fs" / "cpu.stat").write_text("usage_usec 1500000\n")
    now[0] = 2.0
    seen = sampler.read()
    assert (seen.contained, seen.cores, seen.cpu) == (True, 0.5, 0.5), "half a second of two, of half a core"
    assert (seen.memory_used, seen.memory_total) == (2**29, 2**30)


def _wait(barrier: Any, end: Any) -> None:
    barrier.wait()
    end.wait()


def test_workers_belong_to_the_engine_and_what_they_used_stays_counted() -> None:
    context = multiprocessing.get_context("spawn")
    barrier, end = context.Barrier(2), context.Event()
    worker = context.Process(target=_wait, args=(barrier, end))
    worker.start()
    barrier.wait(60)
    processes = EngineProcesses()
    alone = processes._own.memory_info().rss
    with_worker = processes.usage()
    assert worker.pid in processes and os.getpid() in processes and 1 not in processes
    assert processes.workers >= 1  # and multiprocessing's own helper
    assert with_worker.memory > alone
    end.set()
    worker.join()
    processes._looked_at -= 3600
    after = processes.usage()
    assert worker.pid not in processes
    assert after.cpu >= with_worker.cpu, "processor time never falls"


# -- means --------------------------------------------------------------------------------------------------


def _machine(cpu: float | None, memory: int, use: float | None = 0.5) -> Machine:
    gpu = Gpu(index=0, use=use, memory_used=memory, temperature=60.0, processes=(GpuProcess(pid=memory),))
    return Machine(cores=2, cpu=cpu, memory_used=memory, memory_total=99, disk_free=memory, gpus=(gpu,))


def test_the_mean_is_weighted_by_time_and_memory_is_the_most() -> None:
    mean = average([(1.0, _machine(0.2, 5)), (3.0, _machine(0.6, 7)), (4.0, _machine(None, 6, None))])
    assert mean.cpu == pytest.approx(0.5)
    assert (mean.memory_used, mean.memory_total, mean.disk_free) == (7, 99, 6)
    assert mean.gpus[0].use == 0.5 and mean.gpus[0].memory_used == 7
    assert mean.gpus[0].processes == (GpuProcess(pid=6),), "the newest"


def test_the_mean_of_one_is_itself_and_of_nothing_an_error() -> None:
    assert average([(0.0, _machine(0.25, 5))]) == _machine(0.25, 5)
    with pytest.raises(ValueError, match="nothing"):
        average([])


# -- the journal --------------------------------------------------------------------------------------------


def _large(gpus: int) -> MachineSample:
    processes = tuple(GpuProcess(pid=10**6 + n, memory=GB, name="python3.11", user="somebody") for n in range(8))
    figures: dict[str, Any] = {
        "name": "NVIDIA H100 80GB HBM3",
        "use": 0.9731,
        "memory_used": 70 * GB,
        "memory_total": 80 * GB,
        "temperature": 61.25,
        "power": 655.1234,
        "power_limit": 700.0,
        "clock": 1755.5,
        "clock_limit": 1980.0,
        "process_count": 8,
    }
    found = tuple(Gpu(index=n, processes=processes[: 2 if gpus > 1 else 8], **figures) for n in range(gpus))
    return MachineSample(
        machine=Machine(host="node01", cores=128.0, cpu=0.5123, memory_used=GB, gpus=found), seconds=60.1
    )


@pytest.mark.parametrize(("gpus", "megabytes"), [(0, 0.5), (1, 3), (8, 8)])
def test_a_week_grows_the_journal_by_a_few_megabytes(gpus: int, megabytes: float) -> None:
    at, samples = 0.0, 0
    while at < 7 * 86_400:
        at += journal_seconds(at)
        samples += 1
    assert samples < 2500
    assert samples * len(encode_line(_large(gpus))) < megabytes * 1e6


class _StandingClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[_StandingClock]:
    clock = _StandingClock()
    monkeypatch.setattr(watch.time, "monotonic", clock)
    yield clock


def test_the_journal_gets_the_mean_of_what_was_seen_since(clock: _StandingClock) -> None:
    seen = MachineWatch(lambda _sample: None)
    assert seen.due() is None
    for cpu in (0.2, 0.4):
        seen._looks.append((5.0, _machine(cpu, 5)))
    clock.now += 9.9
    assert seen.due() is None, "too early"
    clock.now += 0.1
    sample = seen.due()
    assert sample is not None and sample.seconds == 10.0
    assert sample.machine.cpu == pytest.approx(0.3)
    assert seen.due() is None
    clock.now += 3600
    assert seen.due() is None, "nothing was seen meanwhile"


def test_samples_have_their_step_and_place_in_the_journal(tmp_path: Path) -> None:
    samples = [None, MachineSample(machine=_machine(0.5, 5), seconds=10.0)]
    journal, heard = Journal(), list[Any]()
    journal.open(tmp_path / "journal.jsonl")
    reporter = Reporter(journal, [heard.append], lambda: 17, lambda: samples.pop() if samples else None)
    reporter.emit(Log(level="info", message="one"), Log(level="info", message="two"))
    reporter.look_at_machine()
    journal.close()
    found = list(JournalReader(tmp_path / "journal.jsonl").read())
    assert found == heard
    assert [(type(event).__name__, event.seq, event.step) for event in found] == [
        ("Log", 0, 17),
        ("Log", 1, 17),
        ("MachineSample", 2, 17),
    ]


def test_samples_among_points_do_not_make_a_long_history_longer(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with path.open("wb") as file:
        for seq in range(4000):
            if seq % 40 == 39:
                event: Any = MachineSample(machine=_machine(0.5, 5), seconds=10.0, seq=seq)
            else:
                figures = {"loss": float(seq), "accuracy": 0.5, "learning_rate": 0.1, "grad_norm": 1.0}
                event = TrainPoint(
                    epoch=1, step_in_epoch=1, steps=1, samples_per_second=1.0, seq=seq, step=seq, **figures
                )
            file.write(encode_line(event))
    reader = JournalReader(path)
    found = list(thinned(reader, reader.glances(), 300 * 1024 * 400))
    assert sum(isinstance(event, MachineSample) for event in found) == 100
    points = [event for event in found if isinstance(event, ThinnedPoint)]
    assert len(points) < 60, "buckets of 400 points, whatever stands between them"
    assert points[-1].loss == 3998.0


# -- the thread ---------------------------------------------------------------------------------------------


def test_it_looks_in_its_own_thread_until_it_is_left(tmp_path: Path) -> None:
    heard: list[MachineSample] = []
    came = threading.Event()

    def hear(sample: MachineSample) -> None:
        heard.append(sample)
        came.set()

    with MachineWatch(hear, lambda: Sampler(nvml=FakeNvml(silent=("nvmlDeviceGetPowerUsage",)))) as seen:
        seen.settle(tmp_path)
        assert came.wait(60)
    assert heard[0].seq == -1 and heard[0].time > 0
    assert heard[0].machine.cpu is not None and heard[0].machine.disk_free is not None
    assert heard[0].machine.gpus[0].power is None
    assert not seen._thread.is_alive()


class _Broken(Sampler):
    def read(self) -> Machine:
        raise ZeroDivisionError("a driver's bug")


def test_a_look_that_fails_is_said_once_and_ends_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    with MachineWatch(lambda _sample: None, lambda: _Broken(nvml=FakeNvml())) as seen:
        seen._thread.join(60)
        assert not seen._thread.is_alive()
        said = seen.due()
        assert isinstance(said, Log) and said.level == "warning"
        assert "a driver's bug" in said.message
        assert seen.due() is None
    assert capfd.readouterr().err == ""


def test_a_look_that_never_ends_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_LEAVE_SECONDS", 0.05)
    asked, answer = threading.Event(), threading.Event()

    class Hanging(Sampler):
        def read(self) -> Machine:
            asked.set()
            assert answer.wait(60), "leaving has waited for it"
            return super().read()

    with MachineWatch(lambda _sample: None, lambda: Hanging(nvml=FakeNvml())) as seen:
        assert asked.wait(60)
    assert seen._thread.is_alive() and seen._thread.daemon
    answer.set()
    seen._thread.join(60)
    assert not seen._thread.is_alive()
