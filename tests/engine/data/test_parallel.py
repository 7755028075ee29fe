import threading
import time

import pytest

from finetui.engine.data.parallel import for_each
from finetui.engine.errors import Cancelled


def test_quick_work_is_done_here_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetui.engine.data.parallel._SLOW_SECONDS", 1.0)
    done: list[tuple[int, str]] = []
    for_each(
        lambda index: done.append((index, threading.current_thread().name)),
        2000,
        tell=lambda _done: None,
        cancelled=lambda: False,
    )
    assert done == [(index, threading.current_thread().name) for index in range(2000)]


@pytest.mark.parametrize(("threads", "names"), [(1, 1), (3, 4)])
def test_slow_work_is_shared_and_told_in_moderation(threads: int, names: int) -> None:
    done: list[tuple[int, str]] = []
    told: list[int] = []
    here, met, all_there = threading.current_thread(), set(), threading.Barrier(max(threads, 2))

    def work(index: int) -> None:
        time.sleep(0.005)
        if threads > 1 and threading.current_thread() is not here and len(met) < threads:
            met.add(threading.current_thread())
            all_there.wait(60)  # or a quick one could do all of it
        done.append((index, threading.current_thread().name))

    started = time.monotonic()
    for_each(work, 120, tell=told.append, cancelled=lambda: False, threads=threads)
    assert sorted(index for index, _ in done) == list(range(120))
    assert len({name for _, name in done}) == names
    assert told == sorted(told)
    assert told[-1] == 120
    assert len(told) <= 12 * (time.monotonic() - started) + 1


@pytest.mark.parametrize("threads", [1, 3])
def test_it_stops_soon_when_cancelled(threads: int) -> None:
    done: list[int] = []

    def work(index: int) -> None:
        time.sleep(0.01)
        done.append(index)

    with pytest.raises(Cancelled):
        for_each(work, 10_000, tell=lambda _done: None, cancelled=lambda: len(done) > 20, threads=threads)
    assert len(done) < 5_000


@pytest.mark.parametrize("bad", [0, 60])
def test_what_goes_wrong_is_raised(bad: int) -> None:
    def work(index: int) -> None:
        time.sleep(0.003)
        if index == bad:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        for_each(work, 10_000, tell=lambda _done: None, cancelled=lambda: False, threads=3)
