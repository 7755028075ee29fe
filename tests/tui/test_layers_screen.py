"""The Layers screen over canned events and canned answers."""

from collections.abc import Callable

import msgspec
import pytest
from canned import LAYERS, CannedLink, evaluated, layers, point, prepared, running
from rich.cells import cell_len
from test_train_screen import picture, settle
from textual.pilot import Pilot

from engine.commands import AnyCommand, DescribeModel, FetchImages, MeasureLayers, SetFrozen, SetFrozenNorm, ViewLayer
from engine.events import (
    AnyEvent,
    CommandAccepted,
    CommandRefused,
    EffectMeasured,
    Images,
    Layer,
    LayerGroup,
    LayersChanged,
    LayersMeasured,
    LayerView,
    ModelDescribed,
    ModuleRow,
    Picture,
    StateChanged,
)
from tui.app import FinetuiApp
from tui.screens.help import HelpScreen
from tui.screens.layers import LayersScreen
from tui.widgets.layer_view import LayerPane
from tui.widgets.module_tree import ModuleRows
from tui.widgets.thumbnail_grid import ThumbnailGrid

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


class EngineLink(CannedLink):
    """Answers the questions of the Layers screen; with `silent` only when the test calls `answer`."""

    silent = False
    modules: tuple[ModuleRow, ...] = MODULES
    total = 6
    refuse: dict[type[AnyCommand], str] = {}
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


async def until(pilot: Pilot[None], test: Callable[[], bool]) -> None:
    for _ in range(100):
        if test():
            return
        await pilot.pause(0.05)
    raise AssertionError(picture(pilot.app))


async def opened(pilot: Pilot[None], word: str = "832K") -> LayersScreen:
    """Open the screen and wait until it shows `word`."""
    await settle(pilot)
    await pilot.press("g")
    await until(pilot, lambda: word in picture(pilot.app))
    screen = pilot.app.screen
    assert isinstance(screen, LayersScreen)
    return screen


def line_with(app: FinetuiApp, word: str) -> str:
    return next(line for line in picture(app).splitlines() if word in line)


# -- the modules ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_each_module_has_its_numbers_as_far_as_there_is_room(size: tuple[int, int]) -> None:
    app, _ = app_over()
    async with app.run_test(size=size) as pilot:
        await opened(pilot, "0.31 ms")
        await until(pilot, lambda: "1.2e-3" in picture(app) and "0 not finite" in picture(app))
        text = picture(app)
        words = ["module", "16×8×8", "700", "■ frozen", "□ trains", "◧ partly", "25.0%", "178KB", "1×28×28"]
        words += ["832K FLOPs and 0.31 ms an image", "42,310 of 44,426 parameters train"]
        words += ["1 Filters", "2 Feature maps", "3 Weights", "4 Activations", "0 not finite", "Freeze", "Back"]
        if size[0] >= 120:
            words += ["FLOPs", "gradient", "5.0e-1", "1.2e-3", "about 1e-3 is healthy"]
        if size[0] >= 200:
            words += ["kind of layer1.0", "━━", "batch"]
        for word in words:
            assert word in text, f"{word} is missing at {size}:\n{text}"
        rows = app.screen.query_one(ModuleRows)
        assert sum(column.width for column in rows.columns) + 2 <= rows.size.width
        headings = line_with(app, "output").index("output"), line_with(app, "params").index("params")
        row = line_with(app, "› ")
        # Numbers end where their headings end.
        assert row[headings[0] + len("output") - 1] == "8"
        assert row[headings[1] + len("params") - 1] == "6"
        widgets = [app.screen.query_one(kind).region for kind in (ModuleRows, LayerPane, "#layers-notes", "Footer")]
        assert not any(a.overlaps(b) for i, a in enumerate(widgets) for b in widgets[:i])
        assert all(app.screen.region.contains_region(region) for region in widgets)
        assert app.screen.region.contains_region(app.screen.query_one("#view-numbers").region)


