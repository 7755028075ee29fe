"""The Train screen over canned events: what it shows, what it sends, and that it says why it does not."""

from pathlib import Path

import msgspec
import pytest
from canned import LAYERS, CannedLink, evaluated, layers, point, prepared, running
from pilot import open_app, picture

from finetui.engine.protocol.commands import Evaluate, Pause, Resume, Save, SetFrozen, Start, StepOnce, Stop
from finetui.engine.protocol.events import CommandAccepted, LayersChanged, Log, Phase, StateChanged
from finetui.engine.runs.folder import RunFolder
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.help import HelpScreen
from finetui.tui.screens.run_chosen import RunChosen
from finetui.tui.screens.train.layer_list import LayerList
from finetui.tui.screens.train.per_class_table import PerClassTable
from finetui.tui.screens.train.plots import Plots
from finetui.tui.widgets.action_button import ActionButton
from finetui.tui.widgets.line_plot import LinePlot

SIZES = [(80, 24), (120, 40), (200, 60), (60, 15)]


async def test_a_terminal_that_has_caught_up_is_shown_what_is_known_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetui.tui.screens.train.refresh._LEAST", 1e6)  # seconds between two pictures while it trains
    monkeypatch.setattr("finetui.tui.screens.train.refresh._MOST", 1e6)
    app = FinetuiApp(CannedLink(*running(point(50))))
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        app.link.events.put(point(150))
        await pilot.settle()
        assert "150/1,000" not in picture(app)
        app.repaint()
        await pilot.until(lambda: "150/1,000" in picture(app))
        assert "150/1,000" in picture(app)


@pytest.mark.parametrize("size", SIZES)
async def test_everything_important_is_in_sight(size: tuple[int, int]) -> None:
    app = FinetuiApp(CannedLink(*running(point(50), evaluated(1, 0.9), point(150), evaluated(2, 0.95))))
    async with open_app(app, size=size) as pilot:
        await pilot.settle()
        text = picture(app)
        for word in (
            "running",
            "a-run",
            "epoch  2/10",
            "6.4k img/s",
            "best 95.00% @2",
            "ETA  0:09",
            "Pause",
            "Stop",
            "Evaluate",
        ):
            assert word in text, f"{word} is missing at {size}:\n{text}"
        for word in ("Save", "Finetune", "LR", "0.001", "conv1", "[ ] trains", "Help", "^p"):
            assert word in text, f"{word} is missing at {size}:\n{text}"
        classes = ("class", "95.00%") if size != (80, 24) else ("9 Classes",)
        plots = ("Loss", "Acc", "fc3", "Checkpoints", "Detach") if size[1] >= 24 else ()
        controls = "─ Controls ─" if size[0] >= 160 else "─ Controls ─ sgd · constant"
        titles = (controls, "─ g Layers ─ 44,426 of 44,426 trainable ─", "─ o Log ─")
        frames = titles if size[1] >= 40 else ()
        for word in (*classes, *plots, *frames):
            assert word in text, f"{word} is missing at {size}:\n{text}"
        widgets = list(app.screen.query("ActionButton, Input, LinePlot, PerClassTable"))
        regions = [widget.region for widget in widgets if widget.region]
        overlaps = [(a, b) for i, a in enumerate(regions) for b in regions[:i] if a.overlaps(b)]
        assert overlaps == []


@pytest.mark.parametrize(
    ("state", "key", "command"),
    [
        ("ready", "s", Start),
        ("running", "space", Pause),
        ("paused", "space", Resume),
        ("paused", "n", StepOnce),
        ("running", "e", Evaluate),
        ("running", "w", Save),
        ("stopped", "s", Start),
    ],
)
async def test_every_action_by_key_and_by_mouse(state: str, key: str, command: type) -> None:
    link = CannedLink(*running(StateChanged(state=state)))
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press(key)
        button = next(b for b in app.screen.query(ActionButton) if b._face[1] == key)
        await pilot.click(button)
    assert [type(sent) for sent in link.sent] == [command, command]


