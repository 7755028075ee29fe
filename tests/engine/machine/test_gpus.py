"""What is read of GPUs: NVIDIA's by a driver that is made up, AMD's from files like those of its driver."""

import math
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_nvml import GB, FakeNvml, process

from finetui.engine.machine import nvidia
from finetui.engine.machine.amd import AmdGpus
from finetui.engine.machine.nvidia import NvidiaGpus
from finetui.engine.protocol.machine import Gpu

QUESTIONS = tuple(FakeNvml().answers)


def test_all_figures_of_a_gpu_in_their_units() -> None:
    (gpu,) = NvidiaGpus(FakeNvml()).read(())
    assert gpu == Gpu(
        index=0,
        name="NVIDIA GeForce RTX 4090",
        use=0.97,
        memory_used=11 * GB,
        memory_total=24 * GB,
        temperature=71,
        power=310.5,
        power_limit=450,
        clock=2520,
        clock_limit=3105,
        process_count=0,
    )
    assert gpu.others == 0


def test_who_is_on_it_with_this_run_first() -> None:
    found = [process(10, 3 * GB), process(os.getpid(), GB), process(2**22 + 5, 5 * GB)]
    (gpu,) = NvidiaGpus(FakeNvml(nvmlDeviceGetComputeRunningProcesses=found)).read({os.getpid()})
    assert [(one.pid, one.mine) for one in gpu.processes] == [(os.getpid(), True), (2**22 + 5, False), (10, False)]
    assert gpu.processes[0].name and gpu.processes[0].user
    assert gpu.processes[1].name == "", "there is no such process"
    assert gpu.others == 2


def test_of_a_crowd_the_largest_are_told_and_all_counted() -> None:
    crowd = [process(2**22 + n, n * GB) for n in range(1, 40)]
    (gpu,) = NvidiaGpus(FakeNvml(nvmlDeviceGetComputeRunningProcesses=crowd)).read(())
    assert len(gpu.processes) == 8 and gpu.processes[0].memory == 39 * GB
    assert gpu.process_count == gpu.others == 39


@pytest.mark.parametrize("silent", [*QUESTIONS, "nvmlDeviceGetHandleByIndex"])
def test_what_a_gpu_does_not_tell_is_left_out(silent: str) -> None:
    gpus = NvidiaGpus(FakeNvml(2, silent=(silent,)))
    assert gpus.problem == ""
    assert [gpu.index for gpu in gpus.read(())] == [0, 1]


def test_of_a_gpu_that_tells_nothing_there_is_its_number() -> None:
    assert NvidiaGpus(FakeNvml(silent=QUESTIONS)).read(()) == (Gpu(index=0),)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -5, None, "97", 2**64 - 1])
def test_odd_values_are_none_or_in_range(odd: object) -> None:
    changed = {
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=odd, total=odd),
        "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=odd),
        "nvmlDeviceGetTemperature": odd,
        "nvmlDeviceGetComputeRunningProcesses": [process(1, odd)],  # type: ignore[arg-type]
    }
    (gpu,) = NvidiaGpus(FakeNvml(**changed)).read(())
    assert gpu.memory_used is None and gpu.memory_total is None and gpu.processes[0].memory is None
    assert gpu.use is None or gpu.use == 1.0
    assert gpu.temperature is None or math.isfinite(gpu.temperature)


def test_a_name_cannot_steer_a_terminal() -> None:
    (gpu,) = NvidiaGpus(FakeNvml(nvmlDeviceGetName=b"evil\x1b[2J\xff")).read(())
    assert gpu.name.startswith("evil") and gpu.name.isprintable()


@pytest.mark.parametrize("failure", [FakeNvml.NVML_ERROR_LIBRARY_NOT_FOUND, FakeNvml.NVML_ERROR_DRIVER_NOT_LOADED])
def test_without_a_driver_it_says_so(failure: int) -> None:
    assert NvidiaGpus(FakeNvml(failure=failure)).problem == "no NVIDIA driver on this machine"


def test_a_driver_that_fails_or_has_no_gpu_is_told() -> None:
    assert NvidiaGpus(FakeNvml(failure=18)).problem == "the NVIDIA driver does not answer: error 18"
    assert NvidiaGpus(FakeNvml(count=0)).problem == "the NVIDIA driver finds no GPU"


def test_without_the_library_it_says_what_to_install_if_that_would_help(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(nvidia, "_DRIVER_FILES", (str(tmp_path),))
    assert NvidiaGpus().problem == "nvidia-ml-py is not installed: pip install nvidia-ml-py"
    monkeypatch.setattr(nvidia, "_DRIVER_FILES", (str(tmp_path / "none"),))
    assert NvidiaGpus().problem == "no NVIDIA driver on this machine"


# -- AMD ----------------------------------------------------------------------------------------------------


def _card(cards: Path, name: str, **files: str) -> None:
    device = cards / name / "device"
    for path, text in files.items():
        place = device / path.replace("__", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text + "\n")


def test_amd_gpus_are_read_from_files(tmp_path: Path) -> None:
    sensors = {
        "hwmon__hwmon3__temp1_input": "54000",
        "hwmon__hwmon3__power1_average": "173000000",
        "hwmon__hwmon3__power1_cap": "300000000",
        "hwmon__hwmon3__freq1_input": "1700000000",
    }
    memory = {"mem_info_vram_used": "4294967296", "mem_info_vram_total": "68719476736"}
    _card(tmp_path, "card10", gpu_busy_percent="3", product_name="")
    _card(tmp_path, "card1", gpu_busy_percent="88", product_name="AMD Instinct MI250X", **memory, **sensors)
    _card(tmp_path, "card0", vendor="0x8086")  # another maker's
    (tmp_path / "card1-HDMI-A-1").mkdir()
    first, second = AmdGpus(tmp_path).read()
    assert first == Gpu(
        index=0,
        name="AMD Instinct MI250X",
        use=0.88,
        memory_used=4 * GB,
        memory_total=64 * GB,
        temperature=54.0,
        power=173.0,
        power_limit=300.0,
        clock=1700.0,
    )
    assert first.others is None
    assert second == Gpu(index=1, name="AMD GPU", use=0.03)


def test_broken_files_of_amd_are_no_figures(tmp_path: Path) -> None:
    _card(tmp_path, "card0", gpu_busy_percent="n/a", mem_info_vram_used="-1", hwmon__hwmon0__power1_input="12000000")
    (gpu,) = AmdGpus(tmp_path).read()
    assert gpu == Gpu(index=0, name="AMD GPU", power=12.0)
