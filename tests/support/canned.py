"""A run as canned events, so that the dashboard is tested without torch."""

import msgspec

from finetui.engine.protocol.commands import AnyCommand
from finetui.engine.protocol.config import ARTICLE, RunConfig, TrainingConfig
from finetui.engine.protocol.events import (
    AnyEvent,
    ClassReport,
    DataSummary,
    Evaluated,
    Layer,
    LayerGroup,
    RunPrepared,
    RunStarted,
    StateChanged,
    TrainPoint,
)
from finetui.engine.protocol.queues import EventQueue

STEPS = 100


def layers(*frozen: str) -> tuple[LayerGroup, ...]:
    """Return LeNet's layer table with the groups `frozen` frozen."""
    counts = (("conv1", 156), ("conv2", 2416), ("fc1", 30840), ("fc2", 10164), ("fc3", 850))
    return tuple(
        LayerGroup(
            name=name,
            summary="",
            parameters=count,
            trainable=0 if name in frozen else count,
            frozen=name in frozen,
            head=name == "fc3",
            layers=(Layer(name=name, summary="", parameters=count, frozen=name in frozen),),
        )
        for name, count in counts
    )


LAYERS = layers()


def prepared(classes: tuple[str, ...] = tuple("0123456789"), **changes: object) -> RunPrepared:
    data = DataSummary(
        name="mnist",
        requested="mnist",
        location="/data",
        classes=classes,
        train_size=6400,
        test_size=1000,
        channels=1,
        height=28,
        width=28,
    )
    event = RunPrepared(
        config=RunConfig(training=TrainingConfig(**ARTICLE)),
        data=data,
        layers=LAYERS,
        device="cpu (2 threads)",
        parameters=44426,
        steps_per_epoch=STEPS,
    )
    return msgspec.structs.replace(event, **changes)


def point(
    step: int, loss: float = 0.5, accuracy: float = 0.8, lr: float = 0.001, *, time: float = 0.0, **changes: object
) -> TrainPoint:
    found = TrainPoint(
        time=time,
        step=step,
        epoch=(step - 1) // STEPS + 1,
        step_in_epoch=(step - 1) % STEPS + 1,
        steps=10,
        loss=loss,
        accuracy=accuracy,
        learning_rate=lr,
        grad_norm=1.0,
        samples_per_second=6400.0,
    )
    return msgspec.structs.replace(found, **changes)


def evaluated(epoch: int, accuracy: float, labels: tuple[str, ...] = tuple("0123456789")) -> Evaluated:
    reports = tuple(
        ClassReport(label=label, support=100, precision=accuracy, recall=accuracy, f1=accuracy, accuracy=accuracy)
        for label in labels
    )
    return Evaluated(
        step=epoch * STEPS,
        epoch=epoch,
        loss=1 - accuracy,
        accuracy=accuracy,
        n=1000,
        per_class=reports,
        confusion=(),
        best=True,
        seconds=0.1,
    )


def running(*more: AnyEvent) -> list[AnyEvent]:
    """Return the events of a run that has begun, and `more`."""
    return [
        prepared(),
        StateChanged(state="ready"),
        RunStarted(name="a-run", path="/runs/a-run"),
        StateChanged(state="running"),
        *more,
    ]


class CannedLink:
    """A link that says what the test puts into it and remembers what it is told."""

    outlives = True
    attached = False
    steers = True
    over = False
    capabilities = None

    def __init__(self, *events: AnyEvent) -> None:
        self.events = EventQueue()
        self.sent: list[AnyCommand] = []
        self.closed = False
        for event in events:
            self.events.put(event)

    def run(self) -> None:
        pass

    def send(self, command: AnyCommand) -> None:
        self.sent.append(command)

    def close(self) -> None:
        self.closed = True