async def test_stopping_asks_first_and_says_what_is_kept() -> None:
    link = CannedLink(*running(point(578)))
    app = FinetuiApp(link)
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press("x")
        assert "A checkpoint is saved at step 578; s resumes from it." in picture(app)
        await pilot.press("escape")
        assert link.sent == []
        await pilot.click("#stop")
        await pilot.press("enter")
    assert [type(sent) for sent in link.sent] == [Stop]


@pytest.mark.parametrize(("state", "key", "reason"), [
    ("ready", "space", "training has not started"),
    ("running", "s", "training is running"),
    ("running", "n", "training is running"),
    ("finished", "x", "all epochs are done"),
    ("stopped", "space", "the run is stopped"),
])  # fmt: skip
async def test_what_makes_no_sense_is_not_sent_and_says_why(state: str, key: str, reason: str) -> None:
    link = CannedLink(*running(StateChanged(state=state)))
    app = FinetuiApp(link)
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press(key)
        assert reason in picture(app)
        button = next(b for b in app.screen.query(ActionButton) if b._face[1] == key)
        assert button.has_class("-unavailable")
        await pilot.click(button)
        assert reason in picture(app)
    assert link.sent == []


async def test_a_command_is_pending_until_it_is_answered() -> None:
    link = CannedLink(*running())
    app = FinetuiApp(link)
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press("e")
        assert "◌ Evaluate" in picture(app)
        link.events.put(CommandAccepted(command=link.sent[0]))
        await pilot.settle()
        assert "◌ Evaluate" not in picture(app)


async def test_layers_are_frozen_by_keyboard_and_by_mouse() -> None:
    link = CannedLink(*running())
    app = FinetuiApp(link)
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press("F", "space")
        assert [(sent.groups, sent.frozen) for sent in link.sent] == [(("conv1",), True)]
        assert "[x] freezing…" in picture(app)
        link.sent.clear()
        await pilot.press("down", "F")
        await pilot.click("#layer-options", offset=(3, 2))
        assert [(sent.groups, sent.frozen) for sent in link.sent] == [(("conv2",), True), (("fc1",), True)]
        assert picture(app).count("[x] freezing…") == 3
        link.events.put(LayersChanged(layers=layers("conv2", "fc1"), step=50))
        for sent in link.sent:
            link.events.put(CommandAccepted(command=sent))
        await pilot.settle()
        assert picture(app).count("[x] frozen") == 2
        assert "F Unfreeze fc1" in picture(app)
        await pilot.click("#freeze")
        await pilot.settle()
        assert app.focused is app.screen.query_one("#layer-options")
    assert link.sent[-1] == SetFrozen(id=link.sent[-1].id, groups=("fc1",), frozen=False)


async def test_tab_stops_at_no_button_that_cannot_be_pressed() -> None:
    app = FinetuiApp(CannedLink(*running(StateChanged(state="finished"))))
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        assert app.focused is None, "keys are the screen's at first"
        unavailable = [button for button in app.screen.query(ActionButton) if button.has_class("-unavailable")]
        assert len(unavailable) > 3
        reached = []
        for _ in range(20):
            await pilot.press("tab")
            reached.append(app.focused)
        assert not set(reached) & set(unavailable)
        assert app.screen.query_one("#finetune") in reached


async def test_classes_are_a_tab_where_there_is_no_room_for_them() -> None:
    app = FinetuiApp(CannedLink(*running(point(50), evaluated(1, 0.9))))
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        assert "9 Classes" in picture(app) and "90.00% of" not in picture(app)
        await pilot.press("9")
        assert "90.00% of" in picture(app) and "1 Loss  2 Acc" in picture(app)
        assert not app.screen.query_one(Plots).region
        await pilot.click("#tabs", offset=(3, 0))
        assert app.screen.query_one(Plots).region and "90.00% of" not in picture(app)
        await pilot.press("9", "escape")
        assert app.screen.query_one(Plots).region
        await pilot.press("9")
        await pilot.resize_terminal(120, 40)
        await pilot.settle()
        text = picture(app)
        assert "9 Classes" not in text and "90.00% of" in text and "1 Loss" in text
        await pilot.press("z")
        assert "90.00% of" not in picture(app) and "1 Loss" in picture(app)


async def test_phases_are_shown_while_the_engine_gets_ready() -> None:
    app = FinetuiApp(CannedLink(Phase(name="Downloading x.gz", done=30, total=120)))
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        assert "Downloading x.gz" in picture(app)
        assert "25%" in picture(app)


