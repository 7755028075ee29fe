"""A run from preparation to its end: the state machine that trains, evaluates, saves and obeys."""

import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from finetui.engine.checkpoints import continuing
from finetui.engine.data import ImageData
from finetui.engine.errors import BadInput, FinetuiError, describe
from finetui.engine.inspection.evaluation import Report
from finetui.engine.protocol import commands, events
from finetui.engine.protocol.config import RunConfig, check_checkpoint_name, check_learning_rate
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.protocol.state_rules import refusal
from finetui.engine.protocol.values import FastPath
from finetui.engine.runs.derived import branch_config, child_config
from finetui.engine.runs.folder import RunFolder, default_run_name, how_it_began
from finetui.engine.runs.journal import Journal
from finetui.engine.runs.kept_checkpoints import BEST, LAST, find
from finetui.engine.runs.run_writer import RunWriter
from finetui.engine.session.checkpointing import CheckpointManager
from finetui.engine.session.loop import TrainingLoop
from finetui.engine.session.reporter import Reporter, Sink
from finetui.engine.setup.prepare import prepare
from finetui.engine.text import clean
from finetui.engine.training.divergence import Diverged, DivergencePolicy
from finetui.engine.training.trainer import OnStep, Trainer

_IDLE_WAIT = 0.2  # seconds between two looks at whether an idle session should stay


@dataclass(frozen=True)
class Outcome:
    """How a session ended. `next` is the run to begin now, when a finetune or a branch was asked for."""

    state: events.State
    folder: RunFolder | None
    report: Report | None
    next: RunConfig | None = None