async def test_the_layer_table_is_there_before_the_description() -> None:
    link = EngineLink()
    link.silent = True
    app, _ = app_over(link=link)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, "asking the engine")
        text = picture(app)
        for word in ("lenet", "layer1", "conv", "bn", "fc3", "700", "◧ partly"):
            assert word in text, f"{word} is missing:\n{text}"
        await pilot.press("down", "down")
        before = screen.query_one(ModuleRows).chosen
        assert before is not None
        assert [type(command) for command in link.sent if isinstance(command, DescribeModel)] == [DescribeModel]
        link.answer(link.asked(DescribeModel)[0])
        await until(pilot, lambda: "832K" in picture(app))
        after = screen.query_one(ModuleRows).chosen
        assert after is not None
        assert after.path == before.path == "layer1.0"


async def test_a_refusal_is_shown_and_asked_again_in_another_state() -> None:
    link = EngineLink()
    link.refuse = {DescribeModel: "the checkpoint is gone"}
    app, _ = app_over(StateChanged(state="finished"), link=link)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, "the checkpoint is gone")
        await pilot.pause(0.6)
        assert len(link.asked(DescribeModel)) == 1
        link.refuse = {}
        link.events.put(StateChanged(state="running"))
        await until(pilot, lambda: "0.31 ms" in picture(app))


async def test_nothing_is_asked_while_the_engine_prepares() -> None:
    link = EngineLink(prepared())
    app = FinetuiApp(link)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, "getting ready")
        assert link.sent == []
        link.events.put(StateChanged(state="ready"))
        await until(pilot, lambda: bool(link.asked(DescribeModel)))


async def test_another_run_on_the_same_link_is_described_anew() -> None:
    app, link = app_over()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, "layer1")
        link.modules = (module("", 5), module("stem", 5))
        group = LayerGroup(
            name="stem", summary="", parameters=5, frozen=False, trainable=5,
            layers=(Layer(name="stem", summary="", parameters=5, frozen=False),),
        )  # fmt: skip
        link.events.put(prepared(layers=(group,)))
        link.events.put(StateChanged(state="running"))
        await until(pilot, lambda: "stem" in picture(app) and "layer1" not in picture(app))
        assert len(link.asked(DescribeModel)) == 2


async def test_modules_fold_and_unfold() -> None:
    app, _ = app_over()
    async with app.run_test(size=(80, 40)) as pilot:
        screen = await opened(pilot, "bn")
        rows = screen.query_one(ModuleRows)
        await pilot.press("home", "down", "down", "down", "left")
        await pilot.pause()
        assert "▸ layer1" in picture(app)
        assert "bn" not in picture(app)
        await pilot.press("right", "right", "right")
        await pilot.pause()
        assert rows.chosen is not None
        assert rows.chosen.path == "layer1.0.conv"
        # Left from a leaf goes to the module that it is in, and folds only then.
        await pilot.press("left")
        assert rows.chosen.path == "layer1.0"
        assert "bn" in picture(app)
        await pilot.press("down", "z")
        await pilot.pause()
        assert "bn" not in picture(app)
        assert rows.chosen.path == "layer1"  # the cursor stays on something that can be seen
        await pilot.press("z")
        await pilot.pause()
        assert "bn" in picture(app)
        # By mouse: the mark folds, anything else only chooses.
        await pilot.click(rows, offset=(4, 3))
        await pilot.pause()
        assert "▸ layer1" in picture(app)
        await pilot.click(rows, offset=(9, 1))
        await pilot.pause()
        assert rows.chosen.path == "conv1"
        await pilot.click("#module-heading")
        await pilot.pause()
        assert "▾ layer1" in picture(app)


