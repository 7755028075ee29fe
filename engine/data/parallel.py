"""Work on many images one by one: with progress, prompt cancellation, and threads where they help."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from finetui.engine.errors import Cancelled

THREADS = 4
_SLOW_SECONDS = (
    0.0005  # for one call: faster ones spend most of it in Python, where threads only get in each other's way
)
_TRIAL_SECONDS = 0.1
_TELL_SECONDS = 0.1


def for_each(
    work: Callable[[int], None],
    count: int,
    *,
    tell: Callable[[int], None],
    cancelled: Callable[[], bool],
    threads: int = THREADS,
) -> None:
    """Call `work` with every index below `count`; in `threads` threads if a call proves slow, else here, in order.

    `tell(done)` is called at most ten times a second, and at the end. Raises `Cancelled` soon after `cancelled` answers
    True, and what `work` raises.
    """
    done = _here(work, count, tell, cancelled, threads)
    if done < count:
        _in_threads(work, done, count, tell, cancelled, threads)
    tell(count)


def _check(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise Cancelled("reading the data was cancelled")


def _here(
    work: Callable[[int], None],
    count: int,
    tell: Callable[[int], None],
    cancelled: Callable[[], bool],
    threads: int,
) -> int:
    """Work in this thread, and return how far it came before threads seemed better."""
    _check(cancelled)
    started = looked = time.monotonic()
    for index in range(count):
        work(index)
        now = time.monotonic()
        if now - looked < _TELL_SECONDS:
            continue
        _check(cancelled)
        tell(index + 1)
        looked = now
        if threads > 1 and now - started >= _TRIAL_SECONDS and (now - started) / (index + 1) > _SLOW_SECONDS:
            return index + 1
    return count


def _in_threads(
    work: Callable[[int], None],
    first: int,
    count: int,
    tell: Callable[[int], None],
    cancelled: Callable[[], bool],
    threads: int,
) -> None:
    lock = threading.Lock()
    stopped = threading.Event()
    waiting = iter(range(first, count))
    done = first

    def worker() -> None:
        nonlocal done
        while not stopped.is_set():
            with lock:
                index = next(waiting, None)
            if index is None:
                return
            work(index)
            with lock:
                done += 1

    with ThreadPoolExecutor(threads, thread_name_prefix="finetui-images") as pool:
        futures = [pool.submit(worker) for _ in range(threads)]
        try:
            while True:
                finished, going = wait(futures, _TELL_SECONDS, FIRST_EXCEPTION)
                for future in finished:
                    future.result()
                if not going:
                    return
                _check(cancelled)
                tell(done)
        finally:
            stopped.set()