class Session:
    """Trains what `config` describes, in the calling thread.

    Events go to every one of `sinks`, in order, and to the run's journal; a sink must not block. `commands` are
    looked at before every step. With `autostart` False the session waits for a `Start`. Whenever there is
    nothing to do it goes on waiting for commands while `stay(state)` is True, and ends otherwise.
    `on_step(step, loss)` is called after every step with a detached scalar tensor. `model` and `data` take the place
    of what the configuration names: a module that takes float32 `[B, C, H, W]` and returns logits `[B, classes]`, and
    what `finetui.from_datasets` returns. `resume` is the folder of a run, configured by `config`, that goes on from
    its last checkpoint, or from the one that is kept as `resume_from`. `script(step)` gives commands that take effect
    before step `step` + 1, and `path` is how steps are computed, as in a replay.

    The global torch RNG is seeded with the configuration's seed when `run` begins; the number of torch's threads is put
    back when it ends.
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
        resume: RunFolder | None = None,
        resume_from: str = "",
        script: Callable[[int], commands.AnyCommand | None] | None = None,
        path: FastPath | None = None,
    ) -> None:
        self.config = config
        self._writer = RunWriter(socket)
        self.state: events.State = "preparing"
        self._own_model = model
        self._own_data = data
        self._commands = commands or CommandQueue()
        self._autostart = autostart
        self._stay = stay
        self._on_step = on_step
        self._resume = resume
        self._resume_from = resume_from
        self._script = script
        self._path = path
        self._reporter = Reporter(self.journal, sinks, self._steps)
        self._loop: TrainingLoop | None = None
        self._checkpoints: CheckpointManager | None = None
        self._next: RunConfig | None = None
        self._remedy = DivergencePolicy(config.guards)

    @property
    def trainer(self) -> Trainer:
        """The trainer; there is one once `run` has prepared everything."""
        return self.loop.trainer

    @property
    def loop(self) -> TrainingLoop:
        """What is trained; there is one once `run` has prepared everything."""
        assert self._loop is not None, "run() prepares it"
        return self._loop

    @property
    def checkpoints(self) -> CheckpointManager:
        """What writes the checkpoints; there is one once `run` has prepared everything."""
        assert self._checkpoints is not None, "run() prepares it"
        return self._checkpoints

    @property
    def folder(self) -> RunFolder | None:
        """The run's folder, once it has one."""
        return self._writer.folder

    @property
    def journal(self) -> Journal:
        """The run's journal."""
        return self._writer.journal

    def open(self) -> None:
        """Take the folder of a run that is resumed; `run` does it where nobody has. Raises `BadInput`."""
        if self._resume is not None:
            self._writer.take(self._resume)

    def run(self) -> Outcome:
        """Prepare, train until the last epoch or a `Stop`, and return how it ended.

        Raises `BadInput` when the configuration cannot be used, `FinetuiError` when training cannot go on;
        either way the events have said so first.
        """
        threads = torch.get_num_threads()
        try:
            self.open()
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
            self._fail(describe(error))
            raise
        finally:
            torch.set_num_threads(threads)
            if self._loop is not None:
                self._loop.close()
            self._writer.release()
        return Outcome(self.state, self.folder, self.loop.evaluator.report, self._next)

    # -- the life cycle ---------------------------------------------------------------------------------

    def _prepare(self) -> None:
        found, problems = self._where_to_begin()
        self._reporter.emit(events.StateChanged(state="preparing"))
        torch.manual_seed(self.config.training.seed)
        stopped = self._commands.stop_waits
        prepared = prepare(
            self.config,
            self._reporter.progress,
            stopped,
            model=self._own_model,
            data=self._own_data,
            restored=found,
            path=self._path,
        )
        self.config = prepared.config
        loop = TrainingLoop(prepared, self.config, self._reporter, stopped, self._on_step)
        began = how_it_began(self._resume) if self._resume is not None else None
        self._loop = loop
        self._checkpoints = CheckpointManager(self._writer, loop, self._reporter)
        if began is None:
            loop.announce()
        elif changed := continuing.changes(began.config, self.config):
            self._reporter.warn(changed)
        if found is not None:
            self._go_on_from(found, problems)
        self._set_state("ready")

    def _where_to_begin(self) -> tuple[continuing.Checkpoint | None, list[str]]:
        """Return the checkpoint that this run goes on from, if any, and why later ones were passed over."""
        if self._resume is not None:
            return continuing.find(self._resume, self._resume_from)
        if self.config.branch is not None:
            return continuing.read(Path(self.config.branch.parent)), []
        return None, []

    def _go_on_from(self, found: continuing.Checkpoint, problems: Sequence[str]) -> None:
        if self._resume is None:
            # A branch's own journal has nothing to undo, and its best is what it begins with, until it does better.
            self.loop.go_back_to(found, "branch", at=self.journal.next_seq, before=0, kept=())
            return
        for problem in problems:
            self._reporter.warn(problem)
        reason = "later checkpoints are damaged" if problems else ""
        kept, at = self.checkpoints.kept, found.training["at"]
        self.loop.go_back_to(found, "resume", at=at, before=self._writer.steps, kept=kept, reason=reason)
        if found.path != self._resume.last:
            self.checkpoints.save()  # whoever resumes this run again must find this line of it

    def _start(self) -> None:
        if self.folder is None:
            finetune = self.config.finetune
            data, model = self.loop.prepared.data.name, self.config.model.name
            name = default_run_name(data, model, finetune.recipe if finetune else None)
            folder = self._writer.create(self.config, name)
            self._reporter.emit(events.RunStarted(name=folder.name, path=clean(str(folder.path), 4096)))
            # There is always something to go back to, also before the first epoch has ended.
            self.checkpoints.save(*([BEST] if self.loop.accuracy is not None else []))
        if self.trainer.done and not self.loop.owes_evaluation:
            self._set_state("finished")
        else:
            self._set_state("running")

    def _advance(self) -> bool:
        """Obey one command, or take one step, or wait a little; return False when the session is over."""
        running = self.state == "running"
        command = self._script(self.trainer.step) if running and self._script is not None else None
        if command is None:
            command = self._commands.take(0 if running else _IDLE_WAIT)
        if command is not None:
            self._obey(command)
            return self._next is None
        if running:
            self._step()
            return True
        if self.checkpoints.problem and self.checkpoints.due(self.trainer.step):
            self.checkpoints.save()
        if self._stay(self.state):
            return True
        if self.state == "paused":
            self._stop("nobody is there to resume it")
        return False

    def _step(self) -> None:
        try:
            if self.loop.owes_evaluation:
                self._end_evaluation()
                return
            self.loop.step()
            if self.trainer.position == self.trainer.steps_per_epoch:
                self.loop.end_epoch()
                self._end_evaluation()
            elif self.checkpoints.due(self.trainer.step):
                self.loop.emit_point()
                self.checkpoints.save()
        except Diverged as error:
            self._diverged(error)

    def _end_evaluation(self) -> None:
        """Do what the end of an epoch owes: evaluate, save, and end the run with its last epoch."""
        evaluated = self.loop.evaluate(self.folder)
        if evaluated is None:
            return  # a stop waits
        self.checkpoints.save(*([BEST] if evaluated.best else []))
        if self.trainer.done:
            self._set_state("finished", self.checkpoints.unsaved())

    def _stop(self, reason: str = "") -> None:
        self.loop.emit_point()
        self.checkpoints.save()
        self._set_state("stopped", "; ".join(filter(None, (reason, self.checkpoints.unsaved()))))

    def _fail(self, reason: str) -> None:
        kept = self._checkpoints.kept if self._checkpoints is not None else ()
        last = next((one for one in kept if one.name == LAST), None)
        if last is not None and self.folder is not None:
            reason += f"; the checkpoint of step {last.step:,} is intact: finetui resume {self.folder.argument}"
        self._set_state("failed", reason)

    def _diverged(self, error: Diverged) -> None:
        """Do what the configuration says about a loss that is none any more. Raises `FinetuiError` to end the run."""
        if self._remedy.for_(error, self.trainer.steps_per_epoch) == "pause":
            self._roll_back(LAST, reason=str(error))
            self._set_state("paused", f"{error}; lower the learning rate, then resume")
        else:
            self._roll_back(LAST, self.config.guards.rollback_factor, str(error))

    # -- commands ---------------------------------------------------------------------------------------

    def _obey(self, command: commands.AnyCommand) -> None:
        try:
            reason = refusal(type(command), self.state)
            if reason is not None:
                raise BadInput(reason)
            self._carry_out(command)
        except BadInput as error:
            self._reporter.emit(events.CommandRefused(command=command, reason=str(error)))
        else:
            # The answer to a question is the reply, and that to a `Save` belongs to its checkpoint.
            if not isinstance(command, commands.Question | commands.Save):
                self._reporter.emit(events.CommandAccepted(command=command))

    def _carry_out(self, command: commands.AnyCommand) -> None:
        match command:
            case commands.Start():
                self._start()
            case commands.Pause():
                self.loop.emit_point()
                self._set_state("paused")
            case commands.Resume():
                self._set_state("running")
            case commands.StepOnce():
                self.trainer.restart_clock()
                self._step()
                self.loop.emit_point()
            case commands.Stop():
                self._stop()
            case commands.Evaluate():
                self.loop.emit_point()
                evaluated = self.loop.evaluate(self.folder)
                if evaluated is not None and evaluated.best and self.folder is not None:
                    self.checkpoints.save(BEST)
            case commands.FindLearningRate():
                self.loop.find_learning_rate()
            case commands.StartFinetune():
                self._start_finetune(command)
            case commands.Question():
                self.loop.questions.ask(command, self.folder.name if self.folder else "this run")
            case commands.Save():
                self.loop.emit_point()
                self._save_as(command)
            case commands.RollBack():
                self.loop.emit_point()
                check_learning_rate(command.rate_factor, "the factor of the learning rate")
                self._roll_back(command.checkpoint, command.rate_factor)
            case commands.Branch():
                self._branch(command)
            case _:
                self.loop.adjust(command)

    def _save_as(self, command: commands.Save) -> None:
        if command.name:
            check_checkpoint_name(command.name)
        names = [command.name] if command.name else []
        if not self.checkpoints.save(*names, reply=events.CommandAccepted(command=command)):
            raise BadInput(self.checkpoints.unsaved())

    def _start_finetune(self, command: commands.StartFinetune) -> None:
        assert self.folder is not None, "a state that allows finetuning has a run folder"
        child_config(self.config, command.plan, self.folder.last, self.folder.name)  # what cannot be stops nothing
        if self.state in ("running", "paused"):
            self._stop("a finetune starts from here")
        # Under a name of its own, so that a replay of the finetune begins with the same weights.
        start = self.checkpoints.pin(LAST)
        self._next = child_config(self.config, command.plan, start, self.folder.name)

    def _branch(self, command: commands.Branch) -> None:
        assert self.folder is not None, "a state that allows it has a run folder"
        # Under a name of its own: this run's next checkpoint would take the place of its last one.
        start = self.checkpoints.pin(command.checkpoint)
        child = branch_config(self.config, start, self.folder.name, command.name)
        if self.state in ("running", "paused"):
            self._stop("a branch starts from an earlier checkpoint")
        self._next = child

    def _roll_back(self, name: str, rate_factor: float = 1.0, reason: str = "") -> None:
        """Go back to the kept checkpoint `name`. Raises `BadInput` when there is none, or it cannot be read.

        Where somebody wants it, and there is no `reason` to forget it, the state that is left becomes the previous one.
        """
        assert self.folder is not None, "a state that allows it has a run folder"
        found = continuing.read(self.folder.path / find(self.checkpoints.kept, name).file)
        if not reason:
            self.checkpoints.save()
        at, before = found.training["at"], self.trainer.step
        self.loop.go_back_to(found, "rollback", at=at, before=before, kept=self.checkpoints.kept, reason=reason)
        if rate_factor != 1.0:
            self.loop.slow_down(rate_factor)
        # Whoever resumes this run must find this line of it, and not the one that was left.
        self.checkpoints.save()
        if self.state == "finished" and not self.trainer.done:
            self._set_state("stopped")

    # -- what commands and the loop share -----------------------------------------------------------------

    def _set_state(self, state: events.State, reason: str = "") -> None:
        self.state = state
        if self._loop is not None:
            self._loop.trainer.restart_clock()
            self._loop.questions.entered(state)
        self._reporter.emit(events.StateChanged(state=state, reason=reason))

    def _steps(self) -> int:
        return self._loop.trainer.step if self._loop is not None else self._writer.steps
