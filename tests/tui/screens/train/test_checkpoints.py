"""The list of checkpoints: what it shows, and the commands that it sends."""

import pytest
from canned import CannedLink, point, running
from pilot import open_app, picture

from finetui.engine.protocol.commands import Branch, RollBack, Save
from finetui.engine.protocol.events import CheckpointSaved, KeptCheckpoint, StateChanged
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.train.checkpoints import CheckpointsScreen
from finetui.tui.screens.train.screen import TrainScreen


def kept(name: str, step: int, accuracy: float | None = None) -> KeptCheckpoint:
    return KeptCheckpoint(name=name, file=f"{name}.ckpt", step=step, epoch=step // 100, at=step, accuracy=accuracy)


KEPT = (kept("last", 300, 0.97), kept("previous", 200, 0.96), kept("best", 200, 0.96), kept("[/red]mine", 0))
RUNNING = running(point(350), CheckpointSaved(file="last.ckpt", step=300, at=300, kept=KEPT))


def app(*more: object, steers: bool = True) -> FinetuiApp:
    link = CannedLink(*RUNNING, *more)
    link.steers = steers
    return FinetuiApp(link)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (60, 15)])
async def test_all_kept_checkpoints_are_listed(size: tuple[int, int]) -> None:
    dashboard = app()
    async with open_app(dashboard, size=size) as pilot:
        await pilot.settle()
        await pilot.press("c")
        await pilot.settle()
        text = picture(dashboard)
        for word in ("last", "97.00%", "previous", "best", "[/red]mine", "50 steps", "roll back"):
            assert word in text, f"{word} is missing at {size}:\n{text}"


@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        (("down", "enter", "enter"), RollBack(checkpoint="previous")),
        (("down", "down", "enter", "minus"), RollBack(checkpoint="best", rate_factor=0.1)),
        (("B",), Branch(checkpoint="last")),
        (("K", *"good", "enter"), Save(name="good")),
    ],
)
async def test_a_choice_is_sent(keys: tuple[str, ...], sent: object) -> None:
    dashboard = app()
    async with open_app(dashboard, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press("c")
        await pilot.settle()
        await pilot.press(*keys)
        await pilot.settle()
        (command,) = dashboard.link.sent
        assert type(command) is type(sent)
        for field in ("checkpoint", "rate_factor", "name"):
            assert getattr(command, field, None) == getattr(sent, field, None)


async def test_going_back_asks_and_says_what_is_lost_and_what_is_kept() -> None:
    dashboard = app()
    async with open_app(dashboard, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press("c", "down", "down", "enter")
        text = picture(dashboard)
        for words in (
            'Roll back to "best" (epoch 2, 96.00%)?',
            'Undoes 150 steps. The current state is kept as "previous".',
            "u brings it back, until the next save.",
            "enter Roll back",
            "- Roll back at LR / 10",
            "esc Cancel",
        ):
            assert words in text, text
        await pilot.press("escape")
        assert isinstance(dashboard.screen, CheckpointsScreen)
    assert dashboard.link.sent == []


async def test_a_name_that_finetui_writes_itself_is_refused_and_escape_goes_back() -> None:
    dashboard = app()
    async with open_app(dashboard, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press("c")
        await pilot.until(lambda: isinstance(dashboard.screen, CheckpointsScreen))
        await pilot.press("K", *"best", "enter")
        await pilot.settle()
        assert "is used by finetui itself" in picture(dashboard)
        await pilot.press("escape")
        assert isinstance(dashboard.screen, CheckpointsScreen)
        await pilot.press("escape")
        await pilot.until(lambda: isinstance(dashboard.screen, TrainScreen))
        assert isinstance(dashboard.screen, TrainScreen)
        assert dashboard.link.sent == []


@pytest.mark.parametrize(
    ("dashboard", "says"),
    [(app(steers=False), "cannot steer"), (app(StateChanged(state="crashed", reason="x")), "the engine is gone")],
)
async def test_where_nothing_can_be_chosen_it_says_why(dashboard: FinetuiApp, says: str) -> None:
    async with open_app(dashboard, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press("c")
        await pilot.settle()
        assert says in picture(dashboard)
        await pilot.press("enter", "B", "K")
        await pilot.settle()
        assert dashboard.link.sent == []
        assert isinstance(dashboard.screen, CheckpointsScreen)
