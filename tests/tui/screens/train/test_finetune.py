"""The finetune form, the learning-rate finder, the layer list and the tree of runs, over canned events."""

from pathlib import Path

import pytest
from canned import LAYERS, CannedLink, evaluated, point, running
from pilot import open_app, picture
from textual.widgets import Input

from finetui.engine.protocol.commands import (
    AnyCommand,
    FindLearningRate,
    FinetunePlan,
    PreviewFinetune,
    SetFrozen,
    SetLearningRate,
    StartFinetune,
)
from finetui.engine.protocol.events import (
    CheckpointSaved,
    CommandAccepted,
    FinetunePreview,
    Layer,
    LayerGroup,
    LayersChanged,
    LearningRateFound,
    StagePreview,
    StateChanged,
)
from finetui.engine.protocol.values import KeptCheckpoint
from finetui.engine.runs.folder import RunFolder
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.run_chosen import RunChosen
from finetui.tui.screens.train import finetune
from finetui.tui.screens.train.finetune import FinetuneForm
from finetui.tui.screens.train.rates import RatesScreen
from finetui.tui.state.data_choices import DataChoice
from finetui.tui.widgets.line_plot import LinePlot

# The convolutions are most of the work: the head alone takes a fifth of it.
STAGES = (
    StagePreview(name="head only", first_epoch=1, last_epoch=3, trains=("fc3",), parameters=850,
                 learning_rates=(0.001, 0.001), frozen=("conv1", "conv2"), work=0.2),
    StagePreview(name="all layers", first_epoch=4, last_epoch=10, trains=("conv1", "fc3"), parameters=44426,
                 learning_rates=(1e-05, 0.001), work=1.0),
)  # fmt: skip
BLOCK = LayerGroup(
    name="layer1",
    summary="2 × BasicBlock",
    parameters=1000,
    trainable=300,
    frozen=False,
    norm="batch",
    layers=(
        Layer(name="layer1.conv", summary="conv", parameters=700, frozen=True),
        Layer(name="layer1.bn", summary="batch norm", parameters=300, frozen=False, norm="batch"),
    ),
)


class AnsweringLink(CannedLink):
    """Answers the questions of the form, and finds a learning rate."""

    problem = ""
    suggestion: float | None = 0.02

    def send(self, command: AnyCommand) -> None:
        super().send(command)
        match command:
            case PreviewFinetune():
                self.events.put(
                    FinetunePreview(
                        command=command, problem=self.problem, head="keep", stages=STAGES, total_parameters=44426,
                        reused=("conv1", "conv2"), fresh=("fc3",), dropped=("fc3.weight (other shape)",),
                        notices=("be careful",), curve=((0.0, 0.001), (2.9, 0.0001), (3.0, 0.001), (9.9, 0.0001)),
                    )
                )  # fmt: skip
            case FindLearningRate():
                rates = tuple(10.0 ** (n / 10) for n in range(-70, 0))
                losses = tuple(2.0 - n / 70 for n in range(70))
                self.events.put(LearningRateFound(rates=rates, losses=losses, suggestion=self.suggestion))
                self.events.put(CommandAccepted(command=command))


def app_over(*events: object, steers: bool = True, attached: bool = False) -> tuple[FinetuiApp, AnsweringLink]:
    link = AnsweringLink(*running(point(50), evaluated(1, 0.9), *events))
    link.steers, link.attached = steers, attached
    return FinetuiApp(link), link


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (120, 40), (200, 60)])
async def test_the_form_shows_what_a_plan_would_do_and_starts_it(size: tuple[int, int]) -> None:
    app, link = app_over()

    def seen() -> str:
        return " ".join(picture(app).replace("│", " ").split())

    async with open_app(app, size=size) as pilot:
        await pilot.settle()
        await pilot.press("f")
        await pilot.settle()
        if size != (60, 15):  # where the preview is below, reached by Tab
            for word in (
                "Head first (a third of the epochs), then all at LR / 10.",
                "Trains only a new head",
                "Unfreezes one group at a time, from the top.",
                "up to about 9 s in total",
                "Learning rate",
                "epochs 1–3 head only LR 0.001",
                "frozen conv1",
                "LR 1e-05 to 0.001",
                "Keep frozen",
            ):
                assert word in seen(), f"{word} is missing at {size}:\n{picture(app)}"
        await pilot.press("up")
        await pilot.settle()
        await pilot.press("enter")
        # The key that started it must not do anything on the screen below.
        assert app.screen is app.train_screen
    sent = link.sent[-1]
    assert isinstance(sent, StartFinetune)
    assert (sent.plan.recipe, sent.plan.head, sent.plan.epochs, sent.plan.lr) == ("linear-probe", "auto", 10, 0.001)
    assert (sent.plan.data, sent.plan.checkpoint) == (None, "last")


