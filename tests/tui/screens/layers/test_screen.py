"""The module tree and freezing on the Layers screen, over canned events and answers."""

import msgspec
import pytest
from canned import LAYERS, layers, point, prepared
from canned_layers import TABLE, EngineLink, app_over, line_with, module, opened
from pilot import open_app, picture

from finetui.engine.protocol.commands import DescribeModel, MeasureLayers, SetFrozen, SetFrozenNorm
from finetui.engine.protocol.events import (
    CommandAccepted,
    CommandRefused,
    EffectMeasured,
    Layer,
    LayerGroup,
    LayersChanged,
    StateChanged,
)
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.help import HelpScreen
from finetui.tui.screens.layers.layer_pane import LayerPane
from finetui.tui.screens.layers.module_tree import ModuleRows
from finetui.tui.screens.layers.screen import LayersScreen

# -- the modules ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_each_module_has_its_numbers_as_far_as_there_is_room(size: tuple[int, int]) -> None:
    app, _ = app_over()
    async with open_app(app, size=size) as pilot:
        await opened(pilot, "0.31 ms")
        await pilot.until(lambda: "1.2e-3" in picture(app) and "0 not finite" in picture(app))
        text = picture(app)
        words = ["module", "16×8×8", "700", "■ frozen", "□ trains", "◧ partly", "25.0%", "178 KB", "1×28×28"]
        words += ["832K FLOPs and 0.31 ms per image", "42,310 of 44,426 parameters trainable"]
        words += ["1 Filters", "2 Feature maps", "3 Weights", "4 Activations", "0 not finite", "Freeze", "Back"]
        if size[0] >= 120:
            words += ["FLOPs", "gradient", "0.50", "1.2e-3", "about 1e-3 is healthy"]
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
        widgets = [app.screen.query_one(kind).region for kind in (ModuleRows, LayerPane, "#layers-notes", "KeyBar")]
        assert not any(a.overlaps(b) for i, a in enumerate(widgets) for b in widgets[:i])
        assert all(app.screen.region.contains_region(region) for region in widgets)
        assert app.screen.region.contains_region(app.screen.query_one("#view-numbers").region)


async def test_the_layer_table_is_there_before_the_description() -> None:
    link = EngineLink()
    link.silent = True
    app, _ = app_over(link=link)
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot, "Loading")
        text = picture(app)
        for word in ("lenet", "layer1", "conv", "bn", "fc3", "700", "◧ partly"):
            assert word in text, f"{word} is missing:\n{text}"
        await pilot.press("down", "down")
        before = screen.query_one(ModuleRows).chosen
        assert before is not None
        assert [type(command) for command in link.sent if isinstance(command, DescribeModel)] == [DescribeModel]
        link.answer(link.asked(DescribeModel)[0])
        await pilot.until(lambda: "832K" in picture(app))
        after = screen.query_one(ModuleRows).chosen
        assert after is not None
        assert after.path == before.path == "layer1.0"


@pytest.mark.parametrize("gone", ["#layers-title", "#layers-notes", "#module-rows"])
async def test_an_answer_may_come_while_the_screen_is_taken_down(gone: str) -> None:
    link = EngineLink()
    link.silent = True
    app, _ = app_over(link=link)
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot, "Loading")
        await screen.query_one(gone).remove()
        link.answer(link.asked(DescribeModel)[0])
        await pilot.wait(0.3)
        assert app.failure is None


async def test_a_refusal_is_shown_and_asked_again_in_another_state() -> None:
    link = EngineLink()
    link.refuse = {DescribeModel: "the checkpoint is gone"}
    app, _ = app_over(StateChanged(state="finished"), link=link)
    async with open_app(app, size=(80, 24)) as pilot:
        await opened(pilot, "the checkpoint is gone")
        await pilot.wait(0.6)
        assert len(link.asked(DescribeModel)) == 1
        link.refuse = {}
        link.events.put(StateChanged(state="running"))
        await pilot.until(lambda: "0.31 ms" in picture(app))


async def test_nothing_is_asked_while_the_engine_prepares() -> None:
    link = EngineLink(prepared())
    app = FinetuiApp(link)
    async with open_app(app, size=(80, 24)) as pilot:
        await opened(pilot, "getting ready")
        assert link.sent == []
        link.events.put(StateChanged(state="ready"))
        await pilot.until(lambda: bool(link.asked(DescribeModel)))


