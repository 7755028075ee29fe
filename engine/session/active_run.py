"""A run that is prepared: the state machine that trains, evaluates, saves and obeys."""

from finetui.engine.checkpoints import checkpoint
from finetui.engine.errors import BadInput, reason_of
from finetui.engine.protocol import commands, events
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.config_checks import check_checkpoint_name, check_learning_rate
from finetui.engine.protocol.paths import short
from finetui.engine.protocol.state_rules import refusal
from finetui.engine.runs.derived import branch_config, child_config
from finetui.engine.runs.folder import default_run_name, write_config
from finetui.engine.runs.kept_checkpoints import BEST, LAST, find
from finetui.engine.runs.reporter import Reporter
from finetui.engine.runs.run_writer import RunWriter
from finetui.engine.session.checkpointing import CheckpointManager
from finetui.engine.session.loop import TrainingLoop
from finetui.engine.text import clean
from finetui.engine.training.divergence import Diverged, DivergencePolicy
from finetui.engine.training.trainer import Trainer


class ActiveRun:
    """Runs `loop` and saves what it trains; `writer` has the run's folder, or takes one with the start.

    `state` says what the run does, and `next` is the run to begin in its place, once one was asked for.
    """

    def __init__(self, loop: TrainingLoop, writer: RunWriter, reporter: Reporter) -> None:
        self.state: events.State = "preparing"
        self.loop = loop
        self.checkpoints = CheckpointManager(writer, loop, reporter)
        self.next: RunConfig | None = None
        loop.features.folder = lambda: None if writer.folder is None else writer.folder.path
        self._writer = writer
        self._reporter = reporter
        self._ranks = loop.ranks
        self._divergence_policy = DivergencePolicy(loop.config.guards)

    @property
    def trainer(self) -> Trainer:
        """What trains."""
        return self.loop.trainer

    def go_on_from(
        self, found: checkpoint.Checkpoint, cause: events.RewindCause, *, before: int, reason: str = ""
    ) -> None:
        """Be again where `found` was written, after `before` steps; all that is in the journal since is undone."""
        # A branch has a journal of its own, with nothing to undo.
        at = self._writer.journal.next_seq if cause == "branch" else found.training["at"]
        if self.loop.go_back_to(found, cause, at=at, before=before, kept=self.checkpoints.kept, reason=reason):
            self.keep_settings()

    def start(self) -> None:
        """Begin to train, or go on; a new run gets its folder."""
        if self._writer.folder is None:
            finetune = self.loop.config.finetune
            data, model = self.loop.prepared.data.name, self.loop.config.model.name
            if data == short(self.loop.config.data.name):  # of code: whether data and model are of one file
                data = self.loop.config.data.name
            name = default_run_name(data, model, finetune.recipe if finetune else None)
            folder = self._ranks.share(lambda: self._writer.create(self.loop.config, name))
            self._writer.folder = folder
            self._ranks.on_folder(folder.path)
            self._reporter.emit(events.RunStarted(name=folder.name, path=clean(str(folder.path), 4096)))
            # There is always something to go back to, also before the first epoch has ended.
            self.checkpoints.save(*([BEST] if self.loop.accuracy is not None else []))
        self.loop.points.notices.run = self.checkpoints.folder.argument
        if self.loop.over and not self.loop.owes_evaluation:
            self._finish()
        else:
            self.set_state("running")

    def step(self) -> None:
        """Take one step, or make up for an evaluation; then do what is due. Raises `FinetuiError` to end the run."""
        try:
            if self.loop.owes_evaluation:
                self._end_evaluation()
                return
            if not self.trainer.epoch_complete:  # a larger batch size may have ended it
                if not self.loop.points.time.step(self.loop.features.ready):
                    return
                self.loop.step()
            if self.trainer.epoch_complete:
                self.loop.end_epoch()
                self._end_evaluation()
            elif self.checkpoints.due(self.trainer.step):
                self.loop.points.emit()
                self.checkpoints.save()
        except Diverged as error:
            self._diverged(error)

    def _end_evaluation(self) -> None:
        """Do what the end of an epoch owes: evaluate, save, and end the run with its last epoch."""
        evaluated = self.loop.evaluate(self._writer.folder)
        if evaluated is None:
            return  # a stop waits
        self.checkpoints.save(*([BEST] if evaluated.best else []))
        if self.loop.over:
            self._finish()

    def _finish(self) -> None:
        """End the run; test images that nothing was chosen by are scored now, once, with the best weights."""
        reasons = [] if self.trainer.done else [self.loop.monitor.reason()]
        if self.loop.owes_test:
            if self.loop.test(self._writer.folder, self._ranks.share(self._best)):
                self.checkpoints.save()
            else:
                reasons.append(f"the test images were not scored: finetui evaluate {self.checkpoints.folder.argument}")
        self._tell_times()
        self.set_state("finished", "; ".join(filter(None, (*reasons, self.checkpoints.unsaved()))))

    def _tell_times(self) -> None:
        """Say where the time went, also that of the evaluation and the saving behind the last point."""
        points = self.loop.points
        points.notices.ends(points.time.take() if self.state == "running" else None)  # a pause counts in nothing

    def _best(self) -> checkpoint.Checkpoint | None:
        """Return the best checkpoint; None where its weights are those that the run has, or it cannot be read."""
        kept = next((one for one in self.checkpoints.kept if one.name == BEST), None)
        if kept is None or kept.step == self.trainer.step:
            return None
        try:
            return checkpoint.read(self.checkpoints.folder.path / kept.file)
        except BadInput as error:
            self._reporter.warn(f"the test images are scored with the last weights, not the best: {error}")
            return None

    def stop(self, reason: str = "") -> None:
        """Save, and take no further step."""
        self.loop.points.emit()
        self.checkpoints.save()
        self._tell_times()
        self.set_state("stopped", "; ".join(filter(None, (reason, self.checkpoints.unsaved()))))

    def retry_saving(self) -> None:
        """Write the checkpoint that could not be written, where it is time for that."""
        turn = self.loop.turn
        if self.retry_due() if turn is None else turn.save_due:
            self.checkpoints.save()

    def retry_due(self) -> bool:
        """Whether there is such a one, and it is time, as far as this process knows."""
        return bool(self.checkpoints.problem) and self.checkpoints.due_here(self.trainer.step)

    def fail(self, reason: str) -> None:
        """End the run because of `reason`; report it with the checkpoint that can be resumed from."""
        last = next((one for one in self.checkpoints.kept if one.name == LAST), None)
        if last is not None:
            folder = self.checkpoints.folder
            reason += f"; the checkpoint of step {last.step:,} is intact: finetui resume {folder.argument}"
        self.set_state("failed", reason)

    def set_state(self, state: events.State, reason: str = "") -> None:
        """Be `state` from now on, and report it with `reason`."""
        self.state = state
        self.loop.points.restart_clocks()
        self.loop.questions.entered(state)
        self._reporter.emit(events.StateChanged(state=state, reason=reason))

    def _diverged(self, error: Diverged) -> None:
        """Do what the configuration says about a loss that is none any more. Raises `FinetuiError` to end the run."""
        if self._divergence_policy.for_(error, self.trainer.steps_per_epoch) == "pause":
            self._roll_back(LAST, reason=str(error))
            self.set_state("paused", f"{error}; lower the learning rate, then resume")
        else:
            self._roll_back(LAST, self.loop.config.guards.rollback_factor, str(error))

    # -- commands ---------------------------------------------------------------------------------------

    def obey(self, command: commands.AnyCommand) -> None:
        """Carry `command` out, or refuse it; it is replied to once."""
        self._reporter.reply(command, self._carry_out)

    def _carry_out(self, command: commands.AnyCommand) -> bool:
        """Do what `command` says; return whether it was replied to by that. Raises `BadInput`."""
        reason = refusal(type(command), self.state)
        if reason is not None:
            raise BadInput(reason)
        match command:
            case commands.Start():
                self.start()
            case commands.Pause():
                self.loop.points.emit()
                self.set_state("paused")
            case commands.Resume():
                self.set_state("running")
            case commands.StepOnce():
                self.loop.points.restart_clocks()
                if not (self.loop.owes_evaluation or self.trainer.epoch_complete):
                    self.loop.points.time.step(lambda: self.loop.features.fill(self.loop.stopped))
                self.step()
                self.loop.points.emit()
            case commands.Stop():
                self.stop()
            case commands.Evaluate():
                self._evaluate(command)
            case commands.NoteTest():
                pass  # the reply is what the journal keeps
            case commands.FindLearningRate():
                self.loop.find_learning_rate()
            case commands.StartFinetune():
                self._start_finetune(command)
            case commands.Question():
                self.loop.questions.ask(command, self._writer.folder.name if self._writer.folder else "this run")
                return True
            case commands.ChangeTraining():
                self.loop.change(command.training, command.early_stop)
                self.keep_settings()
                if self.state == "finished" and not self.loop.over:
                    self.set_state("running")
            case commands.Save():
                self.loop.points.emit()
                self._save_as(command)
                return True
            case commands.RollBack():
                self.loop.points.emit()
                check_learning_rate(command.rate_factor, "the factor of the learning rate")
                self._roll_back(command.checkpoint, command.rate_factor)
            case commands.Branch():
                self._branch(command)
            case _:
                self.loop.adjust(command)
        return False

    def _evaluate(self, command: commands.Evaluate) -> None:
        self.loop.points.emit()
        evaluated = self.loop.evaluate(self._writer.folder, command.part or None)
        if evaluated is not None and evaluated.best and self._writer.folder is not None:
            self.checkpoints.save(BEST)

    def keep_settings(self) -> None:
        """Write the settings that hold now into the run's folder; warn where that cannot be done."""
        if self._writer.folder is None or not self._ranks.is_first:
            return
        try:
            write_config(self._writer.folder, self.loop.config)
        except OSError as error:
            self._reporter.warn(f"the new settings could not be written to config.toml: {reason_of(error)}")

    def _save_as(self, command: commands.Save) -> None:
        if command.name:
            check_checkpoint_name(command.name)
        names = [command.name] if command.name else []
        if not self.checkpoints.save(*names, reply=events.CommandAccepted(command=command)):
            raise BadInput(self.checkpoints.unsaved())

    def _start_finetune(self, command: commands.StartFinetune) -> None:
        folder = self.checkpoints.folder
        wanted = command.plan.checkpoint
        self._ranks.share(lambda: self._check_finetune(command.plan))  # what cannot be stops nothing
        if self.state in ("running", "paused"):
            self.stop("a finetune starts from here")
        # Under a name of its own, so that a replay of the finetune begins with the same weights.
        start = self._ranks.share(lambda: self.checkpoints.pin(wanted))
        self.next = child_config(self.loop.config, command.plan, start, folder.name)

    def _check_finetune(self, plan: commands.FinetunePlan) -> None:
        folder = self.checkpoints.folder
        child_config(self.loop.config, plan, folder.last, folder.name)
        if plan.checkpoint != LAST:
            find(self.checkpoints.kept, plan.checkpoint)

    def _branch(self, command: commands.Branch) -> None:
        # Under a name of its own: this run's next checkpoint would take the place of its last one.
        start = self._ranks.share(lambda: self.checkpoints.pin(command.checkpoint))
        child = self._ranks.share(
            lambda: branch_config(self.loop.config, start, self.checkpoints.folder.name, command.name)
        )
        if self.state in ("running", "paused"):
            self.stop("a branch starts from an earlier checkpoint")
        self.next = child

    def _roll_back(self, name: str, rate_factor: float = 1.0, reason: str = "") -> None:
        """Go back to the kept checkpoint `name`. Raises `BadInput` when there is none, or it cannot be read.

        Where somebody wants it, and there is no `reason` to forget it, the state that is left becomes the previous one.
        """
        found = self._ranks.share(lambda: self._read(name))
        if not reason:
            self.checkpoints.save()
        self.go_on_from(found, "rollback", before=self.trainer.step, reason=reason)
        if rate_factor != 1.0:
            self.loop.slow_down(rate_factor)
        # Whoever resumes this run must find this line of it, and not the one that was left.
        self.checkpoints.save()
        if self.state == "finished" and not self.loop.over:
            self.set_state("stopped")

    def _read(self, name: str) -> checkpoint.Checkpoint:
        return checkpoint.read(self.checkpoints.folder.path / find(self.checkpoints.kept, name).file)