async def test_a_large_network_begins_folded_and_moves_quickly() -> None:
    blocks = [f"stage{a}.{b}" for a in range(4) for b in range(30)]
    names = [f"{block}.{part}" for block in blocks for part in ("conv", "bn", "act")]
    link = EngineLink()
    rows = [module(f"stage{a}", own=0) for a in range(4)] + [module(name, own=0) for name in blocks]
    link.modules = (module(""), *sorted([*rows, *(module(name, 5) for name in names)], key=lambda row: row.name))
    table = tuple(
        LayerGroup(
            name=f"stage{a}", summary="", parameters=100, frozen=False,
            layers=tuple(Layer(name=name, summary="", parameters=5, frozen=False) for name in names
                         if name.startswith(f"stage{a}.")),
        ) for a in range(4)
    )  # fmt: skip
    app, _ = app_over(LayersChanged(layers=table), link=link)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, "stage0")
        tree = screen.query_one(ModuleRows)
        await until(pilot, lambda: "16×8×8" in picture(app))
        assert "conv" not in picture(app)
        assert len(tree._rows) == 1 + 4 + 120
        await pilot.press("z", "end")
        await pilot.pause()
        assert len(tree._rows) == 1 + 4 + 120 + 360
        assert tree.chosen is not None
        assert tree.chosen.path.startswith("stage3")
        assert "›" in picture(app)
        rendered: list[str] = []
        original = tree.content_of
        tree.content_of = lambda row, width: (rendered.append(row.key), original(row, width))[1]  # type: ignore
        await pilot.press("up")
        await pilot.pause()
        assert len(rendered) <= 2 * tree.size.height


async def test_measures_follow_each_other_while_the_run_runs() -> None:
    app, link = app_over()
    link.silent = True
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, "asking")
        link.answer(link.asked(DescribeModel)[0])
        await pilot.pause(0.9)
        # One at a time, however long it takes.
        assert len(link.asked(MeasureLayers)) == 1
        link.answer(link.asked(MeasureLayers)[0])
        await until(pilot, lambda: "1.2e-3" in picture(app))
        assert line_with(app, "conv1").rstrip().count("1.2e-3") == 1
        assert "5.0e-2 ↑" in picture(app)
        assert "1.0e-7 ↓" in picture(app)
        assert "↑" in line_with(app, "layer1")  # a container tells of what is in it
        await until(pilot, lambda: len(link.asked(MeasureLayers)) == 2)
        link.answer(link.asked(MeasureLayers)[1])
        await pilot.press("question_mark")
        await pilot.pause(1.0)
        assert isinstance(app.screen, HelpScreen)
        assert len(link.asked(MeasureLayers)) == 2
        await pilot.press("escape")
        await until(pilot, lambda: len(link.asked(MeasureLayers)) == 3)
        link.answer(link.asked(MeasureLayers)[2])
        link.events.put(StateChanged(state="paused"))
        await pilot.pause(1.0)
        assert len(link.asked(MeasureLayers)) == 3
        await pilot.press("escape")
        link.events.put(StateChanged(state="running"))
        await pilot.pause(1.0)
        assert not screen.is_attached
        assert len(link.asked(MeasureLayers)) == 3


async def test_a_refused_measure_is_not_asked_for_in_a_row() -> None:
    link = EngineLink()
    link.refuse = {MeasureLayers: "not here"}
    app, _ = app_over(link=link)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, "0.31 ms")
        await pilot.pause(1.5)
        assert len(link.asked(MeasureLayers)) == 1


async def test_a_journal_is_not_asked_for_measures() -> None:
    app, link = app_over()
    link.steers = False
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, "0.31 ms")
        await pilot.pause(0.6)
        assert link.asked(MeasureLayers) == []


# -- freezing -----------------------------------------------------------------------------------------------------


