"""Alerts: on the Train screen, and as notifications of the terminal."""

import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from canned import CannedLink, evaluated, layers, point, prepared, running
from pilot import DashboardPilot, open_app
from pty_terminal import PtyTerminal
from textual.widgets import Static

from finetui.engine.protocol.commands import SetLearningRate
from finetui.engine.protocol.events import (
    Alert,
    AnyEvent,
    CommandAccepted,
    LayersChanged,
    LearningRateChanged,
    Rewound,
    RunStarted,
    StageStarted,
    StateChanged,
)
from finetui.tui.app.app import FinetuiApp
from finetui.tui.app.notifications import Notifier, Notify
from finetui.tui.state.sanitize import sanitized

PLATEAU = Alert(kind="plateau", message="the test loss stands still; try a lower rate", step=900)
_START = 1_000_000.0


def _told(how: Notify, *events: AnyEvent) -> list[str]:
    """Return what is written for `events`, each at its own time."""
    written: list[str] = []
    notifier = Notifier(how, written.append, since=_START)
    notifier.hear(map(sanitized, events))
    return written


def at(offset: float, events: Iterable[AnyEvent]) -> list[AnyEvent]:
    """Return `events` as of `offset` seconds after the dashboard's start."""
    return [msgspec.structs.replace(event, time=_START + offset) for event in events]


@pytest.fixture(autouse=True)
def _no_tmux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMUX", raising=False)


# -- what is told -------------------------------------------------------------------------------------------


def test_an_alert_is_a_notification_with_the_runs_name() -> None:
    events = at(1, running(PLATEAU))
    assert _told("osc9", *events) == [
        "\x1b]9;finetui: a-run: plateau: the test loss stands still; try a lower rate\x07"
    ]
    assert _told("bell", *events) == ["\x07"]
    assert _told("off", *events) == []


@pytest.mark.parametrize("state", ["finished", "stopped", "failed", "crashed"])
def test_the_end_of_a_run_is_told(state) -> None:
    end = StateChanged(state=state, step=1000, reason="there was a reason")
    (text,) = _told("osc9", *at(1, running(evaluated(1, 0.91), evaluated(2, 0.9), end)))
    said = "test accuracy 90.00% (95% CI 87.98 to 91.71%, n = 1,000), best 91.00% chosen on test"
    assert text == f"\x1b]9;finetui: a-run {state} at step 1,000, {said}: there was a reason\x07"


def test_what_a_journal_tells_of_the_past_is_no_news() -> None:
    past = at(-100, running(PLATEAU, StateChanged(state="stopped", step=5)))
    assert _told("bell", *past) == []
    # Resumed and finished while somebody looks.
    assert len(_told("bell", *past, *at(1, [StateChanged(state="finished", step=9)]))) == 1


def test_that_an_engine_is_gone_is_news_of_a_run_that_was_seen_alive() -> None:
    gone = StateChanged(state="crashed", reason="the engine is gone")  # the dashboard says so itself: it has no time
    assert _told("bell", *at(-100, running()), gone) == []
    assert len(_told("bell", *at(-100, running()), *at(1, [point(10)]), gone)) == 1


def test_what_goes_on_otherwise_is_not_told() -> None:
    quiet = [StateChanged(state="paused"), StateChanged(state="running"), point(10), evaluated(1, 0.9)]
    assert _told("bell", *at(1, running(*quiet))) == []


def test_no_text_can_leave_its_sequence() -> None:
    hostile = "a\x07b\x1b]52;c;eA==\x07\x9c\x1b\\\u202e\n" + "x" * 10_000
    alert = Alert(kind="plateau", message=hostile)
    (text,) = _told("osc9", *at(1, [RunStarted(name=hostile, path="/"), alert]))
    inner = text.removeprefix("\x1b]9;").removesuffix("\x07")
    assert inner.isprintable()
    assert len(inner) <= 250


def test_tmux_is_asked_to_pass_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMUX", "/tmp/tmux-0/default,1,0")
    (text,) = _told("osc9", *at(1, [RunStarted(name="r", path="/"), PLATEAU]))
    assert text.startswith("\x1bPtmux;\x1b\x1b]9;finetui: r: plateau")
    assert text.endswith("\x07\x1b\\")
    assert _told("bell", *at(1, [PLATEAU])) == ["\x07"]


# -- in the dashboard ---------------------------------------------------------------------------------------


async def settled(pilot: DashboardPilot, link: CannedLink, *events: AnyEvent) -> None:
    """Let the dashboard hear `events`."""
    for event in events:
        link.events.put(event)
    await pilot.until(lambda: not len(link.events), "the dashboard hears it")


def banner(app: FinetuiApp) -> str:
    """Return what the banner says, nothing where it is hidden."""
    widget = app.train_screen.query_one("#banner", Static)
    return str(widget.render()) if widget.display else ""


@pytest.mark.parametrize("how", ["off", "bell", "osc9"])
async def test_the_app_writes_through_its_driver(how: Notify, monkeypatch: pytest.MonkeyPatch) -> None:
    link = CannedLink(*running())
    app = FinetuiApp(link, notify=how)
    async with open_app(app) as pilot:
        written: list[str] = []
        assert app._driver is not None
        monkeypatch.setattr(app._driver, "write", written.append)
        await settled(pilot, link, msgspec.structs.replace(PLATEAU, time=time.time() + 1))
        told = [text for text in written if text == "\x07" or text.startswith("\x1b]9;")]
        assert len(told) == (how != "off")