async def test_other_data_by_the_keys_that_the_review_asks_for(tmp_path: Path) -> None:
    app, link = app_over()
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press("f", "tab", "tab", *str(tmp_path), "enter")
        assert app.screen is app.train_screen
    assert link.sent[-1].plan.data == str(tmp_path)


async def test_data_is_picked_from_what_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    found = (DataChoice("mnist", None, "60,000 images", 60000), DataChoice("fashion-mnist", None, "", 12800))
    monkeypatch.setattr(finetune, "data_choices", lambda *_: found)
    app, link = app_over()
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press("f")
        await pilot.settle()
        await pilot.press("tab", "down")
        await pilot.settle()
        assert app.screen.query_one("#data", Input).value == "fashion-mnist"
        # Twice as many images: 3 epochs of a fifth of the work, 7 of all of it, and 10 evaluations of 0.1 s.
        assert "up to about 16 s" in picture(app)
        await pilot.click("#apply")
    assert link.sent[-1].plan.data == "fashion-mnist"


async def test_the_form_checks_as_one_types() -> None:
    app, link = app_over()
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press("f")
        for field, typed, says in (
            ("epochs", "0", "at least 1"),
            ("epochs", "", "whole number"),
            ("epochs", "3x", "not '3x'"),
            ("lr", "-1", "positive"),
            ("lr", "0.5abc", "'0.5abc' is not a number"),
            ("val", "half", "val fraction: 'half' is not a number"),
            ("data", "mnits", "did you mean 'mnist'"),
            ("data", "", "enter a data set"),
        ):
            box = app.screen.query_one(f"#{field}", Input)
            kept = box.value
            box.value = typed
            await pilot.until(lambda says=says: says in " ".join(picture(app).split()))
            app.screen.action_apply()
            await pilot.drawn()
            assert isinstance(app.screen, FinetuneForm)
            box.value = kept
            await pilot.wait(0.3)
        link.problem = "there is no layer group 'nose'"
        app.screen.query_one("#freeze", Input).value = "nose"
        await pilot.until(lambda: "no layer group 'nose'" in picture(app))
        await pilot.click("#apply")
        assert isinstance(app.screen, FinetuneForm)
        await pilot.press("escape")
        assert app.screen is app.train_screen
    assert not any(isinstance(command, StartFinetune) for command in link.sent)


async def test_the_form_by_mouse() -> None:
    app, link = app_over()
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.click("#finetune")
        await pilot.click("#recipe", offset=(3, 4))
        await pilot.click("#head", offset=(22, 0))
        box = app.screen.query_one("#freeze", Input)
        box.value = "conv1, conv2"
        await pilot.wait(0.4)
        await pilot.click("#apply")
    plan = link.sent[-1].plan
    assert (plan.recipe, plan.head, plan.freeze) == ("gradual", "keep", ("conv1", "conv2"))
    assert link.sent[-2].plan == plan


