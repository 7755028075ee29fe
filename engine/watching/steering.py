"""What dashboards tell a watched loop to do, done between two of its steps."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from finetui.engine.errors import BadInput
from finetui.engine.link.image_answers import ImageAnswers
from finetui.engine.protocol import commands, events
from finetui.engine.protocol.capabilities import Capabilities
from finetui.engine.protocol.commands import AnyCommand
from finetui.engine.protocol.config_checks import check_checkpoint_name, check_learning_rate
from finetui.engine.protocol.queues import IDLE_WAIT
from finetui.engine.protocol.state_rules import refusal
from finetui.engine.training.layer_meter import LayerMeter
from finetui.engine.watching.audits import Audits
from finetui.engine.watching.layers import NO_OPTIMIZER
from finetui.engine.watching.model_answers import answer_about_model
from finetui.engine.watching.saving import undisturbed

if TYPE_CHECKING:
    from finetui.engine.watching.loop import Loop

_ALWAYS = (commands.Pause, commands.Resume, commands.StepOnce, commands.Stop, commands.FetchImages)
_WITH_MODEL = (commands.SetLearningRate, commands.SetFrozen, commands.SetFrozenNorm)
_WITH_ALL_OF_IT = (
    commands.DescribeModel,
    commands.ViewLayer,
    commands.MeasureLayers,
    commands.AuditParameters,
)
_RETURNS = "a mapping of metrics, a tuple that run.predictions takes, or nothing"
_OWN_LOOP = "this is your own loop, which finetui only watches"


class Steering:
    """Obeys for `loop`; questions about images are answered aside, in a thread that begins with the first of them."""

    def __init__(self, loop: "Loop") -> None:
        self._loop = loop
        self._steps_left = 0  # of a paused loop
        self._images = ImageAnswers(loop.predictions_file, lambda answer: loop.record.answer(answer))
        self._about_next_step: list[commands.MeasureLayers] = []
        self._layer_meter: LayerMeter | None = None
        self._audits = Audits(loop)

    @property
    def looks(self) -> bool:
        """Whether each step is to be looked at, of those that come now."""
        changed = self._loop.optimizers.factor != 1.0  # and has to be put back after an update that raises
        asked = bool(self._about_next_step) or self._audits.wait
        return asked or changed or self._loop.record.state != "running"

    def capabilities(self) -> Capabilities:
        """Return what the loop obeys."""
        kinds = list(_ALWAYS)
        if self._loop.model is not None:
            kinds += [*_WITH_MODEL, *(_WITH_ALL_OF_IT if self._loop.has_all else ())]
        if self._loop.saver.can_save:
            kinds.append(commands.Save)
        if self._loop.evaluate is not None:
            kinds.append(commands.Evaluate)
        if not self._loop.steered:
            kinds = [commands.FetchImages]
        why = _OWN_LOOP if self._loop.steered else "several processes train, and finetui only watches the first"
        return Capabilities(commands=tuple(kind.__name__ for kind in kinds), why_no_others=why)

    def obey(self) -> None:
        """Do what has come; while the run is paused, wait for more."""
        record = self._loop.record
        if record.state == "paused" and self._steps_left:
            self._steps_left -= 1
            return
        while True:
            paused = record.state == "paused"
            command = record.commands.take(IDLE_WAIT if paused else 0)
            if command is not None:
                record.reporter.reply(command, self._carry_out)
            elif not paused:
                return
            elif not record.endpoint.stay("paused"):
                self._stop("nobody was connected to resume it")
            if self._loop.stopped or self._steps_left:
                self._steps_left = max(self._steps_left - 1, 0)
                break
            if paused:
                record.reporter.look_at_machine()
        self._loop.meter.restart_clock()

    def stepped(self) -> None:
        """A step is complete."""
        self._audits.stepped()

    def before_step(self) -> None:
        """An optimizer begins its step; the backward pass is over, or is a part of it."""
        if self._about_next_step:
            layers = [layer for group in self._loop.groups for layer in group.layers]
            self._layer_meter = LayerMeter(layers)
            self._layer_meter.before()

    def before_update(self) -> None:
        """A backward pass is complete."""
        if self._layer_meter is not None:
            self._layer_meter.see_gradients()

    def after_update(self) -> None:
        """The update is complete."""
        meter, self._layer_meter = self._layer_meter, None
        if meter is None:
            return
        found = meter.after()
        gradients = {name: measure.gradient for name, measure in found.items() if measure.gradient is not None}
        updates = {name: measure.update for name, measure in found.items() if measure.update is not None}
        waiting, self._about_next_step = self._about_next_step, []
        for question in waiting:
            self._loop.record.reporter.emit(
                events.LayersMeasured(command=question, gradients=gradients, updates=updates)
            )

    def _carry_out(self, command: AnyCommand) -> bool:
        """Do what `command` says; return whether it was replied to by that. Raises `BadInput`."""
        loop = self._loop
        reason = refusal(type(command), loop.record.state, self.capabilities())
        if reason is not None:
            raise BadInput(reason)
        match command:
            case commands.Pause():
                loop.emit_point()
                loop.record.set_state("paused")
                self._audits.end("the run is paused")
            case commands.Resume():
                loop.record.set_state("running")
            case commands.StepOnce():
                self._steps_left = 1
            case commands.Stop():
                self._stop()
            case commands.SetLearningRate():
                self._set_rate(command)
            case commands.SetFrozen():
                self._set_frozen(command)
            case commands.SetFrozenNorm():
                assert loop.layers is not None, "the command is only obeyed where there is a model"
                if loop.layers.set_norm_trains(command.trains):
                    loop.record.reporter.emit(events.LayersChanged(layers=loop.layers.table()))
            case commands.Evaluate():
                self._evaluate()
            case commands.MeasureLayers():
                self._about_next_step.append(command)
                return True
            case commands.AuditParameters():
                self._audits.begin(command)
                return True
            case commands.DescribeModel() | commands.ViewLayer():
                loop.record.reporter.emit(self._answer_about_model(command))
                loop.meter.restart_clock()
                return True
            case commands.Save():
                if command.name:
                    check_checkpoint_name(command.name)
                loop.emit_point()
                loop.save_as(command.name)
        return False

    def _stop(self, reason: str = "") -> None:
        loop = self._loop
        loop.emit_point()
        if loop.saver.can_save:
            try:
                loop.save_as("")
            except BadInput as error:
                reason = "; ".join(filter(None, (reason, str(error))))
        loop.stopped = True
        loop.record.set_state("stopped", reason)

    def _set_rate(self, command: commands.SetLearningRate) -> None:
        optimizers = self._loop.optimizers
        rate = optimizers.rate()
        if rate is None:
            raise BadInput(NO_OPTIMIZER)
        if command.factor is not None:
            check_learning_rate(command.factor, "the factor of the learning rate")
            optimizers.factor = command.factor
        elif rate <= 0:
            raise BadInput("the loop's own learning rate is 0 at the moment, and finetui can only multiply it")
        else:
            check_learning_rate(command.value, "the learning rate")
            optimizers.factor = command.value / rate
        self._loop.record.reporter.emit(
            events.LearningRateChanged(learning_rate=rate * optimizers.factor, factor=optimizers.factor)
        )

    def _set_frozen(self, command: commands.SetFrozen) -> None:
        layers = self._loop.layers
        assert layers is not None, "the command is only obeyed where there is a model"
        if layers.set(layers.layers_of(command.groups) | frozenset(command.layers), command.frozen):
            self._loop.record.reporter.emit(events.LayersChanged(layers=layers.table()))

    def _answer_about_model(self, question: commands.DescribeModel | commands.ViewLayer) -> events.AnyEvent:
        """Return the answer. Raises `BadInput` where it takes inputs of the network, which only the loop knows."""
        loop = self._loop
        assert loop.model is not None, "the question is only taken where there is a model"
        if isinstance(question, commands.ViewLayer) and question.view not in ("filters", "weights"):
            raise BadInput("activations cannot be shown: your own loop prepares the images")
        if isinstance(question, commands.DescribeModel) and len(loop.shape) != 3:
            raise BadInput("the input size is only known once the first batch has run")
        return answer_about_model(loop.model, loop.shape, question)

    def _evaluate(self) -> None:
        loop = self._loop
        assert loop.evaluate is not None, "the command is only obeyed where there is one"
        loop.emit_point()
        with undisturbed(loop.wrapped, "your evaluate function"):
            found = loop.evaluate()
        if isinstance(found, Mapping):
            loop.evaluated(found, "val", 0)
        elif isinstance(found, tuple) and len(found) in (2, 3):
            loop.predictions(found[0], found[1], found[2] if len(found) == 3 else None, "val")
        elif found is not None:
            raise BadInput(f"your evaluate function returned a {type(found).__name__}: {_RETURNS}")
        loop.meter.restart_clock()

    # -- questions about images, in a thread of their own -----------------------------------------------

    def aside(self, command: AnyCommand) -> bool:
        """Take `command` where it is a question about images, which no step has to wait for."""
        if isinstance(command, commands.FetchImages):
            self._images.ask(command)
        return isinstance(command, commands.FetchImages)

    def close(self) -> None:
        """Answer no more."""
        self._audits.end("the run has ended")
        self._images.close()
