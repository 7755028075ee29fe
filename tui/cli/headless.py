"""Training and evaluating without a dashboard: progress for a person, the tutorial's lines for a file, or JSON."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec

import finetui
from finetui.engine.errors import BadInput, FinetuiError
from finetui.engine.process.endpoint import serving
from finetui.engine.process.memory import keep_freed
from finetui.engine.process.signals import EndSignals
from finetui.engine.protocol.commands import Stop
from finetui.engine.protocol.config import (
    DataConfig,
    FinetuneConfig,
    ModelConfig,
    RunConfig,
    RunSection,
    is_factory,
    load,
)
from finetui.engine.protocol.events import AnyEvent, Evaluated, Phase, RunPrepared, RunStarted, StateChanged, TrainPoint
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import encode_line
from finetui.engine.text import clean
from finetui.tui.cli.lost_output import LastingOutput
from finetui.tui.cli.options import RunOptions
from finetui.tui.cli.reports import Scores, print_scores

_ONE_WISH_SECONDS = 0.25  # `timeout` sends its signal twice, and means it once


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


def _accuracy_line(event: Evaluated) -> str:
    return f"Accuracy of the network on the {event.n} test images: {100 * event.accuracy:.2f} %"


def choose_printer(*, as_json: bool) -> _Printer:
    """Return what prints a training: JSON, a progress bar on a terminal, or the tutorial's lines."""
    if as_json:
        return _JsonPrinter()
    return _BarPrinter() if sys.stdout.isatty() and sys.stderr.isatty() else LinePrinter()


@contextmanager
def _hangups_ignored() -> Iterator[None]:
    """Let the terminal close: a training that only prints to it has nothing to do with that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def train_headless(config: RunConfig, *, as_json: bool, resume: RunFolder | None = None, resume_from: str = "") -> int:
    """Train `config` in this process, where dashboards may attach to it, and return the exit status.

    `resume` is the folder of a run, configured by `config`, that goes on from its last checkpoint, or from the one that
    is kept as `resume_from`.
    """
    keep_freed()
    commands = CommandQueue()
    printer = choose_printer(as_json=as_json)
    output = LastingOutput(on_left=lambda: commands.put(Stop()))

    def show(event: AnyEvent) -> None:
        with output.printing():
            printer.show(event)

    with _hangups_ignored(), serving(commands, config.run.linger_minutes) as dashboards:

        def abandon() -> None:
            dashboards.remove_socket()
            printer.abandon()

        signals = EndSignals([signal.SIGINT, signal.SIGTERM], commands, abandon, doubled_seconds=_ONE_WISH_SECONDS)
        try:
            with signals:
                show(Phase(name="Importing PyTorch"))
                outcome = finetui.serve(
                    config,
                    commands,
                    [signals.note, dashboards.publish, show],
                    autostart=True,
                    stay=lambda state: signals.caught is None and dashboards.stay(state),
                    on_journal=dashboards.follow,
                    socket=dashboards.path,
                    resume=resume,
                    resume_from=resume_from,
                )
        except FinetuiError:
            if signals.status is not None:
                return signals.status
            raise
        finally:
            with output.printing():
                printer.close()
    if isinstance(printer, _BarPrinter) and outcome.report is not None:
        with output.printing():
            n, accuracy = outcome.report.n, outcome.report.accuracy
            print(f"Accuracy of the network on the {n} test images: {100 * accuracy:.2f} %", flush=True)
    return signals.status or int(output.left)


def finetune_config(path: Path, options: RunOptions, *, recipe: str, head: str, freeze: tuple[str, ...]) -> RunConfig:
    """Return the configuration of a finetune of the checkpoint `path`: its run's settings, and `options` over them.

    Raises `BadInput`, also where the parent used a person's own code that `options` does not name: a run folder may
    come from anywhere.
    """
    folder = RunFolder(path.absolute().parent)
    in_run = folder.config.is_file() and folder.journal.is_file()
    parent = load(folder.config) if in_run else RunConfig(data=DataConfig(name=finetui.read_about(path).data))
    if is_factory(parent.data.name) and options.data is None:
        code = clean(parent.data.name)
        raise BadInput(f"the parent's data is the code {code}; if you trust that code, name it: --data {code}")
    finetune = FinetuneConfig(
        parent=str(path.absolute()),
        parent_run=folder.name if in_run else "",
        recipe=recipe,
        head=head,
        freeze=freeze,
    )
    # The network's name is the checkpoint's; a parent's warm-up and name are its own.
    base = msgspec.structs.replace(
        parent,
        model=ModelConfig(),
        training=msgspec.structs.replace(parent.training, warmup_epochs=0.0),
        run=RunSection(),
        finetune=finetune,
    )
    config = options.to_config(base)
    return config if config.finetune is not None else msgspec.structs.replace(config, finetune=finetune)


def evaluate_headless(
    path: Path, *, data: str | None, data_dir: Path | None, model: str, device: str, as_json: bool
) -> int:
    """Evaluate the checkpoint `path`, print its scores and return the exit status."""
    found = finetui.evaluate_checkpoint(path, data=data, data_dir=data_dir, model=model, device=device)
    for notice in found.notices:
        print(notice, file=sys.stderr)
    report = found.report
    scores = Scores(
        accuracy=report.accuracy,
        loss=report.loss,
        n=report.n,
        per_class=report.per_class,
        confusion=report.confusion.tolist(),
    )
    print_scores(scores, as_json=as_json)
    return 0