async def test_modules_freeze_alone_whole_and_on_either_side() -> None:
    app, link = app_over()
    async with app.run_test(size=(80, 40)) as pilot:
        screen = await opened(pilot, "bn")
        rows = screen.query_one(ModuleRows)

        def freezes() -> list[tuple[tuple[str, ...], tuple[str, ...], bool]]:
            return [(c.groups, c.layers, c.frozen) for c in link.sent if isinstance(c, SetFrozen)]

        await pilot.press("home", "down", "down", "down", "down", "down", "space")  # layer1.0.conv, which is frozen
        assert freezes() == [((), ("layer1.0.conv",), False)]
        await pilot.press("a", "b", "up", "enter")
        assert freezes()[1:] == [
            (("conv1",), (), True),
            (("fc1", "fc2", "fc3"), ("layer1.0.bn",), True),
            (("layer1",), (), True),
        ]
        await until(pilot, lambda: "freezing" in line_with(app, "layer1"))
        await pilot.press("home", "space")
        assert freezes()[4] == (("conv1", "layer1", "fc1", "fc2", "fc3"), (), True)
        # A click on the state does the same.
        await pilot.click(rows, offset=(line_with(app, "conv1").index("freezing") - 1, 1))
        assert freezes()[5] == (("conv1",), (), True)
        # What has no parameters, or nothing beside it, cannot be frozen, and that is said.
        await pilot.press("home", "down", "down", "space")
        await pilot.pause()
        assert len(freezes()) == 6
        assert "nothing here can be frozen" in picture(app)
        frozen = msgspec.structs.replace(TABLE[0], frozen=True, layers=layers("conv1")[0].layers)
        link.events.put(LayersChanged(layers=(frozen, *TABLE[1:])))
        for command in link.asked(SetFrozen):
            link.events.put(CommandAccepted(command=command))
        await until(pilot, lambda: "■ frozen" in line_with(app, "conv1"))


async def test_bypassed_layers_are_said_to_be_and_left_out() -> None:
    table = (TABLE[0], *(msgspec.structs.replace(group, in_use=False, frozen=True) for group in TABLE[2:]))
    app, link = app_over(LayersChanged(layers=table))
    async with app.run_test(size=(80, 40)) as pilot:
        await opened(pilot, "bypassed")
        await pilot.press("home", "down", "b")
        await pilot.pause()
        assert "nothing here can be frozen" in picture(app)
        assert link.asked(SetFrozen) == []


async def test_freezing_that_cannot_be_is_refused_in_words() -> None:
    app, link = app_over()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, "0.31 ms")
        await pilot.press("space")
        refused = CommandRefused(command=link.asked(SetFrozen)[0], reason="at least one layer must stay trainable")
        link.events.put(refused)
        await until(pilot, lambda: "at least one layer must stay" in picture(app))
        link.events.put(StateChanged(state="finished"))
        await until(pilot, lambda: app.train_screen.store.view.state == "finished")
        await pilot.press("space", "m")
        await pilot.pause()
        assert "all epochs are done" in picture(app)
        assert len(link.asked(SetFrozen)) == 1
        assert link.asked(SetFrozenNorm) == []


async def test_the_switch_for_normalisation_and_the_effect_of_a_change() -> None:
    numbers = msgspec.structs.replace(point(60), group_rate_factors=(1, 0.1, 1, 1, 1))
    effect = EffectMeasured(trainable_before=2, trainable_after=1, speed_before=8000.0, speed_after=9000.0)
    app, link = app_over(numbers, effect)
    async with app.run_test(size=(200, 60)) as pilot:
        await opened(pilot, "8,000 → 9,000 img/s")
        assert "×0.1" in line_with(app, "bn")
        assert "keep their statistics (m)" in picture(app)
        await pilot.press("m")
        assert link.asked(SetFrozenNorm)[0].trains
        link.events.put(CommandAccepted(command=link.asked(SetFrozenNorm)[0]))
        await until(pilot, lambda: "go on collecting" in picture(app))
        for key in ("escape", "g", "q"):
            await pilot.press(key)
            await pilot.pause()
            assert app.screen is app.train_screen
            await pilot.press("g")
            await until(pilot, lambda: isinstance(app.screen, LayersScreen))


async def test_without_normalisation_there_is_no_switch() -> None:
    app, link = app_over(LayersChanged(layers=LAYERS))
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot, "0.31 ms")
        await pilot.press("m")
        await pilot.pause()
        assert link.asked(SetFrozenNorm) == []
        assert "Norm" not in picture(app)


# -- looks into a layer ---------------------------------------------------------------------------------------------