async def test_another_run_on_the_same_link_is_described_anew() -> None:
    app, link = app_over()
    async with open_app(app, size=(80, 24)) as pilot:
        await opened(pilot, "layer1")
        link.modules = (module("", 5), module("stem", 5))
        group = LayerGroup(
            name="stem", summary="", parameters=5, frozen=False, trainable=5,
            layers=(Layer(name="stem", summary="", parameters=5, frozen=False),),
        )  # fmt: skip
        link.events.put(prepared(layers=(group,)))
        link.events.put(StateChanged(state="running"))
        await pilot.until(lambda: "stem" in picture(app) and "layer1" not in picture(app))
        assert len(link.asked(DescribeModel)) == 2


async def test_modules_fold_and_unfold() -> None:
    app, _ = app_over()
    async with open_app(app, size=(80, 40)) as pilot:
        screen = await opened(pilot, "0.31 ms")
        rows = screen.query_one(ModuleRows)
        await pilot.press("home", "down", "down", "down", "left")
        assert "▸ layer1" in picture(app)
        assert "bn" not in picture(app)
        await pilot.press("right", "right", "right")
        assert rows.chosen is not None
        assert rows.chosen.path == "layer1.0.conv"
        # Left from a leaf goes to the module that it is in, and folds only then.
        await pilot.press("left")
        assert rows.chosen.path == "layer1.0"
        assert "bn" in picture(app)
        await pilot.press("down", "Z")
        assert "bn" not in picture(app)
        assert rows.chosen.path == "layer1"  # the cursor stays on something that can be seen
        await pilot.press("Z")
        assert "bn" in picture(app)
        # By mouse: the mark folds, anything else only chooses.
        await pilot.click(rows, offset=(4, 3))
        assert "▸ layer1" in picture(app)
        await pilot.click(rows, offset=(9, 1))
        assert rows.chosen.path == "conv1"
        await pilot.click("#tree-heading")
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
    async with open_app(app, size=(80, 24)) as pilot:
        screen = await opened(pilot, "stage0")
        tree = screen.query_one(ModuleRows)
        await pilot.until(lambda: "16×8×8" in picture(app))
        assert "conv" not in picture(app)
        assert len(tree._rows) == 1 + 4 + 120
        await pilot.press("Z", "end")
        assert len(tree._rows) == 1 + 4 + 120 + 360
        assert tree.chosen is not None
        assert tree.chosen.path.startswith("stage3")
        assert "›" in picture(app)
        rendered: list[str] = []
        original = tree.content_of
        tree.content_of = lambda row, width: (rendered.append(row.key), original(row, width))[1]  # type: ignore
        await pilot.press("up")
        assert len(rendered) <= 2 * tree.size.height


async def test_measures_follow_each_other_while_the_run_runs() -> None:
    app, link = app_over()
    link.silent = True
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot, "Loading")
        link.answer(link.asked(DescribeModel)[0])
        await pilot.wait(0.9)
        # One at a time, however long it takes.
        assert len(link.asked(MeasureLayers)) == 1
        link.answer(link.asked(MeasureLayers)[0])
        await pilot.until(lambda: "1.2e-3" in picture(app))
        assert line_with(app, "conv1").rstrip().count("1.2e-3") == 1
        assert "5.0e-2 ↑" in picture(app)
        assert "1.0e-7 ↓" in picture(app)
        assert "↑" in line_with(app, "layer1")  # a container tells of what is in it
        await pilot.until(lambda: len(link.asked(MeasureLayers)) == 2)
        link.answer(link.asked(MeasureLayers)[1])
        await pilot.press("question_mark")
        await pilot.wait(1.0)
        assert isinstance(app.screen, HelpScreen)
        assert len(link.asked(MeasureLayers)) == 2
        await pilot.press("escape")
        await pilot.until(lambda: len(link.asked(MeasureLayers)) == 3)
        link.answer(link.asked(MeasureLayers)[2])
        link.events.put(StateChanged(state="paused"))
        await pilot.wait(1.0)
        assert len(link.asked(MeasureLayers)) == 3
        await pilot.press("escape")
        link.events.put(StateChanged(state="running"))
        await pilot.wait(1.0)
        assert not screen.is_attached
        assert len(link.asked(MeasureLayers)) == 3


async def test_a_refused_measure_is_not_asked_for_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    link = EngineLink()
    link.refuse = {MeasureLayers: "not here"}
    monkeypatch.setattr("finetui.tui.queries.layer_queries._REFUSED_SECONDS", 1e6)
    app, _ = app_over(link=link)
    async with open_app(app, size=(80, 24)) as pilot:
        await opened(pilot, "0.31 ms")
        await pilot.wait(1.5)
        assert len(link.asked(MeasureLayers)) == 1


async def test_a_journal_is_not_asked_for_measures() -> None:
    app, link = app_over()
    link.steers = False
    async with open_app(app, size=(80, 24)) as pilot:
        await opened(pilot, "0.31 ms")
        await pilot.wait(0.6)
        assert link.asked(MeasureLayers) == []


