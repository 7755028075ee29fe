"""What a training without a dashboard prints: the tutorials' lines, a progress bar, or JSON."""

import os
import sys
from collections.abc import Iterator
from typing import Protocol

from finetui.engine.protocol.events import AnyEvent, Evaluated, Phase, RunPrepared, RunStarted, StateChanged, TrainPoint
from finetui.engine.runs.journal import encode_line


class _Printer(Protocol):
    def show(self, event: AnyEvent) -> None: ...

    def close(self) -> None: ...

    def abandon(self) -> None:
        """Leave the terminal in order, from any thread, when the process is about to end in the middle of something."""


class _JsonPrinter:
    """Prints what the journal holds."""

    def show(self, event: AnyEvent) -> None:
        if event.seq >= 0:
            sys.stdout.buffer.write(encode_line(event))
            sys.stdout.buffer.flush()

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        pass


class LinePrinter:
    """Prints the tutorial's lines to standard output, and what else there is to say to standard error."""

    def __init__(self) -> None:
        self._phase = ""

    def show(self, event: AnyEvent) -> None:
        """Print what there is to say about `event`."""
        match event:
            case Phase() if event.name != self._phase and event.name != "Evaluating":
                self._phase = event.name
                print(event.name, file=sys.stderr, flush=True)
            case RunPrepared():
                for line in _describe(event):
                    print(line, file=sys.stderr, flush=True)
            case RunStarted():
                print(f"run {event.name} in {event.path}", file=sys.stderr, flush=True)
            case TrainPoint():
                for mean in event.hundreds:
                    print(f"[{mean.epoch}, {mean.step_in_epoch:5d}] loss: {mean.loss:.3f}", flush=True)
            case Evaluated():
                print(_accuracy_line(event), flush=True)
            case StateChanged() if event.reason:
                print(f"{event.state}: {event.reason}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing is left to say."""

    def abandon(self) -> None:
        """The terminal is in order."""


def _accuracy_line(event: Evaluated) -> str:
    return f"Accuracy of the network on the {event.n} test images: {100 * event.accuracy:.2f} %"


def choose_printer(*, as_json: bool) -> _Printer:
    """Return what prints a training: JSON, a progress bar on a terminal, or the tutorial's lines."""
    if as_json:
        return _JsonPrinter()
    return _BarPrinter() if sys.stdout.isatty() and sys.stderr.isatty() else LinePrinter()


class _BarPrinter:
    """Shows a progress bar with the time left on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=Console(stderr=True, markup=False, highlight=False),
        )
        self._task = self._progress.add_task("Starting", total=None, detail="")
        self._steps = self._epochs = 0
        self._progress.start()

    def _say(self, line: str) -> None:
        self._progress.console.print(line, markup=False)

    def show(self, event: AnyEvent) -> None:
        update = self._progress.update
        match event:
            case Phase() if event.name != "Evaluating":
                update(self._task, description=event.name, total=event.total or None, completed=event.done)
            case RunPrepared():
                self._epochs = event.config.training.epochs
                self._steps = event.steps_per_epoch * self._epochs
                for line in _describe(event):
                    self._say(line)
            case RunStarted():
                self._say(f"run {event.name} in {event.path}")
            case TrainPoint():
                detail = f"loss {event.loss:.4f}  {event.samples_per_second:,.0f} images/s"
                name = f"epoch {event.epoch}/{self._epochs}"
                update(self._task, description=name, total=self._steps, completed=event.step, detail=detail)
            case Evaluated():
                self._say(f"epoch {event.epoch}: test loss {event.loss:.4f}, accuracy {event.accuracy:.2%}")
            case StateChanged() if event.reason:
                self._say(f"{event.state}: {event.reason}")

    def close(self) -> None:
        self._progress.stop()

    def abandon(self) -> None:
        # Rich's own way would wait for whatever holds its lock.
        os.write(sys.stderr.fileno(), b"\x1b[?25h\n")


def _describe(event: RunPrepared) -> Iterator[str]:
    data = event.data
    yield from event.notices
    yield (
        f"{data.name}: {data.train_size:,} training and {data.test_size:,} test images from {data.location}, "
        f"{data.loader}; "
        f"{event.config.model.name}, {event.parameters:,} parameters, on {event.device}"
    )
