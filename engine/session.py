"""A run from preparation to its end: the state machine that trains, evaluates, saves and obeys."""

import math
import platform
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

import msgspec
import torch

from engine import checkpoint, commands, events, runs
from engine.config import FinetuneConfig, RunConfig, check_learning_rate
from engine.device import describe
from engine.errors import BadInput, FinetuiError
from engine.evaluation import Report, evaluate
from engine.journal import Journal
from engine.prepare import prepare
from engine.queues import CommandQueue
from engine.rules import refusal
from engine.text import clean
from engine.training.trainer import OnStep, Trainer
from engine.version import __version__

Sink = Callable[[events.AnyEvent], None]
_IDLE_WAIT = 0.2  # seconds between two looks at whether an idle session should stay
_PHASE_INTERVAL = 0.1  # seconds


@dataclass(frozen=True)
class Outcome:
    """How a session ended. `next` is the run to begin now, when a finetune was asked for."""

    state: events.State
    folder: runs.RunFolder | None
    report: Report | None
    next: RunConfig | None = None


class Session:
    """Trains what `config` describes, in the calling thread.

    Events go to every one of `sinks`, in order, and to the run's journal; a sink must not block. `commands` are
    looked at before every step. With `autostart` False the session waits for a `Start`. Whenever there is
    nothing to do it goes on waiting for commands while `stay(state)` is True, and ends otherwise.
    `on_step(step, loss)` is called after every step with a detached scalar tensor.

    The global torch RNG is seeded with the configuration's seed when `run` begins.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        commands: CommandQueue | None = None,
        sinks: Sequence[Sink] = (),
        autostart: bool = True,
        stay: Callable[[events.State], bool] = lambda _state: False,
        on_step: OnStep | None = None,
        socket: str = "",
    ) -> None:
        self.config = config
        self.journal = Journal()
        self.folder: runs.RunFolder | None = None
        self.state: events.State = "preparing"
        self._commands = commands or CommandQueue()
        self._sinks = sinks
        self._autostart = autostart
        self._stay = stay
        self._on_step = on_step
        self._socket = socket
        self._lock: runs.RunLock | None = None
        self._trainer: Trainer | None = None
        self._next: RunConfig | None = None
        self._report: Report | None = None
        self._best = -1.0
        self._last_phase = 0.0

    @property
    def trainer(self) -> Trainer:
        """The trainer; there is one once `run` has prepared everything."""
        assert self._trainer is not None, "run() makes the trainer"
        return self._trainer

    def run(self) -> Outcome:
        """Prepare, train until the last epoch or a `Stop`, and return how it ended.

        Raises `BadInput` when the configuration cannot be used, `FinetuiError` when training cannot go on;
        either way the events have said so first.
        """
        try:
            self._prepare()
            # Whoever has asked to stop by now does not want it to begin.
            if self._autostart and not self._commands.stop_waits():
                self._start()
            while self._advance():
                pass
        except FinetuiError as error:
            self._fail(str(error))
            raise
        except Exception as error:
            # What went wrong is not known here; the run's log gets all of it, the events one sentence.
            traceback.print_exc(file=sys.stderr)
            self._fail(f"{type(error).__name__}: {clean(str(error))}")
            raise
        finally:
            self.journal.close()
            if self._lock is not None:
                self._lock.release()
        return Outcome(self.state, self.folder, self._report, self._next)

    # -- the life cycle ---------------------------------------------------------------------------------

    def _prepare(self) -> None:
        self._emit(events.StateChanged(state="preparing"))
        torch.manual_seed(self.config.training.seed)
        prepared = self._prepared = prepare(self.config, self._phase, self._commands.stop_waits)
        training = self.config.training
        self._trainer = Trainer(prepared.model, prepared.groups, prepared.data.train, training, self._on_step)
        if prepared.frozen:
            self.trainer.set_frozen(prepared.frozen, frozen=True)
        finetune = self.config.finetune
        self._emit(
            events.RunPrepared(
                config=self.config,
                data=prepared.summary(),
                layers=self._layers(),
                device=describe(prepared.device),
                parameters=sum(p.numel() for p in prepared.model.parameters()),
                steps_per_epoch=self.trainer.steps_per_epoch,
                notices=prepared.notices,
                parent=finetune.parent_run or finetune.parent if finetune else None,
                versions={
                    "finetui": __version__,
                    "torch": str(torch.__version__),
                    "python": platform.python_version(),
                },
            )
        )
        self._set_state("ready")

    def _start(self) -> None:
        if self.folder is None:
            finetune = self.config.finetune
            name = runs.default_name(
                self._prepared.data.name, self.config.model.name, finetune.recipe if finetune else None
            )
            self.folder = runs.create(self.config, name)
            self._lock = runs.RunLock(self.folder, self._socket)
            self.journal.open(self.folder.journal)
            self._emit(events.RunStarted(name=self.folder.name, path=clean(str(self.folder.path), 4096)))
        self._set_state("running")

    def _advance(self) -> bool:
        """Obey one command, or take one step, or wait a little; return False when the session is over."""
        running = self.state == "running"
        command = self._commands.take(0 if running else _IDLE_WAIT)
        if command is not None:
            self._obey(command)
            return self._next is None
        if running:
            self._step()
            return True
        if self._stay(self.state):
            return True
        if self.state == "paused":
            self._stop("nobody is there to resume it")
        return False

    def _step(self) -> None:
        self.trainer.train_step()
        if self.trainer.point_due():
            self._emit_point()
        if self.trainer.position == self.trainer.steps_per_epoch:
            self._end_epoch()

    def _end_epoch(self) -> None:
        self._emit_point()
        self.trainer.end_epoch()
        is_best = self._evaluate()
        self._save("last.ckpt")
        if is_best:
            self._save("best.ckpt")
        if self.trainer.done:
            self._set_state("finished")

    def _stop(self, reason: str = "") -> None:
        self._emit_point()
        self._save("last.ckpt")
        self._set_state("stopped", reason)

    def _fail(self, reason: str) -> None:
        # The journal may be what failed; the sinks must hear of it all the same.
        try:
            self._set_state("failed", reason)
        except OSError as error:
            message = f"{reason}; the journal cannot be written either: {error.strerror or error}"
            for sink in self._sinks:
                sink(events.StateChanged(state="failed", reason=message))

    # -- commands ---------------------------------------------------------------------------------------

    def _obey(self, command: commands.AnyCommand) -> None:
        try:
            reason = refusal(type(command), self.state)
            if reason is not None:
                raise BadInput(reason)
            self._carry_out(command)
        except BadInput as error:
            self._emit(events.CommandRefused(command=command, reason=str(error)))
        else:
            self._emit(events.CommandAccepted(command=command))

    def _carry_out(self, command: commands.AnyCommand) -> None:
        match command:
            case commands.Start():
                self._start()
            case commands.Pause():
                self._emit_point()
                self._set_state("paused")
            case commands.Resume():
                self._set_state("running")
            case commands.StepOnce():
                self.trainer.restart_clock()
                self._step()
                self._emit_point()
            case commands.Stop():
                self._stop()
            case commands.SetLearningRate():
                check_learning_rate(command.value, "the learning rate")
                self.trainer.rates.set(command.value, self.trainer.step)
                self._emit(events.LearningRateChanged(learning_rate=command.value))
            case commands.SetFrozen():
                if self.trainer.set_frozen(command.groups, command.frozen):
                    self._emit(events.LayersChanged(layers=self._layers()))
            case commands.StartFinetune():
                self._start_finetune(command)
            case commands.Evaluate():
                self._emit_point()
                if self._evaluate() and self.folder is not None:
                    self._save("best.ckpt")
            case commands.Save():
                self._emit_point()
                self._save("last.ckpt")
            case _:
                assert_never(command)

    def _start_finetune(self, command: commands.StartFinetune) -> None:
        assert self.folder is not None, "a state that allows finetuning has a run folder"
        given = {"epochs": command.epochs, "lr": command.lr}
        training = msgspec.structs.replace(
            self.config.training, **{field: value for field, value in given.items() if value is not None}
        )
        finetune = FinetuneConfig(parent=str(self.folder.last), parent_run=self.folder.name, recipe=command.recipe)
        run = msgspec.structs.replace(self.config.run, name="")
        child = msgspec.structs.replace(self.config, training=training, finetune=finetune, run=run)
        if self.state in ("running", "paused"):
            self._stop("a finetune starts from here")
        self._next = child

    # -- what commands and the loop share -----------------------------------------------------------------

    def _evaluate(self) -> bool:
        """Run over the test set; return whether the accuracy is the best so far."""
        started = time.monotonic()
        trainer = self.trainer
        data = self._prepared.data
        report = evaluate(
            trainer.model,
            data.test,
            data.classes,
            progress=lambda done, total: self._phase("Evaluating", done, total),
            stopped=self._commands.stop_waits,
        )
        trainer.freezer.train_mode()
        trainer.restart_clock()
        if report is None:
            return False
        if not math.isfinite(report.loss):
            raise FinetuiError(f"the test loss became {report.loss} at step {trainer.step}; the weights have diverged")
        best = report.accuracy > self._best
        self._best = max(self._best, report.accuracy)
        self._report = report
        self._emit(
            events.Evaluated(
                epoch=trainer.epoch + (trainer.position > 0),
                loss=report.loss,
                accuracy=report.accuracy,
                n=report.n,
                per_class=report.per_class,
                confusion=tuple(tuple(row) for row in report.confusion.tolist()),
                best=best,
                seconds=time.monotonic() - started,
            )
        )
        return best

    def _save(self, file: str) -> None:
        assert self.folder is not None, "there is a run folder once training has started"
        prepared = self._prepared
        about = checkpoint.About(
            architecture=prepared.architecture,
            transform=checkpoint.Transform(mean=prepared.data.mean, std=prepared.data.std),
            classes=prepared.data.classes,
            data=prepared.data.name,
            run=self.folder.name,
        )
        training = self.trainer.state_dict() | {"best_accuracy": self._best, "rng": torch.get_rng_state()}
        checkpoint.save(self.folder.path / file, about, prepared.model.state_dict(), training)
        self._emit(events.CheckpointSaved(file=file))

    def _layers(self) -> tuple[events.LayerGroup, ...]:
        trainer = self.trainer
        return tuple(group.describe(group.name in trainer.freezer.frozen) for group in trainer.groups)

    def _set_state(self, state: events.State, reason: str = "") -> None:
        self.state = state
        if state == "running":
            self.trainer.restart_clock()
        self._emit(events.StateChanged(state=state, reason=reason))

    def _emit_point(self) -> None:
        point = self.trainer.take_point()
        if point is not None:
            self._emit(point)

    def _phase(self, name: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done == 0 or done == total or now - self._last_phase >= _PHASE_INTERVAL:
            self._last_phase = now
            self._emit(events.Phase(name=name, done=done, total=total))

    def _emit(self, event: events.AnyEvent) -> None:
        step = self._trainer.step if self._trainer is not None else 0
        stamped = self.journal.append(msgspec.structs.replace(event, step=step))
        for sink in self._sinks:
            sink(stamped)
