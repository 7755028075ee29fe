"""The run of a person's own training loop, seen and steered like finetui's."""

import atexit
import functools
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Generic, Literal, ParamSpec, Self, TypeVar, get_args

from torch import Tensor

from finetui.engine.errors import BadInput, FinetuiError, describe
from finetui.engine.protocol.values import Part
from finetui.engine.watching.loop import Loop
from finetui.engine.watching.loop_meter import ALWAYS, NEVER, LoopMeter

_T = TypeVar("_T")
_R = TypeVar("_R")
_P = ParamSpec("_P")


class RunStopped(BaseException):
    """A person has stopped the run from a dashboard: raised where the loop would begin another epoch.

    It leaves the `with` block of the run, which lets it go no further. Like a KeyboardInterrupt it is no `Exception`.
    """


class Steps(Generic[_T]):
    """The batches of a loader, one a step; iterating over them is an epoch."""

    def __init__(self, run: "WatchedRun", loader: Iterable[_T]) -> None:
        self._run = run
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)  # type: ignore[arg-type]  # a loader without a length has none here

    def __iter__(self) -> Iterator[_T]:
        run = self._run
        if run.stopped:
            raise RunStopped
        run._begin_epoch(self._loader)
        batches, first = iter(self._loader), True
        while True:
            began = perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                run._end_epoch()
                return
            waited = perf_counter() - began
            if first:
                first = False
                run._waited(0.0, batch)
            if not run.before_step():
                return
            yield batch
            try:
                samples = _samples(batch)
            except Exception as error:  # noqa: BLE001  # a batch may be anything
                run._failed(error)
                samples = 0
            run.after_step(samples, waited)


def _samples(batch: Any) -> int:
    """Return how many images a batch has: the length of the first tensor in it; 0 where that is not seen."""
    parts = batch
    if isinstance(batch, Tensor):
        parts = (batch,)
    elif not isinstance(batch, (tuple, list)):
        # Asked for first, for whether something is a Mapping takes a while to find out.
        parts = batch.values() if hasattr(batch, "values") and isinstance(batch, Mapping) else ()
    for part in parts:
        found = (part.size(0) if part.ndim else 0) if isinstance(part, Tensor) else _samples(part)
        if found:
            return found
    return 0


def _known(part: Any) -> Part:
    if part not in get_args(Part):
        raise BadInput(f"part must be one of {', '.join(map(repr, get_args(Part)))}, not {part!r}")
    return part  # type: ignore[no-any-return]


