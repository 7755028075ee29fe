"""What a training without a dashboard prints: the tutorials' lines, a progress bar, or JSON."""

import os
import sys
from collections.abc import Iterator

from finetui.engine.predictions.interval import wilson
from finetui.engine.protocol.events import (
    Alert,
    AnyEvent,
    Evaluated,
    FeaturesChanged,
    Log,
    Phase,
    RunPrepared,
    RunStarted,
    StateChanged,
    TrainingChanged,
    TrainPoint,
)
from finetui.engine.protocol.paths import short
from finetui.engine.protocol.values import Part
from finetui.engine.runs.journal import encode_line
from finetui.tui.cli.reports import write_data
from finetui.tui.state.feature_words import feature_line
from finetui.tui.state.log_lines import from_place, settings_text
from finetui.tui.state.parts import scores, sizes

_LISTED = ("skipped: ", "left behind: ")  # so begins what the log says of each file or weight


class Printer:
    """Prints the events of a training; why it failed only with `close`, since an exception may say that as well."""

    def __init__(self) -> None:
        self._told_skipped = False
        self._failure = ""

    def take_failure(self) -> str:
        """Return why the training failed, for whoever says it; empty where it did not, or it was said."""
        failure, self._failure = self._failure, ""
        return failure

    def lines(self, event: AnyEvent) -> Iterator[str]:
        """Yield what is said about `event` beside the progress."""
        match event:
            case RunPrepared():
                self._told_skipped = True  # what is known by then is counted in its notices
                yield from _lines(event)
                return
            case RunStarted():
                self._told_skipped = False
            case StateChanged(state="failed"):
                self._failure = event.reason
                return
            case Log(level="warning" | "error") if not event.message.startswith(_LISTED):
                yield event.message
            case Log(level="warning") if not self._told_skipped:
                self._told_skipped = True
                yield f"{event.message}; the log lists what else is skipped"
        yield from _lines(event)

    def show(self, event: AnyEvent) -> None:
        """Print what there is to say about `event`."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave the terminal in order, and say why the training failed where nobody has."""
        failure = self.take_failure()
        if failure:
            print(f"failed: {failure}", file=sys.stderr, flush=True)

    def abandon(self) -> None:
        """Do so from any thread, when the process is about to end in the middle of something."""


class _JsonPrinter(Printer):
    """Prints what the journal holds."""

    def show(self, event: AnyEvent) -> None:
        if event.seq >= 0:
            write_data(encode_line(event))


class LinePrinter(Printer):
    """Prints the tutorial's lines to standard output, and what else there is to say to standard error."""

    def __init__(self) -> None:
        super().__init__()
        self._phase = ""

    def show(self, event: AnyEvent) -> None:
        """Print what there is to say about `event`."""
        for line in self.lines(event):
            print(line, file=sys.stderr, flush=True)
        match event:
            case Phase() if event.name != self._phase and event.name != "Evaluating":
                self._phase = event.name
                print(event.name, file=sys.stderr, flush=True)
            case TrainPoint():
                for mean in event.hundreds:
                    print(f"[{mean.epoch}, {mean.step_in_epoch:5d}] loss: {mean.loss:.3f}", flush=True)
            case Evaluated():
                print_accuracy(event.n, event.accuracy, event.part, event.checkpoint)


def print_accuracy(n: int, accuracy: float | None, part: Part = "test", checkpoint: str = "") -> None:
    """Print the tutorial's line about the `n` images of `part`, and how far the accuracy may be from the true one.

    `checkpoint` is the one whose weights were scored. Nothing is printed of what was not told.
    """
    if accuracy is None or not n:
        return
    low, high = wilson(accuracy, n)
    of = f", {checkpoint} checkpoint, chosen on val" if checkpoint else ""
    print(
        f"Accuracy of the network on the {n} {part} images: {100 * accuracy:.2f} % "
        f"(95 % CI {100 * low:.2f} to {100 * high:.2f} %){of}",
        flush=True,
    )


def choose_printer(*, as_json: bool) -> Printer:
    """Return what prints a training: JSON, a progress bar on a terminal, or the tutorial's lines."""
    if as_json:
        return _JsonPrinter()
    return BarPrinter() if sys.stdout.isatty() and sys.stderr.isatty() else LinePrinter()


class BarPrinter(Printer):
    """Shows a progress bar with the time left on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        super().__init__()
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
        self._evaluated: dict[Part, Evaluated] = {}
        self._progress.start()

    def _say(self, line: str) -> None:
        self._progress.console.print(line, markup=False)

    def show(self, event: AnyEvent) -> None:
        """Print what there is to say about `event`."""
        update = self._progress.update
        match event:
            case Phase() if event.name != "Evaluating":
                update(self._task, description=event.name, total=event.total or None, completed=event.done)
            case RunPrepared():
                self._epochs = event.config.training.epochs
                self._steps = event.steps_per_epoch * self._epochs
            case TrainingChanged():
                self._epochs = event.training.epochs
                self._steps = event.step + round((self._epochs - event.epochs) * event.steps_per_epoch)
            case TrainPoint():
                loss = "" if event.loss is None else f"loss {event.loss:.4f}"
                detail = f"{loss}  {event.samples_per_second:,.0f} images/s" if event.samples_per_second else loss
                name = f"epoch {event.epoch}/{self._epochs}"
                update(self._task, description=name, total=self._steps, completed=event.step, detail=detail)
            case Evaluated():
                self._evaluated[event.part] = event
                self._say(f"epoch {event.epoch}: {scores(event)}")
        for line in self.lines(event):
            self._say(line)

    def close(self) -> None:
        """Take the bar away, and print the last accuracies to standard output."""
        self._progress.stop()
        super().close()
        for event in self._evaluated.values():
            print_accuracy(event.n, event.accuracy, event.part, event.checkpoint)

    def abandon(self) -> None:
        """Show the cursor again; Rich itself would wait for whatever holds its lock."""
        os.write(sys.stderr.fileno(), b"\x1b[?25h\n")


def _lines(event: AnyEvent) -> Iterator[str]:
    match event:
        case RunPrepared(data=data):
            yield from event.notices
            yield (
                f"{data.name}: {sizes(data)}{from_place(data)}, {data.loader}; "
                f"{short(event.config.model.name)}, {event.parameters:,} parameters, on {event.device}"
            )
        case RunStarted():
            yield f"run {event.name} in {event.path}"
        case TrainingChanged():
            yield settings_text(event)
        case Alert():
            yield f"{event.kind}: {event.message}"
        case FeaturesChanged():
            yield feature_line(event)
        case StateChanged() if event.reason:
            yield f"{event.state}: {event.reason}"
