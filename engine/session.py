"""A run from preparation to its end: the state machine that trains, evaluates, saves and obeys."""

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

import msgspec
import torch

from engine import checkpoint, commands, events, runs
from engine.answers import Answerer, Subject
from engine.commands import AnyQuestion
from engine.config import RunConfig, check_learning_rate
from engine.data import ImageData
from engine.errors import BadInput, FinetuiError
from engine.evaluation import Report
from engine.examiner import Examiner
from engine.journal import Journal
from engine.measuring import Measuring
from engine.plans import child_config
from engine.prepare import prepare
from engine.preview import preview
from engine.queues import CommandQueue
from engine.rules import refusal
from engine.text import clean
from engine.training.effect import EffectMeter
from engine.training.lr_finder import find_learning_rate, suggest
from engine.training.trainer import OnStep, Trainer

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
    `on_step(step, loss)` is called after every step with a detached scalar tensor. `model` and `data` take the place
    of what the configuration names: a module that takes float32 `[B, C, H, W]` and returns logits `[B, classes]`, and
    what `engine.data.from_datasets` returns.

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
        model: torch.nn.Module | None = None,
        data: ImageData | None = None,
    ) -> None:
        self.config = config
        self._own_model = model
        self._own_data = data
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
        self._measuring = Measuring()
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
            if self._trainer is not None:
                self._prepared.data.train.close()
                self._prepared.data.test.close()
                self._examiner.close()
            self.journal.close()
            if self._lock is not None:
                self._lock.release()
        return Outcome(self.state, self.folder, self._examiner.report, self._next)

    # -- the life cycle ---------------------------------------------------------------------------------

    def _prepare(self) -> None:
        self._emit(events.StateChanged(state="preparing"))
        torch.manual_seed(self.config.training.seed)
        prepared = self._prepared = prepare(
            self.config, self._phase, self._commands.stop_waits, model=self._own_model, data=self._own_data
        )
        self.config = prepared.config
        finetune = self.config.finetune
        self._trainer = Trainer(
            prepared.model,
            prepared.groups,
            prepared.data.train,
            self.config.training,
            self._on_step,
            plan=prepared.plan,
            always_frozen=finetune.freeze if finetune else (),
            augment=self.config.data.augment,
            classes=len(prepared.data.classes),
        )
        self._effect = EffectMeter(self.trainer.freezer.trainable())
        self._examiner = Examiner(prepared.data, prepared.architecture)
        subject = Subject(prepared.model, prepared.data, prepared.transform, prepared.architecture, prepared.device)
        self._answerer = Answerer(subject, self._phase, self._commands.stop_waits)
        self._announce()
        self._set_state("ready")

    def _announce(self) -> None:
        """Say what was prepared, and what is odd about it."""
        prepared = self._prepared
        self._emit(prepared.event(self.trainer.freezer.table(), self.trainer.steps_per_epoch))
        if len(prepared.plan) > 1:
            self._emit_stage()
        self._warn(prepared.dropped, "left behind")
        self._warn(prepared.data.problems, "skipped")

    def _warn(self, lines: Sequence[str], what: str) -> None:
        for line in lines:
            self._emit(events.Log(level="warning", message=f"{what}: {clean(line, 500)}"))

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
        for answer in self._measuring.answers(self.trainer):
            self._emit(answer)
        if self.trainer.point_due():
            self._emit_point()
        if self.trainer.position == self.trainer.steps_per_epoch:
            self._end_epoch()

    def _end_epoch(self) -> None:
        self._emit_point()
        begun = self.trainer.end_epoch()
        is_best = self._evaluate()
        self._save("last.ckpt")
        if is_best:
            self._save("best.ckpt")
        if begun is not None:
            self._emit_stage()
            self._layers_changed()
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
            if not isinstance(command, commands.Question):  # whose answer is the reply
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
            case commands.Evaluate():
                self._emit_point()
                if self._evaluate() and self.folder is not None:
                    self._save("best.ckpt")
            case commands.Save():
                self._emit_point()
                self._save("last.ckpt")
            case commands.StartFinetune():
                self._start_finetune(command)
            case commands.Question():
                self._answer(command)
            case _:
                self._adjust(command)

    def _adjust(
        self,
        command: commands.SetLearningRate | commands.SetFrozen | commands.SetFrozenNorm | commands.FindLearningRate,
    ) -> None:
        match command:
            case commands.SetLearningRate():
                check_learning_rate(command.value, "the learning rate")
                self.trainer.rates.set(command.value, self.trainer.step)
                self._emit(events.LearningRateChanged(learning_rate=command.value))
            case commands.SetFrozen():
                if self.trainer.set_frozen(command.groups, command.frozen, command.layers):
                    self._layers_changed()
            case commands.SetFrozenNorm():
                if self.trainer.freezer.set_norm_trains(command.trains):
                    self._layers_changed()
            case commands.FindLearningRate():
                self._find_learning_rate()
            case _:
                assert_never(command)

    def _find_learning_rate(self) -> None:
        self._emit_point()
        rates, losses = find_learning_rate(
            self.trainer,
            progress=lambda done, total: self._phase("Trying learning rates", done, total),
            stopped=self._commands.stop_waits,
        )
        self.trainer.restart_batches()
        self.trainer.restart_clock()
        found = events.LearningRateFound(rates=tuple(rates), losses=tuple(losses), suggestion=suggest(rates, losses))
        self._emit(found)

    def _answer(self, question: AnyQuestion) -> None:
        match question:
            case commands.PreviewFinetune():
                prepared = self._prepared
                about = prepared.about(self.folder.name if self.folder else "this run")
                weights = prepared.model.state_dict()
                self._emit(preview(question, self.config, about, weights, prepared.data.channels))
            case commands.MeasureLayers():
                self._measuring.add(question, self.trainer)
            case _:
                self._emit(self._answerer.answer(question))
        self.trainer.restart_clock()

    def _start_finetune(self, command: commands.StartFinetune) -> None:
        assert self.folder is not None, "a state that allows finetuning has a run folder"
        child = child_config(self.config, command.plan, self.folder.last, self.folder.name)
        if self.state in ("running", "paused"):
            self._stop("a finetune starts from here")
        self._next = child

    # -- what commands and the loop share -----------------------------------------------------------------

    def _evaluate(self) -> bool:
        """Run over the test set; return whether the accuracy is the best so far."""
        evaluated = self._examiner.examine(
            self.trainer,
            self.folder,
            progress=lambda done, total: self._phase("Evaluating", done, total),
            stopped=self._commands.stop_waits,
            warn=lambda message: self._emit(events.Log(level="warning", message=message)),
        )
        self.trainer.restart_clock()
        if evaluated is None:
            return False
        self._emit(evaluated)
        return evaluated.best

    def _save(self, file: str) -> None:
        assert self.folder is not None, "there is a run folder once training has started"
        training = self.trainer.state_dict() | {"best_accuracy": self._examiner.best, "rng": torch.get_rng_state()}
        model = self._prepared.model.state_dict()
        checkpoint.save(self.folder.path / file, self._prepared.about(self.folder.name), model, training)
        self._emit(events.CheckpointSaved(file=file))

    def _layers_changed(self) -> None:
        freezer = self.trainer.freezer
        self._effect.changed(freezer.trainable())
        self._emit(events.LayersChanged(layers=freezer.table()))

    def _emit_stage(self) -> None:
        trainer = self.trainer
        stage = trainer.plan[trainer.stage]
        self._emit(
            events.StageStarted(
                index=trainer.stage + 1,
                count=len(trainer.plan),
                name=stage.name,
                epochs=stage.epochs,
                learning_rate=trainer.rates.highest,
            )
        )

    def _set_state(self, state: events.State, reason: str = "") -> None:
        self.state = state
        if state == "running":
            self.trainer.restart_clock()
        for refused in self._measuring.refusals(state):
            self._emit(refused)
        self._emit(events.StateChanged(state=state, reason=reason))

    def _emit_point(self) -> None:
        point = self.trainer.take_point()
        if point is None:
            return
        self._emit(point)
        effect = self._effect.add(point, point.steps * self.config.training.batch_size)
        if effect is not None:
            self._emit(effect)
        data = self._prepared.data
        self._warn([*data.train.take_problems(), *data.test.take_problems()], "skipped")

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