async def test_an_alert_is_in_the_banner_with_a_sign_and_a_word() -> None:
    link = CannedLink(*running(point(900)))
    app = FinetuiApp(link)
    async with open_app(app) as pilot:
        await settled(pilot, link)
        assert banner(app) == ""
        await settled(pilot, link, PLATEAU)
        assert banner(app).startswith("! Alert, plateau: the test loss stands still")
        overfit = Alert(kind="overfit", message="it learns by heart", step=950)
        await settled(pilot, link, overfit)
        assert banner(app).startswith("! Alert, overfit: it learns by heart")


async def test_what_would_help_with_the_time_is_in_the_banner_and_in_the_log() -> None:
    link = CannedLink(*running(point(900)))
    app = FinetuiApp(link)
    async with open_app(app) as pilot:
        said = "61% of the time is spent waiting for images; stop, then finetui resume it --workers 4"
        await settled(pilot, link, Alert(kind="speed", message=said, step=900, seq=50))
        assert said in banner(app).replace("\n", " ")
        assert [line.text for line in app.train_screen.store.view.log][-1] == f"speed: {said}"


async def test_escape_or_a_click_hides_an_alert_until_the_next() -> None:
    link = CannedLink(*running(point(900), PLATEAU))
    app = FinetuiApp(link)
    async with open_app(app) as pilot:
        await settled(pilot, link)
        assert banner(app)
        await pilot.press("escape")
        assert banner(app) == ""
        await settled(pilot, link, point(910), StateChanged(state="paused"), StateChanged(state="running"))
        assert banner(app) == ""
        await settled(pilot, link, Alert(kind="plateau", message="again", step=990))
        assert "again" in banner(app)
        await pilot.click("#banner")
        assert banner(app) == ""


_BETTER: list[AnyEvent] = [
    evaluated(2, 0.95),
    LearningRateChanged(learning_rate=0.1),
    LayersChanged(layers=layers("conv1")),
    StageStarted(index=2, count=2, name="all", epochs=1, learning_rate=0.1),
    Rewound(cause="rollback", file="best.ckpt", at=1, epoch=1, undone=1, learning_rate=0.1, layers=layers()),
    prepared(),
    StateChanged(state="finished"),
]
_NO_BETTER: list[AnyEvent] = [
    msgspec.structs.replace(evaluated(2, 0.8), best=False),
    point(920),
    StateChanged(state="paused"),
    CommandAccepted(command=SetLearningRate(value=0.1)),
]


@pytest.mark.parametrize("event", [*_BETTER, *_NO_BETTER], ids=lambda event: type(event).__name__)
async def test_an_alert_stays_until_something_is_done_about_it_or_the_run_does_better(event: AnyEvent) -> None:
    link = CannedLink(*running(point(900), PLATEAU))
    app = FinetuiApp(link)
    async with open_app(app) as pilot:
        await settled(pilot, link)
        assert banner(app)
        await settled(pilot, link, event)
        assert bool(banner(app)) == any(event is other for other in _NO_BETTER)


async def test_why_a_run_failed_goes_before_an_alert() -> None:
    link = CannedLink(*running(point(900), PLATEAU, StateChanged(state="failed", reason="out of memory")))
    app = FinetuiApp(link)
    async with open_app(app) as pilot:
        await settled(pilot, link)
        assert banner(app) == "out of memory"


def test_the_option_reaches_the_dashboard(in_process, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[object] = []

    def opened(*_arguments: object, notify: object = None, **_options: object) -> int:
        asked.append(notify)
        return 0

    monkeypatch.setattr("finetui.tui.app.launch.open_new_run", opened)
    monkeypatch.setattr("finetui.tui.app.launch.open_finished_run", opened)
    run = tmp_path / "checkpoints" / "r"
    run.mkdir(parents=True)
    (run / "journal.jsonl").touch()
    assert in_process("--start", "--notify", "bell", cwd=tmp_path).returncode == 0
    assert in_process("open", "r", "--notify", "osc9", cwd=tmp_path).returncode == 0
    assert in_process("--start", cwd=tmp_path).returncode == 0
    assert asked == ["bell", "osc9", "off"]
    assert in_process("--notify", "smoke", cwd=tmp_path).returncode == 2


def test_the_end_of_a_real_run_is_told_once(tmp_path: Path) -> None:
    options = ["--data", "mnist-sample", "--epochs", "1", "--device", "cpu", "--name", "told", "--start"]
    terminal = PtyTerminal([sys.executable, "-m", "finetui", *options, "--notify", "osc9"], tmp_path)
    try:
        terminal.until("finished")
        terminal.type("q")
        assert terminal.until_exit() == 0
        (told,) = re.findall(rb"\x1b\]9;(.*?)\x07", terminal.raw)
        assert told.startswith(b"finetui: told finished at step 32, test accuracy")
    finally:
        terminal.close()


def test_a_run_that_ends_before_its_first_evaluation_tells_no_accuracy() -> None:
    events = at(1, running(StateChanged(state="stopped", step=40)))
    assert _told("osc9", *events) == ["\x1b]9;finetui: a-run stopped at step 40\x07"]
