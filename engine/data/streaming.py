"""Data sets that are read anew for every epoch, by threads, by worker processes, or by this thread."""

import math
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from finetui.engine.data.decoded_cache import CachedSource
from finetui.engine.data.reader_threads import MOST_THREADS, Loaded, Problem, ReaderThreads, Wanted
from finetui.engine.data.split import Source, Unreadable
from finetui.engine.data.transform import Augment, Batch, InputTransform, Transform
from finetui.engine.errors import BadInput, FinetuiError, reason_of

_MOST_PREFETCHED = 4  # batches, of each worker process or of all threads
_PREFETCHED_BYTES = 2**27  # of all workers: they lie in shared memory, of which containers have little
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAFE_PATH = "PYTHONSAFEPATH", "for finetui"  # an environment variable of Python's, and our mark
_GRACE_SECONDS = 5.0  # for an engine that was told to end to get to the next step, with the images for it


class _Images(Dataset[Any]):
    """What the workers get: the source, by index; a problem takes an image's place."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __getitem__(self, wanted: Wanted) -> tuple[Any, int] | Problem:
        index, seed = wanted
        try:
            return self._source.load(index, seed), int(self._source.labels[index])
        except Unreadable as problem:
            return index, f"{self._source.describe(index)}: {problem}"


def _collate(items: list[tuple[Any, int] | Problem]) -> Loaded:
    found = [item for item in items if not isinstance(item[1], str)]
    problems = [(item[0], item[1]) for item in items if isinstance(item[1], str)]
    if not found:
        return torch.empty(0, 1, 1, 1), torch.empty(0, dtype=torch.int64), problems
    images = torch.stack([torch.from_numpy(image) for image, _ in found])
    return images, torch.tensor([label for _, label in found]), problems


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Let the processes that are started meanwhile not hear what is sent to all of a terminal or job: Ctrl-C, SIGTERM.

    What that means the engine decides, which hears it in another thread. They inherit the mask: a handler would come
    too late for a fork server that still imports torch.
    """
    resource_tracker.ensure_running()  # the fork server would start it, and that clears the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _safe_path() -> Iterator[None]:
    """Let the Python processes that are started meanwhile not import from the current folder.

    The fork server would take a file there that is named as a library, `random.py`, for that. What a person's code
    starts does not inherit this: see `fork_server`.
    """
    name, value = SAFE_PATH
    if sys.flags.safe_path:  # which they inherit
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


def _start_worker(_number: int) -> None:
    """Make a worker end with the engine, or when that one says so, and with nothing else."""
    os.dup2(2, 1)  # what a person's dataset prints must not come between what the command line prints
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    for task in (_end_with_parent, _end_when_told):
        threading.Thread(target=task, daemon=True).start()


def _end_when_told() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "this runs in a worker"
    if not hasattr(signal, "sigwaitinfo"):  # macOS does not tell who has sent a signal
        signal.sigwait((signal.SIGTERM,))
        time.sleep(_GRACE_SECONDS)
        os._exit(1)
    while signal.sigwaitinfo((signal.SIGTERM,)).si_pid != parent.pid:
        pass  # sent to the whole job: the engine will say
    os._exit(1)


def _end_with_parent() -> None:
    # torch's own watch looks at the parent process, which is the fork server, and that one waits for its workers: an
    # engine that is killed would leave both behind for ever.
    parent = multiprocessing.parent_process()
    assert parent is not None, "this runs in a worker"
    wait([parent.sentinel])
    os._exit(1)