def _whole(name: str, value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise BadInput(f"{name} must be a whole number, and is a {type(value).__name__}") from error


def _harmless(otherwise: _R) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Let nothing that goes wrong in a method reach the loop: it returns `otherwise`, and the run is watched no more.

    What the loop gave wrongly is said in a warning, and the rest is as if it had not been given.
    """

    def wrap(method: Callable[_P, _R]) -> Callable[_P, _R]:
        @functools.wraps(method)
        def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            run: WatchedRun = args[0]  # type: ignore[assignment]
            if not run.active:
                run._say_why_not(method.__name__)
                return otherwise
            try:
                return method(*args, **kwargs)
            except Exception as error:  # noqa: BLE001  # nothing here is worth a training
                run._failed(error)
            return otherwise

        return guarded

    return wrap


class WatchedRun:
    """A loop's run: a context manager, made by `watch`. On another rank than the first, and in a forked child, it does
    nothing.

    Its methods raise nothing: what is wrong with their arguments is said in a Python warning and in the run's log.
    """

    def __init__(self, make: Callable[[], Loop] | None) -> None:
        self._make = make
        self._loop: Loop | None = None
        self._meter = LoopMeter(NEVER)
        self._asked: Sized = ()  # what a loop is to do before its next step
        self._warned: set[str] = set()
        self._entered = self._was_stopped = False
        self._folder: Path | None = None
        self._raised_before = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return WatchedRun, (None,)  # a copy, in another process say, watches nothing

    def __enter__(self) -> Self:
        """Make the run's folder, and let dashboards attach."""
        self._entered = True
        if self._make is not None and self._loop is None:
            try:
                self._loop = self._make()
                self._folder = self._loop.record.folder.path
                self._meter, self._asked = self._loop.meter, self._loop.record.commands.waiting
            except FinetuiError as error:
                self._warn(f"finetui watches nothing: {error}")
            except Exception as error:  # noqa: BLE001  # no training is worth less for it
                self._warn(f"finetui watches nothing: {describe(error)}")
            atexit.register(self._leave)
            self._raised_before = id(getattr(sys, "last_value", None))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> bool:
        """End the run: as finished, stopped or crashed. What was raised goes on, but for a `RunStopped`."""
        atexit.unregister(self._leave)
        if self.active and self._loop is not None:
            loop, self._loop = self._loop, None
            self._was_stopped = loop.stopped
            try:
                loop.close(*_ending(error))
            except Exception as problem:  # noqa: BLE001  # what the loop has raised must not be hidden by it
                loop.abandon(problem)
        return kind is RunStopped

    def _leave(self) -> None:
        """End a run that nobody has left, with the process."""
        error = getattr(sys, "last_value", None)  # what has ended the process, once its traceback was printed
        if id(error) == self._raised_before:  # in a notebook: of a cell before the run
            error = None
        self.__exit__(type(error) if error is not None else None, error, None)

    @property
    def active(self) -> bool:
        """Whether the loop is watched here."""
        return self._loop is not None and self._loop.record.is_ours

    @property
    def stopped(self) -> bool:
        """Whether a person has told the run to stop."""
        return self._loop.stopped if self._loop is not None else self._was_stopped

    @property
    def folder(self) -> Path | None:
        """The run's folder, also after its end; None where there is none."""
        return self._folder

    def steps(self, loader: Iterable[_T]) -> Steps[_T]:
        """Return the batches of `loader`, with what was told from dashboards obeyed before each; an epoch each time.

        Raises `RunStopped` for another epoch of a run that was stopped.
        """
        return Steps(self, loader)

    # These three are called at each step, and cost it next to nothing as long as nobody wants anything.

    def before_step(self) -> bool:
        """Obey what has come; wait while the run is paused. Return False once it was told to stop."""
        return True if self._meter.look_at > ALWAYS and not self._asked else self._obey()

    def after_step(self, samples: int = 0, waited: float = 0.0) -> None:
        """Count a step, over `samples` images, whose batch was waited for so many seconds."""
        try:
            meter, now = self._meter, perf_counter()
            meter.samples += samples if type(samples) is int else _whole("samples", samples)
            meter.waiting += waited
            meter.steps += 1
            meter.stepped_at = now
            if now >= meter.look_at and self._loop is not None:
                self._loop.after_step()
        except Exception as error:  # noqa: BLE001  # nothing here is worth a training
            self._failed(error)

    def log(self, **metrics: Any) -> None:
        """Take numbers or tensors of one element that belong to this step, `loss` and `accuracy` (0 to 1) above all.

        Nothing waits for the device: what came since the last point is read together, ten times a second at most.
        """
        try:
            if self._meter.look_at < NEVER:
                self._meter.log(metrics)
        except Exception as error:  # noqa: BLE001  # as above
            self._failed(error)

    @_harmless(True)
    def _obey(self) -> bool:
        assert self._loop is not None, "it is active"
        return self._loop.before_step()

    @_harmless(None)
    def epoch(self, number: int) -> None:
        """Let epoch `number`, from 1, begin; `steps` counts them itself."""
        assert self._loop is not None, "it is active"
        self._loop.begin_epoch(_whole("epoch", number))

    @_harmless(None)
    def predictions(self, probabilities: Any, labels: Any, paths_or_images: Any = None, part: Part = "val") -> None:
        """Keep what was predicted for each image of `part`: dashboards show errors, matrix and classes by it.

        `probabilities` (or logits) `[n, classes]` and `labels` `[n]` are tensors or arrays, or lists of a loop's
        batches of them. `paths_or_images` are the paths of n image files, or n images of one size, uint8 or float
        `[C, H, W]`; of a part they are in the same order each time.
        """
        assert self._loop is not None, "it is active"
        self._loop.predictions(probabilities, labels, paths_or_images, _known(part))

    @_harmless(None)
    def evaluated(
        self,
        accuracy: float | None = None,
        loss: float | None = None,
        *,
        part: Part = "val",
        n: int = 0,
        **metrics: Any,
    ) -> None:
        """Tell what an evaluation on the `n` images of `part` came to, where there are no predictions to give."""
        assert self._loop is not None, "it is active"
        self._loop.evaluated({"accuracy": accuracy, "loss": loss, **metrics}, _known(part), _whole("n", n))

    @_harmless(None)
    def _begin_epoch(self, loader: Any) -> None:
        assert self._loop is not None, "it is active"
        self._loop.begin_epoch_of(loader)

    @_harmless(None)
    def _end_epoch(self) -> None:
        assert self._loop is not None, "it is active"
        self._loop.emit_point()

    @_harmless(None)
    def _waited(self, seconds: float, batch: Any) -> None:
        assert self._loop is not None, "it is active"
        self._loop.waited(seconds, batch)

    def _failed(self, error: Exception) -> None:
        """Say what was given wrongly, or watch no more: `error` is the loop's or finetui's own."""
        if not self.active:
            return
        if isinstance(error, FinetuiError):
            self._warn(str(error), stacklevel=4)
        else:
            self._give_up(error)

    def _say_why_not(self, method: str) -> None:
        """Say that a call does nothing where the block of the run was forgotten, or is over."""
        if self._make is None or self._loop is not None:  # another rank than the first, or a forked child
            return
        if not self._entered:
            self._warn("finetui watches nothing: the run begins with its block, `with finetui.watch(...) as run:`")
        elif self._folder is not None and not self._warned and method in ("predictions", "evaluated"):
            self._warn(f"run.{method} was called after the run ended, and is ignored: call it inside the `with` block")

    def _warn(self, message: str, stacklevel: int = 3) -> None:
        """Say once what was given wrongly, with the line that has called the `stacklevel`-th of what is going on."""
        if message in self._warned:
            return
        self._warned.add(message)
        if self._loop is not None:
            self._loop.record.reporter.warn(message)
        with suppress(RuntimeWarning):  # where warnings are errors
            warnings.warn(message, RuntimeWarning, stacklevel=stacklevel)

    def _give_up(self, error: Exception) -> None:
        """Watch no more because of an `error` of finetui's own, and say so once."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.abandon(error)
        elif self._warned:
            return
        self._warn(f"finetui no longer watches this loop, which continues: {describe(error)}", stacklevel=5)


def _ending(error: BaseException | None) -> tuple[Literal["finished", "stopped", "crashed"] | None, str]:
    """Return how a run ends that `error` has ended, and why; None: as it would without."""
    match error:
        case None | RunStopped():
            return None, ""
        case KeyboardInterrupt():
            return "stopped", "interrupted from the keyboard"
        case SystemExit():
            return "stopped", f"the program exited with {error.code!r}"
        case Exception():
            return "crashed", describe(error)
    return "stopped", type(error).__name__
