"""Streaming with threads and with real worker processes: the same batches as from memory, in the order asked for."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from finetui.engine.data import ImageData, Transform, image_data, load, streaming
from finetui.engine.data.streaming import StreamedSplit
from finetui.engine.errors import BadInput, FinetuiError
from finetui.engine.protocol.config import DataConfig

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    chance = np.random.default_rng(0)
    for part, count in (("train", 15), ("test", 4)):
        for name in ("a", "b"):
            path = tmp_path / "p" / part / name
            path.mkdir(parents=True)
            for index in range(count):
                Image.fromarray(chance.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path / f"{index:02}.png")
    return tmp_path / "p"


@pytest.fixture
def by_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have worker processes read the files, as they do a person's own dataset."""
    monkeypatch.setattr(streaming, "MOST_THREADS", 0)


def readers() -> tuple[list[threading.Thread], set[psutil.Process]]:
    """Return the threads that read images, and the worker processes: children of the fork server, which stays."""
    family = psutil.Process()
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("finetui-images")]
    return threads, set(family.children(recursive=True)) - set(family.children())


def read(root: Path, loader: str) -> ImageData:
    return load(DataConfig(name=str(root), loader=loader, workers=1), CPU)


@pytest.mark.parametrize("how", ["threads", "processes"])
def test_streamed_batches_are_those_from_memory(folder: Path, how: str, request: pytest.FixtureRequest) -> None:
    if how == "processes":
        request.getfixturevalue("by_processes")
    streamed, resident = read(folder, "stream"), read(folder, "resident")
    assert streamed.loader.startswith("streamed by 1 worker, ")
    assert streamed.mean == pytest.approx(resident.mean)  # 30 images are fewer than the sample
    assert torch.equal(streamed.train.labels, resident.train.labels)
    assert torch.equal(streamed.train.item(3), resident.train.item(3))
    transform = Transform(mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2), height=16, width=16)
    ours, theirs = streamed.with_transform(transform).train, resident.with_transform(transform).train
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3))
    state = torch.get_rng_state()
    try:
        for wanted in (order, order[16:], order):  # an epoch, one that is continued, and another
            pairs = list(zip(ours.batches(wanted, 8), theirs.batches(wanted, 8), strict=True))
            assert sum(len(labels) for (_, labels), _ in pairs) == len(wanted)
            for (images, labels), (expected, expected_labels) in pairs:
                assert torch.equal(images, expected)
                assert torch.equal(labels, expected_labels)
        # An iteration that is given up half-way does not leak into the next, and cannot be taken up again.
        left = ours.batches(order, 8)
        next(left)
        _, labels = next(ours.batches(order.flip(0), 1))  # so many batches that its thread is not done
        assert torch.equal(labels, next(theirs.batches(order.flip(0), 1))[1])
        threads, workers = readers()
        assert len(workers) == (how == "processes")
        assert len(threads) <= (how == "threads")  # it may have read all that is left
        with pytest.raises(RuntimeError, match="read from elsewhere"):
            next(left)
        assert torch.equal(torch.get_rng_state(), state)  # it belongs to the training, and a resumed one restores it
    finally:
        ours.close()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    assert not any(thread.is_alive() for thread in threads)


def test_a_file_that_proves_unreadable_in_a_worker_is_left_out_and_told_once(folder: Path) -> None:
    data = read(folder, "stream")
    for index in (0, 1):
        os.truncate(folder / "train" / "a" / f"{index:02}.png", 60)
    try:
        for _ in range(2):
            batches = list(data.train.batches(torch.tensor([0, 1, 2, 3, 4, 0]), 2))
            assert [len(labels) for _, labels in batches] == [0, 2, 1]
        problems = data.train.take_problems()
        assert sorted(problem.partition(":")[0] for problem in problems) == ["train/a/00.png", "train/a/01.png"]
        assert data.train.take_problems() == []
    finally:
        data.train.close()