async def test_a_notice_stays_in_sight() -> None:
    event = prepared(notices=("MNIST could not be downloaded: training on mnist-sample",))
    app = FinetuiApp(CannedLink(event, StateChanged(state="ready")))
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        assert "training on mnist-sample" in picture(app)


async def test_failures_are_told_in_full() -> None:
    reason = f"the engine process ended: {'because ' * 25}of that"
    app = FinetuiApp(CannedLink(*running(StateChanged(state="crashed", reason=reason))))
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        text = picture(app)
        assert "crashed" in text
        assert "the engine process ended" in text
        assert "of that" in text


async def test_a_terminal_that_is_too_small_says_so_and_recovers() -> None:
    app = FinetuiApp(CannedLink(*running(point(10))))
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.resize_terminal(50, 12)
        assert "needs 60x15" in " ".join(picture(app).split())
        for width, height in ((1, 1), (200, 60), (80, 24)):
            await pilot.resize_terminal(width, height)
        assert "Pause" in picture(app)


async def test_names_from_outside_are_shown_and_not_obeyed() -> None:
    hostile = ("[red]x[/]", "[/]", "[@click=app.quit]y", "a\x1b[2Jb", "数字数字数字数字数字数字数字", "x" * 5000)
    event = prepared(classes=hostile)
    table = tuple(msgspec.structs.replace(LAYERS[0], name=name) for name in hostile)
    app = FinetuiApp(
        CannedLink(*running(), event, LayersChanged(layers=table), evaluated(1, 0.5, hostile),
                   Log(level="error", message="[/bold]\x1b]0;x\x07"), StateChanged(state="failed", reason="[/]"))
    )  # fmt: skip
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        text = picture(app)
        assert "[red]x[/]" in text
        assert "\x1b" not in text


async def test_a_thousand_classes_cost_no_more_than_can_be_seen() -> None:
    labels = tuple(f"class {i}" for i in range(1000))
    link = CannedLink(*running(), prepared(classes=labels), evaluated(1, 0.5, labels))
    app = FinetuiApp(link)
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        rows = app.screen.query_one(PerClassTable).query_one("#class-rows")
        await pilot.press("9", "end")
        await pilot.until(lambda: "class 999" in picture(app))
        assert "class 999" in picture(app)
        assert len(rows.children) == 0


async def test_help_and_theme_and_log_scale() -> None:
    app = FinetuiApp(CannedLink(*running(point(10), point(20, loss=0.01))))
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        await pilot.press("escape")
        await pilot.press("ctrl+t", "Y")
        assert app.theme == "finetui-light"
        assert app.screen.query_one("#loss", LinePlot).log_y
        assert app.screen.query_one(LayerList)


@pytest.mark.parametrize(
    ("attached", "steers", "reading"), [(True, False, True), (True, True, False), (False, False, False)]
)
async def test_a_dashboard_that_only_looks_only_looks_at_other_runs(
    attached: bool, steers: bool, reading: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[bool] = []

    def attach(_folder: RunFolder, *, reading: bool = False) -> CannedLink:
        asked.append(reading)
        return CannedLink(*running())

    monkeypatch.setattr("finetui.tui.app.links.AttachLink", attach)
    link = CannedLink(*running())
    link.attached, link.steers = attached, steers
    app = FinetuiApp(link)
    async with open_app(app) as pilot:
        await pilot.settle()
        app.train_screen.post_message(RunChosen(tmp_path))
        await pilot.until(lambda: bool(asked))
        assert app.screen is not app.train_screen
    assert asked == [reading]


async def test_below_a_dialog_nothing_is_painted_until_it_is_closed() -> None:
    link = CannedLink(*running(point(50)))
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        painted: list[Plots] = []
        plots = app.train_screen.query_one(Plots)
        show = plots.show
        plots.show = lambda store: (painted.append(plots), show(store))[1]  # type: ignore[method-assign]
        for step in (150, 250, 350):
            link.events.put(point(step))
            await pilot.settle()
        assert not painted
        await pilot.press("escape")
        await pilot.until(lambda: "epoch  4/10" in picture(app))
        assert painted
