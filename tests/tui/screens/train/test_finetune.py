"""The finetune form, the learning-rate finder, the layer list and the tree of runs, over canned events."""

import re

import pytest
from canned import LAYERS, CannedLink, evaluated, point, running
from pilot import open_app, picture
from textual.widgets import Input

from finetui.engine.protocol.commands import (
    AnyCommand,
    FindLearningRate,
    PreviewFinetune,
    SetFrozen,
    SetLearningRate,
    StartFinetune,
)
from finetui.engine.protocol.events import (
    CommandAccepted,
    FinetunePreview,
    Layer,
    LayerGroup,
    LayersChanged,
    LearningRateFound,
    StagePreview,
    StateChanged,
)
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.train.finetune import FinetuneForm
from finetui.tui.screens.train.rates import RatesScreen
from finetui.tui.widgets.line_plot import LinePlot

STAGES = (
    StagePreview(name="head only", first_epoch=1, last_epoch=3, trains=("fc3",), parameters=850,
                 learning_rates=(0.001, 0.001)),
    StagePreview(name="all layers", first_epoch=4, last_epoch=10, trains=("conv1", "fc3"), parameters=44426,
                 learning_rates=(1e-05, 0.001)),
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
                        notices=("be careful",),
                    )
                )  # fmt: skip
            case FindLearningRate():
                rates = tuple(10.0 ** (n / 10) for n in range(-70, 0))
                losses = tuple(2.0 - n / 70 for n in range(70))
                self.events.put(LearningRateFound(rates=rates, losses=losses, suggestion=self.suggestion))
                self.events.put(CommandAccepted(command=command))


def app_over(*events: object) -> tuple[FinetuiApp, AnsweringLink]:
    link = AnsweringLink(*running(point(50), evaluated(1, 0.9), *events))
    return FinetuiApp(link), link


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_the_form_shows_what_a_plan_would_do_and_starts_it(size: tuple[int, int]) -> None:
    app, link = app_over()
    async with open_app(app, size=size) as pilot:
        await pilot.settle()
        await pilot.press("f")
        await pilot.until(lambda: "be careful" in picture(app))
        text = picture(app)
        for word in ("lp-ft", "head only", "epochs 1–3", "all layers", "1e-05 to 0.001", "dropped", "Keep frozen"):
            assert word in text, f"{word} is missing at {size}:\n{text}"
        await pilot.press("left")
        await pilot.until(lambda: "linear-probe" in picture(app))
        await pilot.press("f")
        # The key that started it must not open another form.
        assert app.screen is app.train_screen
    sent = link.sent[-1]
    assert isinstance(sent, StartFinetune)
    assert (sent.plan.recipe, sent.plan.head, sent.plan.epochs, sent.plan.lr) == ("linear-probe", "auto", 10, 0.001)
    assert sent.plan.data is None


async def test_the_form_checks_as_one_types() -> None:
    app, link = app_over()
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press("f")
        for field, typed, says in (
            ("epochs", "0", "at least 1"),
            ("epochs", "", "whole number"),
            ("lr", "-1", "positive"),
            ("lr", "1e", "not a number"),
            ("data", "mnits", "did you mean 'mnist'"),
            ("data", "", "name a data set"),
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
        await pilot.click("#recipe", offset=(22, 0))
        await pilot.click("#head", offset=(22, 0))
        box = app.screen.query_one("#freeze", Input)
        box.value = "conv1, conv2"
        await pilot.wait(0.4)
        await pilot.click("#apply")
    plan = link.sent[-1].plan
    assert (plan.recipe, plan.head, plan.freeze) == ("gradual", "keep", ("conv1", "conv2"))
    assert link.sent[-2].plan == plan


async def test_a_journal_says_how_its_run_is_finetuned() -> None:
    app, link = app_over(StateChanged(state="finished"))
    link.steers = False
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press("f")
        assert app.screen is app.train_screen
        (toast,) = app._notifications
        assert re.fullmatch(r"finetui finetune \S*a-run --dashboard · y copy", toast.message)
    assert link.sent == []


async def test_a_found_learning_rate_is_accepted_with_one_key() -> None:
    app, link = app_over()
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press("L")
        await pilot.until(lambda: isinstance(app.screen, RatesScreen))
        assert "0.02" in picture(app)
        assert app.screen.query_one(LinePlot)
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
        assert "▾◧ layer1" in text
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
