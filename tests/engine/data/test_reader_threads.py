"""Threads that read images: in order, not too far ahead, and gone when nobody wants their images any more."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from finetui.engine.data import Transform, Unreadable, reader_threads
from finetui.engine.data.reader_threads import ReaderThreads
from finetui.engine.data.streaming import StreamedSplit
from finetui.engine.errors import FinetuiError

CPU = torch.device("cpu")


class Numbers:
    """Images of one pixel, which is their index; 13 is unreadable. `gate` holds up who reads `held`."""

    threads = 4
    draws = False
    shape = (1, 1, 1)
    labels = np.arange(100) % 7

    def __init__(self, held: int = -1) -> None:
        self.gate = threading.Event()
        self.held = held
        self.asked: list[int] = []

    def load(self, index: int, _seed: int | None = None) -> npt.NDArray[np.uint8]:
        self.asked.append(index)
        if index == self.held:
            self.gate.wait()
        if index == 13:
            raise Unreadable("no luck")
        if index == 99:
            raise ZeroDivisionError("a bug")
        return np.full(self.shape, index, dtype=np.uint8)

    def describe(self, index: int) -> str:
        return f"number {index}"

    def file(self, _index: int) -> str:
        return ""


def alive() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("finetui-images")]


def reading(source: Numbers, batches: list[list[int]], threads: int = 3, ahead: int = 2) -> ReaderThreads:
    return ReaderThreads(source, [[(i, None) for i in batch] for batch in batches], threads, ahead, pinned=False)


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_batches_come_in_order_without_what_is_unreadable(threads: int) -> None:
    source = Numbers()
    wanted = [[5, 3, 13], [13], [7, 7], [*range(50, 90)], [1]]
    found = list(reading(source, wanted, threads).batches())
    for (images, labels, problems), batch in zip(found, wanted, strict=True):
        good = [index for index in batch if index != 13]
        assert images.flatten().tolist() == good
        assert labels.tolist() == source.labels[good].tolist()
        assert problems == [(13, "number 13: no luck")] * (13 in batch)
    assert not alive()


def test_an_image_that_is_late_keeps_its_place_and_the_others_are_not_read_for_ever() -> None:
    source = Numbers(held=20)
    wanted = [[index, index + 1] for index in range(20, 80, 2)]
    batches = reading(source, wanted).batches()
    threading.Timer(0.3, source.gate.set).start()
    first = next(batches)
    assert first[0].flatten().tolist() == [20, 21]
    assert max(source.asked) <= 25  # in the one that was given, or in two ahead of it
    assert [batch[0].flatten().tolist() for batch in batches] == wanted[1:]


def test_what_goes_wrong_is_raised_where_the_batch_is_waited_for() -> None:
    with pytest.raises(ZeroDivisionError, match="a bug"):
        list(reading(Numbers(), [[1, 2], [99, 3], [4, 5]]).batches())
    assert not alive()


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), RuntimeError("CUDA error"), MemoryError()])
def test_what_readers_lack_is_said_in_a_sentence(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def lack(*_: object) -> None:
        raise error

    monkeypatch.setattr(ReaderThreads, "_put", lack)
    split = StreamedSplit(Numbers(), Transform(mean=(0.0,), std=(1.0,)), CPU, 2)
    with pytest.raises(FinetuiError, match=r"threads that read images failed \((Too|CUDA|Mem).*use fewer --workers"):
        list(split.batches(torch.arange(6), 2))
    assert not alive()


def test_an_iteration_that_is_given_up_leaves_no_thread() -> None:
    split = StreamedSplit(Numbers(), Transform(mean=(0.0,), std=(1.0,)), CPU, 2)
    left = split.batches(torch.arange(60), 2)
    next(left)
    assert len(alive()) == 2
    (_, labels) = next(split.batches(torch.arange(60).flip(0), 2))
    assert labels.tolist() == [3, 2]
    assert len(alive()) == 2
    split.close()
    assert not alive()
    with pytest.raises(RuntimeError, match="read from elsewhere"):
        next(left)


def test_a_read_that_is_stuck_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_threads, "_LEAVE_SECONDS", 0.05)
    source = Numbers(held=4)
    split = StreamedSplit(source, Transform(mean=(0.0,), std=(1.0,)), CPU, 2)
    next(split.batches(torch.arange(60), 2))
    while 4 not in source.asked:
        pass
    split.close()
    (stuck,) = alive()
    source.gate.set()
    stuck.join(60)
    assert not stuck.is_alive()
    assert 20 not in source.asked


STUCK = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from test_reader_threads import CPU, Numbers, StreamedSplit, Transform
split = StreamedSplit(Numbers(held=4), Transform(mean=(0.0,), std=(1.0,)), CPU, 2)
next(split.batches(torch.arange(10), 2))
split.close()
print("closed")
"""


def test_a_process_ends_with_a_read_that_is_stuck() -> None:
    folder = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", STUCK, folder], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "closed\n"), done.stderr


def test_many_workers_are_processes() -> None:
    """Which many threads would not be as fast as; and what one thread alone may read is never given to several."""
    assert Numbers.threads > 1
    for workers, by_threads in (
        (1, True),
        (reader_threads.MOST_THREADS, True),
        (reader_threads.MOST_THREADS + 1, False),
    ):
        split = StreamedSplit(Numbers(), Transform(mean=(0.0,), std=(1.0,)), CPU, workers)
        assert split.reads_by_threads == by_threads
    alone = Numbers()
    alone.threads = 1
    assert not StreamedSplit(alone, Transform(mean=(0.0,), std=(1.0,)), CPU, 2).reads_by_threads