async def test_each_view_is_asked_for_and_shown() -> None:
    app, link = app_over()
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, "n5")  # the last of the filters
        assert "6×1×5×5  -0.312 to 0.5  mean 0.125  zeros 25.0%  0 not finite  step 1,234" in picture(app)
        await pilot.press("2")
        await until(pilot, lambda: bool(link.asked(FetchImages)))
        await pilot.press("3")
        await until(pilot, lambda: "┴" in picture(app))
        assert "█" in picture(app)
        assert "-1 " in picture(app)
        await pilot.click("#view-activations")
        await until(pilot, lambda: link.asked(ViewLayer)[-1].view == "activations")
        looks = [(look.layer, look.view, look.index, look.first) for look in link.asked(ViewLayer)]
        assert looks == [("conv1", view, 0, 0) for view in ALL]
        # The same key looks anew.
        await pilot.press("4")
        await until(pilot, lambda: len(link.asked(ViewLayer)) == 5)
        await pilot.press("v")
        await pilot.pause()
        assert not screen.query_one(ModuleRows).region
        await pilot.press("escape")
        await pilot.pause()
        assert screen.query_one(ModuleRows).region
        assert app.screen is screen


async def test_only_where_the_cursor_rests_is_the_engine_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.screens.layers._REST_SECONDS", 1.0)  # a slow machine must not look like a rest
    app, link = app_over()
    async with app.run_test(size=(80, 40)) as pilot:
        await opened(pilot, "n5")
        await pilot.press("down", "down", "down", "down", "down", "down")
        await until(pilot, lambda: len(link.asked(ViewLayer)) == 2 or link.asked(ViewLayer)[-1].layer == "fc1")
        assert [look.layer for look in link.asked(ViewLayer)] == ["conv1", "fc1"]


async def test_views_that_a_module_lacks_say_why() -> None:
    app, link = app_over()
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, "n5")
        await pilot.press("down")
        await until(pilot, lambda: "relu has no weights of its own" in picture(app))
        assert screen.query_one("#view-filters").has_class("-unavailable")
        assert not screen.query_one("#view-feature-maps").has_class("-unavailable")
        await pilot.press("down")
        await until(pilot, lambda: "layer1 has no weights of its own; choose a layer in it" in picture(app))
        await pilot.press("down", "down", "down")
        await until(pilot, lambda: "one dimension only" in picture(app))
        assert len(link.asked(ViewLayer)) == 1


async def test_late_answers_to_another_look_are_dropped() -> None:
    app, link = app_over()
    async with app.run_test(size=(80, 40)) as pilot:
        await opened(pilot, "n5")
        link.silent = True
        await pilot.press("3")
        await until(pilot, lambda: len(link.asked(ViewLayer)) == 2)
        await pilot.press("4")
        await until(pilot, lambda: len(link.asked(ViewLayer)) == 3)
        assert "asking the engine" in picture(app)
        late, now = link.asked(ViewLayer)[1:]
        link.events.put(link.view(now, edges=(0.0, 7.5), counts=(3,)))
        await until(pilot, lambda: "7.5" in picture(app))
        link.events.put(link.view(late, edges=(0.0, 9.5), counts=(3,)))
        await pilot.pause(0.4)
        assert "9.5" not in picture(app)
        # So are those that come once the screen is closed.
        await pilot.press("down", "escape")
        link.answer(now)
        await pilot.pause(0.3)
        assert app.screen is app.train_screen


async def test_pages_are_fetched_as_they_come_into_sight() -> None:
    link = EngineLink()
    link.total = 4096
    app, _ = app_over(link=link)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, "n3")
        firsts = [look.first for look in link.asked(ViewLayer)]
        assert firsts == [0]
        await pilot.press("v", "end")
        await until(pilot, lambda: "n4095" in picture(app))
        firsts = [look.first for look in link.asked(ViewLayer)]
        assert firsts[-1] == 4064
        assert len(firsts) == len(set(firsts)) < 8
        assert screen.query_one(ThumbnailGrid).cursor == 4095
        link.refuse = {ViewLayer: "the page is not there"}
        await pilot.press("home")
        await pilot.pause(0.3)
        for _ in range(12):
            await pilot.press("pagedown")
        await until(pilot, lambda: "the page is not there" in picture(app) and "not there" in picture(app))


