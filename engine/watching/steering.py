"""What dashboards tell a watched loop to do, done between two of its steps."""

import threading
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from finetui.engine.errors import BadInput, FinetuiError, describe
from finetui.engine.predictions import given_images
from finetui.engine.protocol import commands, events
from finetui.engine.protocol.capabilities import Capabilities
from finetui.engine.protocol.commands import AnyCommand
from finetui.engine.protocol.config_checks import check_learning_rate
from finetui.engine.protocol.queues import IDLE_WAIT
from finetui.engine.protocol.state_rules import refusal

if TYPE_CHECKING:
    from finetui.engine.watching.loop import Loop

_ALWAYS = (commands.Pause, commands.Resume, commands.StepOnce, commands.Stop, commands.FetchImages)
_WITH_MODEL = (commands.SetLearningRate, commands.SetFrozen, commands.SetFrozenNorm)
_OWN_LOOP = "this is your own loop, which finetui only watches"


class Steering:
    """Obeys for `loop`; questions about images are answered aside, in a thread that begins with the first of them."""

    def __init__(self, loop: "Loop") -> None:
        self._loop = loop
        self._steps_left = 0  # of a paused loop
        self._questions: deque[commands.FetchImages] = deque()
        self._asked = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def capabilities(self) -> Capabilities:
        """Return what the loop obeys."""
        kinds = list(_ALWAYS)
        if self._loop.model is not None:
            kinds += [*_WITH_MODEL]
        if self._loop.save is not None or self._loop.model is not None:
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
                self._stop("nobody is there to resume it")
            if self._loop.stopped or self._steps_left:
                self._steps_left = max(self._steps_left - 1, 0)
                break
            if paused:
                record.reporter.look_at_machine()
        self._loop.meter.restart_clock()

    def stepped(self) -> None:
        """A step is complete."""
        if self._loop.record.state == "paused":
            self._loop.emit_point()

    def before_update(self) -> None:
        """A backward pass is complete, and the update follows."""

    def after_update(self) -> None:
        """The update is complete."""

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
            case commands.Save():
                raise BadInput("saving is not there yet")
        return False

    def _stop(self, reason: str = "") -> None:
        self._loop.emit_point()
        self._loop.stopped = True
        self._loop.record.set_state("stopped", reason)

    def _set_rate(self, command: commands.SetLearningRate) -> None:
        optimizers = self._loop.optimizers
        rate = optimizers.rate()
        if rate is None:
            raise BadInput("no optimizer is known yet: give it to finetui.watch, or let it take a step")
        if command.factor is not None:
            check_learning_rate(command.factor, "the factor of the learning rate")
            optimizers.factor = command.factor
        elif rate <= 0:
            raise BadInput("the loop's own learning rate is 0 just now, and finetui multiplies it")
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

    def _evaluate(self) -> None:
        loop = self._loop
        assert loop.evaluate is not None, "the command is only obeyed where there is one"
        loop.emit_point()
        found = loop.evaluate()
        if isinstance(found, Mapping):
            loop.evaluated(found, "val", 0)
        elif isinstance(found, tuple):
            probabilities, labels, *rest = found
            loop.predictions(probabilities, labels, rest[0] if rest else None, "val")

    # -- questions about images, in a thread of their own -----------------------------------------------

    def aside(self, command: AnyCommand) -> bool:
        """Take `command` where it is a question about images, which no step has to wait for."""
        if not isinstance(command, commands.FetchImages):
            return False
        with self._asked:
            if self._closed:
                return False
            self._questions.append(command)
            if self._thread is None:
                self._thread = threading.Thread(target=self._answer, name="finetui-images", daemon=True)
                self._thread.start()
            self._asked.notify()
        return True

    def close(self) -> None:
        """End the thread."""
        with self._asked:
            self._closed = True
            self._asked.notify()
        if self._thread is not None:
            self._thread.join()

    def _answer(self) -> None:
        while True:
            with self._asked:
                while not self._questions and not self._closed:
                    self._asked.wait()
                if self._closed:
                    return
                question = self._questions.popleft()
            self._loop.record.answer(self._images(question))

    def _images(self, question: commands.FetchImages) -> events.AnyEvent:
        path = self._loop.predictions_file(question.part)
        try:
            if path is None:
                raise BadInput("the loop has given no predictions of these images")
            return given_images.answer(question, path)
        except FinetuiError as error:
            return events.CommandRefused(command=question, reason=str(error))
        except Exception as error:  # noqa: BLE001  # files of any kind are read here
            return events.CommandRefused(command=question, reason=describe(error))
