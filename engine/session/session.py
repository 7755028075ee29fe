"""A session: it prepares a run, then steps, obeys or waits until there is nothing left to do."""

import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import torch

from finetui.engine.checkpoints import checkpoint
from finetui.engine.data import ImageData
from finetui.engine.distributed.batch_job import job_from
from finetui.engine.distributed.ranks import Ranks
from finetui.engine.errors import FinetuiError, RankLost, describe
from finetui.engine.inspection.evaluation import Report
from finetui.engine.loggers.available import check_loggers
from finetui.engine.loggers.run_logs import RunLogs
from finetui.engine.machine.watch import MachineWatch
from finetui.engine.models.device import reproducible
from finetui.engine.protocol import commands, events
from finetui.engine.protocol.commands import ChangeTraining, Save
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.paths import absolute_places
from finetui.engine.protocol.queues import IDLE_WAIT, CommandQueue
from finetui.engine.runs.folder import RunFolder, how_it_began
from finetui.engine.runs.journal import Journal
from finetui.engine.runs.reporter import Reporter, Sink
from finetui.engine.runs.resume import changed_settings, handled_otherwise
from finetui.engine.runs.run_writer import RunWriter
from finetui.engine.session.active_run import ActiveRun
from finetui.engine.session.environment import other_world
from finetui.engine.session.lockstep import Turn, agreed, begin_alike, in_turn, own_device
from finetui.engine.session.loop import TrainingLoop
from finetui.engine.session.provenance import ProvenanceLook
from finetui.engine.setup.prepare import prepare
from finetui.engine.setup.prepared import Beginning
from finetui.engine.training.trainer import OnStep


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
    before step `step` + 1, and `begun` is what a run that is replayed began with. What `machine` sees is journaled.
    `ranks` are the processes that train the run together, by default those that torchrun has started.

    `active` is the run, once it is prepared.

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
        begun: Beginning | None = None,
        machine: MachineWatch | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.config = config
        self.ranks = Ranks.from_environment() if ranks is None else ranks
        self._writer = RunWriter(socket)
        self._own_model = model
        self._own_data = data
        self._commands = commands or CommandQueue()
        self._autostart = autostart
        self._stay = stay
        self._on_step = on_step
        self._resume = resume
        self._resume_from = resume_from
        self._script = script
        self._begun = begun
        self._machine = machine
        self._logs = RunLogs(config.run.log if self.ranks.is_first else (), resume)
        if self.ranks.is_first:
            self._reporter = Reporter(self.journal, [*sinks, self._logs], self._steps, self._machine_sample)
        else:  # what all ranks do is told once
            self._reporter = Reporter(None, (), self._steps)
        self.active: ActiveRun | None = None
        self._look: ProvenanceLook | None = None

    @property
    def folder(self) -> RunFolder | None:
        """The run's folder, once it has one."""
        return self._writer.folder

    @property
    def journal(self) -> Journal:
        """The run's journal."""
        return self._writer.journal

    def open(self) -> None:
        """Meet the other ranks, and take the folder of a run that is resumed; `run` does it where nobody has.

        Raises `BadInput`, and `FinetuiError` where the others do not come.
        """
        if self.ranks.world > 1:
            self.ranks.open(own_device(self.config.training, self.ranks))
        if self._resume is not None:
            self.ranks.share(partial(self._writer.take, self._resume))
            self._writer.folder = self._resume
            self.ranks.on_folder(self._resume.path)

    def run(self) -> Outcome:
        """Prepare, train until the last epoch or a `Stop`, and return how it ended.

        Raises `BadInput` when the configuration cannot be used, `FinetuiError` when training cannot go on;
        either way an event has reported it first.
        """
        threads = torch.get_num_threads()
        if self.ranks.heartbeat is not None and self.ranks.is_first:
            self.ranks.heartbeat.on_lost = self._fail
        try:
            with reproducible(self.config.training.device):
                run = self._train()
        except FinetuiError as error:
            self.ranks.cause(str(error))  # the others may fail only because this one does
            self._fail(str(error))
            raise
        except Exception as error:
            lost = self.ranks.lost(error)
            if lost is not None:  # what broke here is only what came of that
                self._fail(lost)
                raise RankLost(lost) from error
            # What went wrong is not known here; the run's log gets all of it, the events one sentence.
            traceback.print_exc(file=sys.stderr)
            self._fail(self.ranks.cause(describe(error)))
            raise
        finally:
            torch.set_num_threads(threads)
            if self._look is not None:
                self._look.close()
            if self.active is not None:
                self.active.loop.close()
            self._end_logs()
            self._writer.release()
        return Outcome(run.state, self.folder, run.loop.evaluator.report, run.next)

    def _train(self) -> ActiveRun:
        self.open()
        run = self._prepare()
        # Whoever has asked to stop by now does not want it to begin.
        if self._autostart and not self.ranks.share_flag(self._commands.stop_waits()):
            run.start()
        while self._advance(run):
            pass
        return run

    def _prepare(self) -> ActiveRun:
        found, problems = self.ranks.share(self._where_to_begin)
        began = self.ranks.share(partial(how_it_began, self._resume)) if self._resume is not None else None
        if found is not None and began is not None:
            _complete(found, began)
        self._reporter.emit(events.StateChanged(state="preparing"))
        if self._resume is None:  # a run that goes on elsewhere, where a library is missing, does without
            self.ranks.share(partial(check_loggers, self.config.run.log))
        self._look = ProvenanceLook(self.config, self._own_model) if self.ranks.is_first else None
        torch.manual_seed(self.config.training.seed)
        stopped = self._commands.stop_waits
        prepared = in_turn(
            self.ranks,
            lambda: prepare(
                self.config,
                self._reporter.progress,
                stopped if self.ranks.is_first else lambda: False,
                model=self._own_model,
                data=self._own_data,
                restored=found,
                begun=self._begun,
            ),
        )
        self.config = prepared.config
        begin_alike(self.ranks, prepared.model, self.config.training)
        loop = TrainingLoop(prepared, self.config, self._reporter, stopped, self._on_step, self.ranks)
        if self.ranks.heartbeat is not None:
            self.ranks.heartbeat.on_heard = loop.points.rank_table.heard
        if self._begun is not None:
            loop.features.obeyed = list(self._begun.features)
        run = self.active = ActiveRun(loop, self._writer, self._reporter)
        if self.folder is not None:
            run.checkpoints.scan()
        if began is None:
            loop.announce()
        elif changed := changed_settings(absolute_places(began.config), self.config):
            self._reporter.warn(changed)
        began_with = self._begun.world if self._begun is not None else self.ranks.world
        for difference in (*prepared.data.differences, *other_world(began_with, self.ranks.world)):
            self._reporter.warn(difference)
        if found is not None:
            self._go_on(run, found, problems)
        if began is not None and (otherwise := handled_otherwise(began.config, self.config)):
            self._reporter.emit(events.Log(level="info", message=f"continues with {otherwise}"))
            run.keep_settings()
        if self._look is not None:
            self._reporter.emit(events.ProvenanceTold(provenance=self._look.found(prepared)))
        self._tell_job()
        run.set_state("ready")
        return run

    def _tell_job(self) -> None:
        job = job_from()
        if job is not None and (job.system != "torchrun" or job.restarts):
            self._reporter.emit(events.JobFound(**msgspec.structs.asdict(job)))

    def _where_to_begin(self) -> tuple[checkpoint.Checkpoint | None, list[str]]:
        """Return the checkpoint that this run goes on from, if any, and why later ones were passed over."""
        if self._resume is not None:
            return checkpoint.find(self._resume, self._resume_from)
        if self.config.branch is not None:
            return checkpoint.read(Path(self.config.branch.parent)), []
        return None, []

    def _go_on(self, run: ActiveRun, found: checkpoint.Checkpoint, problems: Sequence[str]) -> None:
        if self._resume is None:
            # Its best is what it begins with, until it does better.
            run.go_on_from(found, "branch", before=0)
            return
        for problem in problems:
            self._reporter.warn(problem)
        reason = "later checkpoints are damaged" if problems else ""
        run.go_on_from(found, "resume", before=self._writer.steps, reason=reason)
        if found.path != self._resume.last:
            run.checkpoints.save()  # whoever resumes this run again must find this line of it

    def _advance(self, run: ActiveRun) -> bool:
        """Let `run` obey one command, or take one step, or wait a little; return False when the session is over."""
        command = self._command(run) if self.ranks.world == 1 else self._agree(run)
        if command is not None:
            run.obey(command)
            return run.next is None
        if run.state == "running":
            run.step()
            return True
        self._reporter.look_at_machine()
        run.retry_saving()
        if self._stay(run.state) if run.loop.turn is None else run.loop.turn.stays:
            return True
        if run.state == "paused":
            run.stop("nobody was connected to resume it")
        return False

    def _command(self, run: ActiveRun) -> commands.AnyCommand | None:
        """Return what is to be obeyed now, if anything; a run that does not train waits a little for it."""
        running = run.state == "running"
        command = self._script(run.trainer.step) if running and self._script is not None else None
        if run.state == "finished" and self._script is not None:
            # What is replayed had got more epochs here, or had gone on although it was stopped early.
            command = self._script(run.trainer.step)
            command = command if isinstance(command, (ChangeTraining, Save)) else None
        return self._commands.take(0 if running else IDLE_WAIT) if command is None else command

    def _agree(self, run: ActiveRun) -> commands.AnyCommand | None:
        """Have all ranks know what the first one decides by its clock and its commands; return what is to be obeyed."""
        if not self.ranks.is_first and self._script is not None and run.state == "running":
            self._script(run.trainer.step)  # it may prepare the run; what is obeyed, rank 0 says
        run.loop.turn = agreed(self.ranks, lambda: self._decide(run))
        return run.loop.turn.command

    def _decide(self, run: ActiveRun) -> Turn:
        command = self._command(run)
        running = run.state == "running"
        return Turn(
            command,
            point_due=run.trainer.point_due(),
            save_due=run.checkpoints.due_here(run.trainer.step + 1) if running else run.retry_due(),
            stays=not running and command is None and self._stay(run.state),
        )

    def _fail(self, reason: str) -> None:
        if self.active is not None:
            self.active.fail(reason)
        else:
            self._reporter.emit(events.StateChanged(state="failed", reason=reason))

    def _machine_sample(self) -> events.MachineSample | events.Log | None:
        """Return what the machine does, where it is time to journal that: while a run goes on, or pauses.

        Or what there is to say of the run's logs.
        """
        said = self._logs.take_message()
        if said is not None:
            return said
        if self._machine is None or self.folder is None:
            return None
        self._machine.settle(self.folder.path)
        goes_on = self.active is not None and self.active.state in ("running", "paused")
        return self._machine.due() if goes_on else None

    def _end_logs(self) -> None:
        """Have the run's logs written to their end, and say what went wrong with them."""
        self._logs.close(patient=self.active is not None and self.active.state == "finished")
        while said := self._logs.take_message():
            self._reporter.emit(said)

    def _steps(self) -> int:
        return self.active.trainer.step if self.active is not None else self._writer.steps


def _complete(found: checkpoint.Checkpoint, began: events.RunPrepared) -> None:
    """Fill in by which settings the first checkpoints were trained, which do not tell."""
    found.training.setdefault("settings", msgspec.to_builtins(began.config.training))
    found.training.setdefault("plan_epochs", began.config.training.epochs)
    found.training.setdefault("early_stop", 0)