def test_the_size_against_free_memory_decides(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 38 * 3 * 64
    for free, loader in ((4 * size, "resident"), (4 * size - 4, "streamed")):
        monkeypatch.setattr(image_data, "free_memory", lambda _device, free=free: free)
        assert read(folder, "auto").loader.startswith(loader)
    assert read(folder, "resident").loader.startswith("resident")


def test_images_come_through_the_machines_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU with room for a set is of no use where the machine has none; here it is a pretended one."""
    cuda = torch.device("cuda")
    monkeypatch.setattr(image_data, "free_memory", lambda device: 10**12 if device.type == "cuda" else 7000)
    with pytest.raises(BadInput, match=r"--loader\): .* to be resident, .* is free; use stream or auto"):
        load(DataConfig(name=str(folder), loader="resident", workers=1), cuda)


def test_what_torch_keeps_of_a_gpus_memory_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _device: 200)
    assert image_data.free_memory(torch.device("cuda")) == 1300
    assert image_data.free_memory(CPU) == image_data.free_memory(torch.device("mps")) > 10**6


@pytest.mark.parametrize(("kind", "pins"), [("cuda", True), ("mps", False), ("cpu", False)])
def test_only_for_cuda_batches_are_pinned_and_not_waited_for(
    kind: str, pins: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = read(folder, "stream").train._source
    monkeypatch.setattr(
        "finetui.engine.data.streaming.InputTransform", lambda *_, **__: lambda images, _augment: images
    )
    copies: list[tuple[torch.device, bool]] = []

    def copy(tensor: torch.Tensor, device: torch.device, *, non_blocking: bool) -> torch.Tensor:
        copies.append((device, non_blocking))
        return tensor

    monkeypatch.setattr(torch.Tensor, "to", copy)
    split = StreamedSplit(source, Transform(mean=(0.5,), std=(0.5,)), torch.device(kind), workers=0)
    list(split.batches(torch.arange(8), 4))
    assert copies == [(torch.device(kind), pins)] * 4
    split._workers = 1
    assert split._start(4).pin_memory is pins


KILLED = """
import sys, psutil, torch
from finetui.engine.protocol.config import DataConfig
from finetui.engine.data import load, streaming
if __name__ == "__main__":
    streaming.MOST_THREADS = 0
    data = load(DataConfig(name=sys.argv[1], loader="stream", workers=1), torch.device("cpu"))
    batches = data.train.batches(torch.arange(30), 4)
    next(batches)
    print(*(process.pid for process in psutil.Process().children(recursive=True)), flush=True)
    sys.stdin.read()
"""


def test_workers_do_not_outlive_an_engine_that_is_killed(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "engine_to_kill.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as engine:
        helpers = [psutil.Process(int(pid)) for pid in engine.stdout.readline().split()]
        engine.kill()
    assert len(helpers) >= 2  # the worker, and the fork server
    gone, _ = psutil.wait_procs(helpers, timeout=60)
    assert len(gone) == len(helpers)


@pytest.mark.usefixtures("by_processes")
def test_a_worker_that_dies_is_said(folder: Path) -> None:
    split = read(folder, "stream").train
    try:
        batches = split.batches(torch.arange(30).repeat(40), 4)
        next(batches)
        for worker in readers()[1]:
            worker.kill()
        with pytest.raises(FinetuiError, match="a worker process that reads images ended"):
            list(batches)
    finally:
        split.close()


SIGNALLED = """if __name__ == "__main__":
    import signal, subprocess, sys
    import psutil, torch
    from finetui.engine.protocol.config import DataConfig
    from finetui.engine.data import load, streaming
    streaming.MOST_THREADS = 0
    data = load(DataConfig(name=sys.argv[1], loader="stream", workers=1), torch.device("cpu"))
    signal.signal(signal.SIGINT, lambda *_: print("heard", flush=True))
    signal.signal(signal.SIGTERM, lambda *_: print("heard", flush=True))
    batches = data.train.batches(torch.arange(30).repeat(20), 4)
    next(batches)
    job = [str(process.pid) for process in (psutil.Process(), *psutil.Process().children(recursive=True))]
    for name in ("-TERM", "-INT"):
        subprocess.run(["kill", name, *job], check=True)
    print(1 + sum(1 for _ in batches), flush=True)
"""


def test_signals_to_a_whole_terminal_or_job_are_the_engines_alone(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "signalled.py"
    script.write_text(SIGNALLED)
    done = subprocess.run([sys.executable, str(script), str(folder)], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["heard", "heard", "150"]


@pytest.mark.usefixtures("by_processes")
def test_a_worker_that_is_stuck_ends_with_its_split(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = read(folder, "stream").train
    next(split.batches(torch.arange(30).repeat(40), 4))
    (worker,) = readers()[1]
    assert worker.is_running()
    worker.suspend()
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)  # that PyTorch waits, twice
    split.close()
    gone, _ = psutil.wait_procs([worker], timeout=60)
    assert gone == [worker]


@pytest.mark.usefixtures("by_processes")
def test_a_process_that_somebody_else_forks_hears_signals(folder: Path) -> None:
    """Where the loader has started the fork server of all, which hears none."""
    split = read(folder, "stream").train
    next(split.batches(torch.arange(30), 4))
    other = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(100,))
    other.start()
    other.terminate()
    other.join(60)
    assert other.exitcode == -signal.SIGTERM
    split.close()


def test_known_sets_are_streamed_too_when_asked() -> None:
    data = load(DataConfig(name="mnist-sample", loader="stream", workers=1), CPU)
    resident = load(DataConfig(name="mnist-sample"), CPU)
    assert (data.mean, data.loader) == (resident.mean, "streamed by 1 worker, 3.9 MB")
    assert resident.loader.startswith("resident, 3.9 MB of ")
    order = torch.tensor([5, 3999, 0])
    try:
        for ours, theirs in zip(data.train.batches(order, 2), resident.train.batches(order, 2), strict=True):
            assert torch.equal(ours[0], theirs[0])
            assert torch.equal(ours[1], theirs[1])
    finally:
        data.train.close()
