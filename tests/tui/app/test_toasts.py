"""What became of an action is told in a box that goes by itself, is undone with one key and copied with another."""

import base64

import pytest
from canned import CannedLink, point, running
from pilot import open_app, picture
from sent import sent_by
from textual.widgets import Input
from textual.widgets._toast import Toast

from finetui.engine.protocol.commands import Pause, Save, SetLearningRate
from finetui.engine.protocol.events import CommandAccepted, CommandRefused, LearningRateChanged, StateChanged
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.toast import ShowToast
from finetui.tui.widgets.key_bar import KeyBar

SIZES = [(80, 24), (120, 40), (200, 60)]


def toasts(app: FinetuiApp) -> list[Toast]:
    return [toast for toast in app.screen.query(Toast) if toast.region]


@pytest.mark.parametrize("size", SIZES)
async def test_a_change_is_told_once_accepted_and_undone_by_its_key(size: tuple[int, int]) -> None:
    link = CannedLink(*running(point(10, lr=0.003), CommandAccepted(command=Save(by="ann"), step=10)))
    app = FinetuiApp(link)
    async with open_app(app, size=size) as pilot:
        await pilot.settle()
        assert not toasts(app)  # what a journal tells is no news
        await pilot.press("plus")
        assert not toasts(app)  # not accepted yet
        changed = LearningRateChanged(learning_rate=0.005, factor=5 / 3, step=11)
        for event in (changed, CommandAccepted(command=link.sent[0], step=11)):
            link.events.put(event)
        await pilot.settle()
        assert "LR 0.003 → 0.005 (schedule x1.67) · u undo" in picture(app)
        assert "LR = schedule x1.67" in picture(app)
        (toast,) = toasts(app)
        assert not toast.region.overlaps(app.screen.query_one(KeyBar).region)
        assert toast.region.height == 1
        await pilot.press("u")
        assert isinstance(link.sent[1], SetLearningRate)
        assert (link.sent[1].factor, round(link.sent[1].value, 6)) == (1.0, 0.003)
        await pilot.wait(6)
        assert not toasts(app)


async def test_refusals_are_told_in_words_from_here_and_from_the_engine() -> None:
    link = CannedLink(*running(point(10)))
    app = FinetuiApp(link)
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press("w")
        link.events.put(CommandRefused(command=link.sent[0], reason="the disk is full"))
        await pilot.settle()
        await pilot.press("n", "u")
        text = picture(app)
        assert "Save: the disk is full" in text
        assert "Nothing to undo" in text
        assert "Step once: training is running" not in text  # of the same kind, it has gone


async def test_the_same_kind_replaces_the_last_and_no_more_than_two_stand_there() -> None:
    app = FinetuiApp(CannedLink(*running()))
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        for number in range(6):
            app.post_message(ShowToast(f"first {number}", "one"))
        await pilot.settle()
        assert [str(toast.render()) for toast in toasts(app)] == ["first 5"]
        for number in range(6):
            app.post_message(ShowToast(f"kind {number}", str(number)))
        await pilot.settle()
        assert [str(toast.render()) for toast in toasts(app)] == ["kind 4", "kind 5"]
        assert len(app.screen.query("ToastHolder")) == 2
        app.post_message(ShowToast("refused", warns=True))
        app.post_message(ShowToast("done", "done"))
        await pilot.settle()
        assert [str(toast.render()) for toast in toasts(app)] == ["kind 5", "done"]


async def test_toasts_make_room_for_what_has_the_focus() -> None:
    app = FinetuiApp(CannedLink(*running(point(10))))
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        app.screen.set_focus(None)
        app.post_message(ShowToast("a sentence"))
        await pilot.settle()
        assert toasts(app)[0].region.y == 22
        field = Input(compact=True)
        field.styles.dock = "bottom"
        await app.screen.mount(field)
        await pilot.drawn()
        field.focus()
        await pilot.drawn()
        (toast,) = toasts(app)
        assert toast.region.y < 7
        assert not toast.region.overlaps(field.region)


async def test_a_toast_outlives_the_screen_that_it_is_about() -> None:
    app = FinetuiApp(CannedLink(*running(point(10))))
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press("o")
        app.post_message(ShowToast("written"))
        await pilot.settle()
        await pilot.press("escape")
        assert "written" in picture(app)


async def test_what_is_shown_is_copied_also_through_tmux(monkeypatch: pytest.MonkeyPatch) -> None:
    app = FinetuiApp(CannedLink(*running(point(10))))
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        sent: list[str] = []
        write = app._driver.write
        monkeypatch.setattr(app._driver, "write", lambda data: sent.append(data) or write(data))

        def copied() -> list[str]:
            found = [data for data in sent if "]52;" in data]
            sent.clear()
            return found

        def sequence(text: str) -> str:
            return f"\x1b]52;c;{base64.b64encode(text.encode()).decode()}\x07"

        monkeypatch.delenv("TMUX", raising=False)
        await pilot.press("y")
        assert copied() == [sequence("finetui attach /runs/a-run")]
        assert "Copied: finetui attach /runs/a-run" in picture(app)
        monkeypatch.setenv("TMUX", "/tmp/tmux")
        app.link.events.put(StateChanged(state="finished"))
        await pilot.settle()
        await pilot.press("y")
        plain = sequence("/runs/a-run")
        assert copied() == [plain, "\x1bPtmux;" + plain.replace("\x1b", "\x1b\x1b") + "\x1b\\"]
        app.post_message(ShowToast("64 images -> errors.csv · y copy path", copies="/x/errors.csv"))
        await pilot.settle()
        await pilot.press("o", "y")  # on any screen
        assert app.clipboard == "/x/errors.csv"
        await pilot.wait(7)
        await pilot.press("y")
        assert app.clipboard == "/runs/a-run"


async def test_what_is_not_a_run_yet_has_nothing_to_copy() -> None:
    app = FinetuiApp(CannedLink(StateChanged(state="preparing")))
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press("y")
        assert "Nothing to copy yet" in picture(app)


async def test_a_toast_sends_no_more_than_its_box(monkeypatch: pytest.MonkeyPatch) -> None:
    app = FinetuiApp(CannedLink(*running(point(10))))
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        sent = sent_by(app, monkeypatch)
        app.post_message(ShowToast("Paused at step 578", "Pause"))
        await pilot.settle()
        assert 0 < sum(map(len, sent)) < 300
        app.post_message(ShowToast("Resumed at step 578", "Pause"))
        await pilot.settle()
        assert 0 < sum(map(len, sent)) < 600


async def test_hostile_words_are_shown_and_not_obeyed() -> None:
    app = FinetuiApp(CannedLink(*running(point(10))))
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        await pilot.press("space")
        link = app.link
        assert isinstance(link.sent[0], Pause)
        link.events.put(CommandRefused(command=link.sent[0], reason="[/] [red]x[/] \x1b]0;t\x07 [@click=app.quit]y"))
        await pilot.settle()
        assert "[/] [red]x[/]" in picture(app)
        assert "\x1b" not in picture(app)