KEPT = tuple(
    KeptCheckpoint(name=name, file=f"{name}.ckpt", step=step, epoch=step // 100, at=step, accuracy=0.9)
    for name, step in (("last", 200), ("best", 100))
)


@pytest.mark.parametrize("from_errors", [False, True])
async def test_a_finished_run_without_an_engine_is_finetuned_in_a_new_one(
    monkeypatch: pytest.MonkeyPatch, from_errors: bool
) -> None:
    app, link = app_over(CheckpointSaved(file="last.ckpt", kept=KEPT), StateChanged(state="finished"), steers=False)
    asked = []

    def link_to_finetuned(folder: RunFolder, plan: FinetunePlan, *, own: bool) -> CannedLink:
        asked.append((folder.name, plan, own))
        return CannedLink(*running())

    monkeypatch.setattr("finetui.tui.app.app.link_to_finetuned", link_to_finetuned)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        before = app.train_screen
        await pilot.press(*(["o"] if from_errors else []), "f")
        assert isinstance(app.screen, FinetuneForm)
        assert "best 90.00% @1" in picture(app)  # as `finetui finetune` takes it
        await pilot.press("enter")
        await pilot.settle()
        assert app.screen is app.train_screen is not before
        assert app.train_screen.store.view.state == "running"
    ((name, plan, own),) = asked
    assert (name, plan.recipe, plan.checkpoint, own) == ("a-run", "lp-ft", "best", False)
    assert not any(isinstance(command, StartFinetune) for command in link.sent)


async def test_a_run_that_is_visited_is_finetuned_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finished = (CheckpointSaved(file="last.ckpt", kept=KEPT), StateChanged(state="finished"))
    visited, child = AnsweringLink(*running(*finished)), CannedLink(*running())
    visited.steers = False
    monkeypatch.setattr("finetui.tui.app.app.link_to_run", lambda *_args, **_options: visited)
    monkeypatch.setattr("finetui.tui.app.app.link_to_finetuned", lambda *_args, **_options: child)
    app, link = app_over()
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        app.post_message(RunChosen(Path("/runs/a-run")))
        await pilot.settle()
        await pilot.press("f", "enter")
        await pilot.settle()
        assert visited.closed
        assert not link.closed  # what was shown first goes on
        assert app.screen is not app.train_screen
        assert app.screen.store.view.state == "running"
        await pilot.press("q")
        assert app.screen is app.train_screen


@pytest.mark.parametrize(
    ("attached", "kept", "says"),
    [
        (True, KEPT, "finetui finetune /runs/a-run --dashboard · y copy"),
        (False, (), "Finetune: there is no checkpoint to start from"),
    ],
)
async def test_where_there_can_be_no_finetune_it_is_said(attached: bool, kept: tuple, says: str) -> None:
    ended = CheckpointSaved(file="last.ckpt", kept=kept), StateChanged(state="finished")
    app, _ = app_over(*ended, steers=False, attached=attached)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press("f")
        assert app.screen is app.train_screen
        assert [toast.message for toast in app._notifications] == [says]


async def test_the_form_opens_by_itself_once_the_run_is_known() -> None:
    link = AnsweringLink(*running(CheckpointSaved(file="last.ckpt", kept=KEPT), StateChanged(state="finished")))
    link.steers = False
    app = FinetuiApp(link, finetune="last")
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.until(lambda: isinstance(app.screen, FinetuneForm))
        await pilot.settle()
        assert "last, step" in picture(app)


async def test_a_found_learning_rate_is_accepted_with_one_key() -> None:
    app, link = app_over()
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press("L")
        await pilot.until(lambda: isinstance(app.screen, RatesScreen))
        assert "0.02" in picture(app)
        assert app.screen.query_one(LinePlot)
        await pilot.press("enter", "x", "escape")  # typed when it came by itself
        assert isinstance(app.screen, RatesScreen)
        await pilot.wait(1.0)
        await pilot.press("enter")
        assert app.screen is app.train_screen
    assert [type(command) for command in link.sent] == [FindLearningRate, SetLearningRate]
    assert link.sent[-1].value == 0.02


async def test_without_a_suggestion_nothing_is_changed() -> None:
    app, link = app_over()
    link.suggestion = None
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press("L")
        await pilot.until(lambda: isinstance(app.screen, RatesScreen))
        assert "No clear minimum" in picture(app)
        await pilot.wait(1.0)
        await pilot.press("enter")
    assert [type(command) for command in link.sent] == [FindLearningRate]


async def test_an_old_search_in_a_journal_opens_nothing() -> None:
    found = LearningRateFound(rates=(0.1,), losses=(1.0,), suggestion=0.1)
    app, _ = app_over(found, CommandAccepted(command=FindLearningRate()))
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        assert app.screen is app.train_screen


async def test_groups_open_to_their_layers_and_freeze_above_and_below() -> None:
    app, link = app_over(LayersChanged(layers=(LAYERS[0], BLOCK, *LAYERS[2:])))
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        app.screen.query_one("#layer-options").focus()
        await pilot.press("down")
        assert "partly" in picture(app)
        await pilot.press("right", "down")
        text = picture(app)
        assert "▾ layer1" in text
        assert "conv" in text
        await pilot.press("space")  # layer1.conv, which is frozen
        await pilot.press("a", "b")
        assert [(c.groups, c.layers, c.frozen) for c in link.sent] == [
            ((), ("layer1.conv",), False),
            (("conv1",), (), True),
            (("fc1", "fc2", "fc3"), ("layer1.bn",), True),
        ]
        await pilot.press("left", "home", "b", "end", "a")
        assert [c.groups for c in link.sent[3:]] == [
            ("layer1", "fc1", "fc2", "fc3"),
            ("conv1", "layer1", "fc1", "fc2"),
        ]
        # The mark opens, the rest of the row freezes.
        rows = app.screen.query_one("#layer-options")
        await pilot.click(rows, offset=(0, 1))
        assert "▾" in picture(app)
        await pilot.click(rows, offset=(6, 3))
    assert link.sent[-1] == SetFrozen(id=link.sent[-1].id, layers=("layer1.bn",), frozen=True)
