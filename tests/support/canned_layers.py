"""A network, and a link that answers the questions of the Layers screen about it."""

import msgspec
from canned import LAYERS, CannedLink, evaluated, point, running
from pilot import DashboardPilot, picture

from finetui.engine.protocol.audit import Audit, AuditedTensor, Finding
from finetui.engine.protocol.commands import (
    AnyCommand,
    AuditParameters,
    DescribeModel,
    FetchImages,
    MeasureLayers,
    ViewLayer,
)
from finetui.engine.protocol.events import (
    AnyEvent,
    CommandRefused,
    Images,
    Layer,
    LayerGroup,
    LayersChanged,
    LayersMeasured,
    LayerView,
    ModelDescribed,
    ModuleRow,
    ParametersAudited,
    Picture,
)
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.layers.screen import LayersScreen

ALL = ("filters", "feature-maps", "weights", "activations")
BLOCK = LayerGroup(
    name="layer1",
    summary="2 × BasicBlock",
    parameters=1000,
    trainable=300,
    frozen=False,
    norm="batch",
    layers=(
        Layer(name="layer1.0.conv", summary="conv", parameters=700, frozen=True),
        Layer(name="layer1.0.bn", summary="batch norm", parameters=300, frozen=False, norm="batch"),
    ),
)
TABLE = (LAYERS[0], BLOCK, *LAYERS[2:])


def module(name: str, parameters: int = 0, **changes: object) -> ModuleRow:
    row = ModuleRow(
        name=name,
        depth=name.count(".") + 1 if name else 0,
        kind="Module",
        summary=f"kind of {name or 'all'}",
        output=(16, 8, 8),
        parameters=parameters,
        own=parameters,
        flops=832_000,
        time=0.25,
        views=ALL,
    )
    return msgspec.structs.replace(row, **changes)


MODULES = (
    module("", 43_426, time=1.0),
    module("conv1", 156),
    module("relu", views=("feature-maps", "activations"), own=0),
    module("layer1", 1000, own=0, views=("feature-maps", "activations")),
    module("layer1.0", 1000, own=0, views=("feature-maps", "activations")),
    module("layer1.0.conv", 700),
    module("layer1.0.bn", 300, views=("weights", "feature-maps", "activations")),
    *(module(name, 10) for name in ("fc1", "fc2", "fc3")),
)


AUDIT = Audit(
    steps=20,
    tensors=(
        AuditedTensor(name="conv1.weight", module="conv1", frozen=True, gradient="none", optimizer="SGD"),
        AuditedTensor(name="layer1.0.conv.weight", module="layer1.0.conv", frozen=True, moved=True, gradient="none"),
        AuditedTensor(name="layer1.0.bn.running_mean", module="layer1.0.bn", buffer=True, frozen=True, moved=True),
        AuditedTensor(name="layer1.0.bn.running_var", module="layer1.0.bn", buffer=True, frozen=True, moved=True),
        *(
            AuditedTensor(
                name=f"{name}.weight", module=name, moved=True, gradient="some", largest=0.25, optimizer="SGD",
                rate=0.1, momentum=(0.9,), weight_decay=5e-4,
            )
            for name in ("fc1", "fc2", "fc3")
        ),
    ),
    findings=(
        Finding(name="", reason="gradients are not cleared"),
        Finding(name="relu", reason="it drops values"),
        Finding(name="layer1.0.bn.running_mean", reason="its statistics drift"),
        Finding(name="layer1.0.bn.running_var", reason="its statistics drift"),
        Finding(name="fc3.weight", reason="it is updated twice", wrong=False),
    ),
)  # fmt: skip


class EngineLink(CannedLink):
    """Answers the questions of the Layers screen; with `silent` only when the test calls `answer`."""

    silent = False
    modules: tuple[ModuleRow, ...] = MODULES
    total = 6
    refuse: dict[type[AnyCommand], str] = {}
    audit = AUDIT
    updates = {"conv1": 1.2e-3, "layer1.0.bn": 0.05, "fc1": 1e-7}

    def send(self, command: AnyCommand) -> None:
        super().send(command)
        if not self.silent:
            self.answer(command)

    def answer(self, command: AnyCommand) -> None:
        reason = self.refuse.get(type(command))
        if reason is not None:
            self.events.put(CommandRefused(command=command, reason=reason))
            return
        match command:
            case DescribeModel():
                self.events.put(
                    ModelDescribed(command=command, input=(1, 28, 28), modules=self.modules, seconds=0.00031)
                )
            case MeasureLayers():
                gradients = dict.fromkeys(self.updates, 0.5)
                self.events.put(LayersMeasured(command=command, gradients=gradients, updates=self.updates))
            case AuditParameters():
                self.events.put(ParametersAudited(command=command, step=1234, audit=self.audit))
            case FetchImages():
                found = tuple(dot(index, index) for index in command.indices)
                self.events.put(Images(command=command, pictures=found))
            case ViewLayer(view="filters" | "feature-maps"):
                last = min(command.first + command.count, self.total)
                found = tuple(dot(n, command.index) for n in range(command.first, last))
                self.events.put(self.view(command, total=self.total, pictures=found))
            case ViewLayer():
                edges, counts = tuple(n / 8 - 1 for n in range(17)), tuple(range(16))
                self.events.put(self.view(command, edges=edges, counts=counts))

    @staticmethod
    def view(command: AnyCommand, **changes: object) -> LayerView:
        found = LayerView(
            command=command, step=1234, shape=(6, 1, 5, 5), minimum=-0.3125, maximum=0.5, mean=0.125, zeros=0.25
        )
        return msgspec.structs.replace(found, **changes)

    def asked(self, kind: type[AnyCommand]) -> list[AnyCommand]:
        return [command for command in self.sent if type(command) is kind]


def dot(index: int, shade: int) -> Picture:
    return Picture(index=index, height=2, width=2, pixels=bytes([shade % 256] * 4), name=f"n{index}")


def app_over(*more: AnyEvent, link: EngineLink | None = None) -> tuple[FinetuiApp, EngineLink]:
    link = link or EngineLink()
    for event in running(LayersChanged(layers=TABLE), point(50), evaluated(1, 0.9), *more):
        link.events.put(event)
    return FinetuiApp(link), link


async def opened(pilot: DashboardPilot, word: str = "832K") -> LayersScreen:
    """Open the screen and wait until it shows `word`."""
    await pilot.settle()
    await pilot.press("g")
    await pilot.until(lambda: word in picture(pilot.app))
    screen = pilot.app.screen
    assert isinstance(screen, LayersScreen)
    return screen


def line_with(app: FinetuiApp, word: str) -> str:
    return next(line for line in picture(app).splitlines() if word in line)