class _Plan:
    """The batch sampler: an explicit list of batches, so that an epoch can be continued where it was left."""

    def __init__(self) -> None:
        self.batches: list[list[Wanted]] = []

    def __iter__(self) -> Iterator[list[Wanted]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class StreamedSplit:
    """A training or test set that is read by `workers`, which start with the first batch; 0: by this thread.

    They are threads where the source can be read by several, up to `MOST_THREADS`, and else processes.
    """

    in_memory = False

    def __init__(self, source: Source, transform: Transform, device: torch.device, workers: int) -> None:
        self.labels = torch.from_numpy(source.labels)
        self.draws = source.draws
        self._source = source
        self._device = device
        self._workers = workers
        self._pins = device.type == "cuda"
        self._finish = InputTransform(transform, device, one_thread=self.reads_by_threads)
        self._plan = _Plan()
        self._loader: DataLoader[Any] | None = None
        self._reading: Generator[Loaded, None, None] | None = None
        self._processes: list[BaseProcess] = []
        self._turn = 0  # counts the iterations begun
        self.waited = self.copied = 0.0
        self.skipped: frozenset[int] = frozenset()
        self._problems: list[str] = []
        self._told: set[str] = set()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def reads_by_threads(self) -> bool:
        """Whether its workers are threads."""
        return self._source.threads > 1 and 1 <= self._workers <= MOST_THREADS

    def batches(
        self, order: Tensor, batch_size: int, augment: Augment | None = None, seeds: Tensor | None = None
    ) -> Iterator[Batch]:
        """Yield the images `order` in batches; see `Split`.

        Raises `BadInput` when a person's own dataset cannot be sent to workers, `FinetuiError` when one of these dies.
        """
        self._turn += 1
        turn = self._turn
        if self._reading is not None:
            self._reading.close()  # of an iteration that was given up: its threads would wait for it
        self._reading = self._awaited(self._loaded(order, batch_size, seeds))
        for images, labels, problems in self._reading:
            self.skipped = frozenset(index for index, _ in problems)
            self._note([text for _, text in problems])
            began = time.perf_counter()
            # Only CUDA's allocator keeps pinned memory for a copy that is still under way; on MPS it could be reused.
            on_device, labels = (part.to(self._device, non_blocking=self._pins) for part in (images, labels))
            self.copied += time.perf_counter() - began
            yield self._finish(on_device, augment) if len(labels) else on_device, labels
            # The workers now read for somebody else; going on would give their images.
            if turn != self._turn:
                raise RuntimeError("the data is being read from elsewhere, or closed, since this iteration began")

    def _awaited(self, loaded: Generator[Loaded, None, None]) -> Generator[Loaded, None, None]:
        """Yield what `loaded` does, and count the time that it takes to come."""
        with closing(loaded):
            began = time.perf_counter()
            for batch in loaded:
                self.waited += time.perf_counter() - began
                yield batch
                began = time.perf_counter()

    def _loaded(self, order: Tensor, batch_size: int, seeds: Tensor | None) -> Generator[Loaded, None, None]:
        if not len(order):
            return
        wanted = list(zip(order.tolist(), [None] * len(order) if seeds is None else seeds.tolist(), strict=True))
        batches = [wanted[start : start + batch_size] for start in range(0, len(wanted), batch_size)]
        if self.reads_by_threads:
            yield from self._by_threads(batches, min(batch_size, len(order)))
            return
        self._plan.batches = batches
        iterator = self._iterator(min(batch_size, len(order)))
        for _ in range(len(self._plan)):
            try:
                loaded: Loaded = next(iterator)
            except (RuntimeError, OSError, EOFError) as error:
                self._loader = None
                raise FinetuiError(
                    f"a worker process that reads images ended ({reason_of(error)}); memory, or shared memory "
                    "(/dev/shm), may have run out: use fewer --workers or a smaller --batch-size"
                ) from error
            yield loaded

    def _by_threads(self, batches: list[list[Wanted]], batch_size: int) -> Generator[Loaded, None, None]:
        # Two at least: while one is used, the next is complete but for the images that the slowest still read.
        ahead = min(_MOST_PREFETCHED, max(2, _PREFETCHED_BYTES // (batch_size * math.prod(self._source.shape))))
        pinned = self._device.type == "cuda"
        try:
            yield from ReaderThreads(self._source, batches, self._workers, ahead, pinned=pinned).batches()
        except (RuntimeError, OSError, MemoryError) as error:
            raise FinetuiError(
                f"the threads that read images failed ({reason_of(error) or type(error).__name__}); where memory, or "
                "memory that a GPU can read from, has run out, use fewer --workers or a smaller --batch-size"
            ) from error

    def _iterator(self, batch_size: int) -> Iterator[Loaded]:
        if self._loader is None:
            self._loader = self._start(batch_size)
        others = multiprocessing.active_children()
        try:
            with _safe_path(), _deaf_children():
                return iter(self._loader)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            self._loader = None
            raise BadInput(
                f"the dataset cannot be sent to worker processes ({reason_of(error)}); define its class at the "
                "top level of a module, or use --loader resident"
            ) from error
        except (RuntimeError, OSError, EOFError) as error:
            self._loader = None
            reason = reason_of(error) or type(error).__name__
            raise FinetuiError(
                f"the worker processes that read images cannot be started ({reason}); use fewer --workers, or "
                "--loader resident"
            ) from error
        finally:
            self._processes += [child for child in multiprocessing.active_children() if child not in others]

    def _start(self, batch_size: int) -> DataLoader[Any]:
        if not self._workers:
            return DataLoader(
                _Images(self._source), batch_sampler=self._plan, collate_fn=_collate, generator=torch.Generator()
            )
        # Not fork: the engine has threads, and CUDA does not survive a fork.
        methods = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        if "forkserver" in methods:
            context.set_forkserver_preload(["finetui.engine.data.fork_server"])
        batch_bytes = batch_size * math.prod(self._source.shape)
        return DataLoader(
            _Images(self._source),
            batch_sampler=self._plan,
            num_workers=self._workers,
            collate_fn=_collate,
            pin_memory=self._pins,
            prefetch_factor=max(1, min(_MOST_PREFETCHED, _PREFETCHED_BYTES // (batch_bytes * self._workers))),
            persistent_workers=True,
            multiprocessing_context=context,
            worker_init_fn=_start_worker,
            # The loader draws a number for its workers: not from the global generator, which is the training's.
            generator=torch.Generator(),
        )

    def _note(self, problems: list[str]) -> None:
        # The same file is unreadable in every epoch; it is told once.
        fresh = [problem for problem in problems if problem not in self._told]
        self._told.update(fresh)
        self._problems += fresh

    def with_transform(self, transform: Transform) -> "StreamedSplit":
        """Return the same images with another input transform, and workers of its own."""
        return StreamedSplit(self._source, transform, self._device, self._workers)

    def take_problems(self) -> list[str]:
        """Return the files that proved unreadable since the last call."""
        found, self._problems = self._problems, []
        return found + self._source.cache.take_trouble() if isinstance(self._source, CachedSource) else found

    def item(self, index: int) -> Tensor:
        """Return an image as it is decoded. Raises `Unreadable`."""
        return torch.from_numpy(self._source.load(index))

    def file(self, index: int) -> str:
        """Return the path of an image's file, if it has one."""
        return self._source.file(index)

    def close(self) -> None:
        """End the threads or worker processes."""
        self._turn += 1
        # The loader's iterator owns the processes and ends them when nothing refers to it any more.
        if self._reading is not None:
            self._reading.close()
        self._reading = self._loader = None
        for process in self._processes:
            process.kill()  # one that is stuck does not hear that it is to end
        self._processes = []