async def test_the_test_image_is_chosen_for_maps_and_activations() -> None:
    app, link = app_over()
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, "n5")
        await pilot.press("full_stop", "i")
        await pilot.pause()
        assert "the same for every test image" in picture(app)
        await pilot.press("2", "full_stop", "full_stop", "comma")
        await until(pilot, lambda: link.asked(ViewLayer)[-1].index == 1)
        assert link.asked(FetchImages)[-1].indices == (1,)
        await pilot.press("i", "1", "2", "enter")
        await until(pilot, lambda: link.asked(ViewLayer)[-1].index == 12)
        assert isinstance(app.focused, ModuleRows)
        # Escape leaves the field, not the screen, and a number that was not submitted is gone.
        await pilot.press("i", "7", "escape")
        await pilot.pause()
        assert app.screen is screen
        assert "image 12" in picture(app)
        await pilot.press("i", *"1000", "enter")
        await pilot.pause(0.3)
        assert "there are 1,000 test images, numbered from 0" in picture(app)
        assert link.asked(ViewLayer)[-1].index == 12
        await pilot.click("ImageChooser #image-number", offset=(9, 0))
        await pilot.pause(0.3)
        await until(pilot, lambda: link.asked(ViewLayer)[-1].index == 11)
        await pilot.press("4")
        await until(pilot, lambda: link.asked(ViewLayer)[-1].view == "activations")
        assert link.asked(ViewLayer)[-1].index == 11


async def test_a_look_that_is_refused_says_why() -> None:
    link = EngineLink()
    link.refuse = {ViewLayer: "conv1 is not reached by the forward pass"}
    app, _ = app_over(link=link)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, "is not reached by")


# -- at the edges ---------------------------------------------------------------------------------------------------


async def test_hostile_names_are_shown_and_keep_the_columns_straight() -> None:
    names = ("[red]x[/]" * 3, "\x1b[31mred", "漢字" * 30, "a\u202eb", "e\u0301\u200b")
    link = EngineLink()
    link.modules = (module(""), *(module(name, 156) for name in names))
    table = tuple(
        LayerGroup(name=name, summary="[/]", parameters=156, frozen=False,
                   layers=(Layer(name=name, summary="[/]", parameters=156, frozen=False),))
        for name in names
    )  # fmt: skip
    app, _ = app_over(LayersChanged(layers=table), link=link)
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot, "0.31 ms")
        await pilot.press("home", "down", "down", "down", "3")
        await pilot.pause(0.4)
        text = picture(app)
        assert "[red]x[/]" in text
        assert not {"\x1b", "\u202e", "\u200b"} & set(text)
        ends = {cell_len(line[: line.index(" 156 ")]) for line in text.splitlines() if " 156 " in line}
        assert len(ends) == 1


@pytest.mark.parametrize("size", [(60, 15), (40, 10), (20, 5)])
async def test_small_terminals_show_less_and_survive(size: tuple[int, int]) -> None:
    app, _ = app_over()
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("g")
        for key in ("1", "2", "3", "4", "v", "escape", "down", "z", "space"):
            await pilot.press(key)
            await pilot.pause(0.2)
        assert isinstance(app.screen, LayersScreen)
        assert "Layers" in picture(app)


async def test_without_colours_everything_can_still_be_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app, _ = app_over()
    app.image_mode = "ascii"
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot, "n5")
        await pilot.press("3")
        await until(pilot, lambda: "+--" in picture(app))
        text = picture(app)
        assert "##" in text
        for sign in ("■ frozen", "□ trains", "› "):
            assert sign in text
        assert not set("▁▂▃▄▅▆▇█") & set(text)


async def test_it_follows_a_light_theme() -> None:
    app, _ = app_over()
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, "n5")
        rows = screen.query_one(ModuleRows)
        dark = rows.render_line(3)
        app.theme = "finetui-light"
        await pilot.pause()
        light = rows.render_line(3)
        assert [segment.style.color for segment in dark] != [segment.style.color for segment in light]
        assert dark.text == light.text