# -- freezing -----------------------------------------------------------------------------------------------------


async def test_modules_freeze_alone_whole_and_on_either_side() -> None:
    app, link = app_over()
    async with open_app(app, size=(80, 40)) as pilot:
        screen = await opened(pilot, "0.31 ms")
        rows = screen.query_one(ModuleRows)

        def freezes() -> list[tuple[tuple[str, ...], tuple[str, ...], bool]]:
            return [(c.groups, c.layers, c.frozen) for c in link.sent if isinstance(c, SetFrozen)]

        await pilot.press("home", "down", "down", "down", "down", "down", "space")  # layer1.0.conv, which is frozen
        assert freezes() == [((), ("layer1.0.conv",), False)]
        await pilot.press("a", "b", "up", "space")
        assert freezes()[1:] == [
            (("conv1",), (), True),
            (("fc1", "fc2", "fc3"), ("layer1.0.bn",), True),
            (("layer1",), (), True),
        ]
        await pilot.until(lambda: "freezing" in line_with(app, "layer1"))
        await pilot.press("home", "space")
        assert freezes()[4] == (("conv1", "layer1", "fc1", "fc2", "fc3"), (), True)
        # A click on the state does the same.
        await pilot.click(rows, offset=(line_with(app, "conv1").index("freezing") - 1, 1))
        assert freezes()[5] == (("conv1",), (), True)
        # What has no parameters, or nothing beside it, cannot be frozen, and that is said.
        await pilot.press("home", "down", "down", "space")
        assert len(freezes()) == 6
        assert "nothing here can be frozen" in picture(app)
        frozen = msgspec.structs.replace(TABLE[0], frozen=True, layers=layers("conv1")[0].layers)
        link.events.put(LayersChanged(layers=(frozen, *TABLE[1:])))
        for command in link.asked(SetFrozen):
            link.events.put(CommandAccepted(command=command))
        await pilot.until(lambda: "■ frozen" in line_with(app, "conv1"))


async def test_bypassed_layers_are_said_to_be_and_left_out() -> None:
    table = (TABLE[0], *(msgspec.structs.replace(group, in_use=False, frozen=True) for group in TABLE[2:]))
    app, link = app_over(LayersChanged(layers=table))
    async with open_app(app, size=(80, 40)) as pilot:
        await opened(pilot, "bypassed")
        await pilot.press("home", "down", "b")
        assert "nothing here can be frozen" in picture(app)
        assert link.asked(SetFrozen) == []


async def test_freezing_that_cannot_be_is_refused_in_words() -> None:
    app, link = app_over()
    async with open_app(app, size=(80, 24)) as pilot:
        await opened(pilot, "0.31 ms")
        await pilot.press("space")
        refused = CommandRefused(command=link.asked(SetFrozen)[0], reason="at least one layer must stay trainable")
        link.events.put(refused)
        await pilot.until(lambda: "at least one layer must stay" in picture(app))
        link.events.put(StateChanged(state="finished"))
        await pilot.until(lambda: app.train_screen.store.view.state == "finished")
        await pilot.press("space", "V")
        assert "all epochs are done" in picture(app)
        assert len(link.asked(SetFrozen)) == 1
        assert link.asked(SetFrozenNorm) == []


async def test_the_switch_for_normalisation_and_the_effect_of_a_change() -> None:
    numbers = msgspec.structs.replace(point(60), group_rate_factors=(1, 0.1, 1, 1, 1))
    effect = EffectMeasured(trainable_before=2, trainable_after=1, speed_before=8000.0, speed_after=9000.0)
    app, link = app_over(numbers, effect)
    async with open_app(app, size=(200, 60)) as pilot:
        await opened(pilot, "8,000 → 9,000 img/s")
        assert "×0.1" in line_with(app, "bn")
        assert "keep their running statistics (V)" in picture(app)
        await pilot.press("V")
        assert link.asked(SetFrozenNorm)[0].trains
        link.events.put(CommandAccepted(command=link.asked(SetFrozenNorm)[0]))
        await pilot.until(lambda: "update their running statistics" in picture(app))
        for key in ("escape", "g", "q"):
            await pilot.press(key)
            assert app.screen is app.train_screen
            await pilot.press("g")
            await pilot.until(lambda: isinstance(app.screen, LayersScreen))


async def test_without_normalisation_there_is_no_switch() -> None:
    app, link = app_over(LayersChanged(layers=LAYERS))
    async with open_app(app, size=(120, 40)) as pilot:
        await opened(pilot, "0.31 ms")
        await pilot.press("V")
        assert link.asked(SetFrozenNorm) == []
        assert "Norm" not in picture(app)
