"""Whatever a run is shown by: each key of the key map works, or is shown as unavailable with a sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from canned import CannedLink, evaluated, point, running
from event_files import losses
from made_runs import held, write_run
from pilot import DashboardPilot, open_app, picture

from finetui.engine.link.frames import READS_ONLY
from finetui.engine.link.inspection_client import InspectionClient
from finetui.engine.link.journal_link import JournalLink
from finetui.engine.link.no_link import NoLink
from finetui.engine.link.watch_link import WatchLink
from finetui.engine.protocol import commands
from finetui.engine.protocol.capabilities import Capabilities, narrowed
from finetui.engine.protocol.commands import QUESTIONS, AnyCommand
from finetui.engine.protocol.events import AnyEvent, CheckpointSaved, KeptCheckpoint, RunPrepared, StateChanged
from finetui.engine.protocol.state_rules import refusal
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import encode_line
from finetui.engine.sources.watched_runs import WatchedRuns
from finetui.tui.app.app import FinetuiApp
from finetui.tui.app.palette import NotNow
from finetui.tui.keys import KEYS, NAMES
from finetui.tui.screens.help import told
from finetui.tui.screens.runs.screen import RunsScreen
from finetui.tui.screens.toast import ShowToast
from finetui.tui.state.actions import ACTIONS
from finetui.tui.state.store import Store
from finetui.tui.state.view import View
from finetui.tui.unavailable import why_not

FIXTURES = Path(__file__).parents[2] / "fixtures" / "watched"
KEPT = (KeptCheckpoint(name="last", file="last.ckpt", step=100, epoch=1, at=100),)
LOOP = Capabilities(
    ("Pause", "Resume", "StepOnce", "Stop", "SetFrozen", "SetLearningRate", "Save"), "no function was given"
)
# What begins something anew where a run has no engine: the program does that, no link.
BEGINS = (commands.Start, commands.StartFinetune, commands.ChangeTraining)
# An instance of each command that a dashboard sends.
COMMANDS: tuple[AnyCommand, ...] = (
    commands.Start(), commands.Pause(), commands.Resume(), commands.StepOnce(), commands.Stop(),
    commands.SetLearningRate(value=0.1), commands.SetFrozen(groups=("conv1",), frozen=True),
    commands.SetFrozenNorm(trains=True), commands.StartFinetune(), commands.FindLearningRate(), commands.Evaluate(),
    commands.Save(), commands.RollBack(checkpoint="last"), commands.Branch(checkpoint="last"),
    commands.ChangeTraining(training=View().config.training), commands.PreviewFinetune(),
    commands.FetchImages(indices=(0,)), commands.ExplainImage(index=0, method="grad-cam"), commands.FindDuplicates(),
    commands.DescribeModel(), commands.MeasureLayers(), commands.AuditParameters(),
    commands.ViewLayer(layer="conv1", view="filters"),
)  # fmt: skip


def run(state: str, folder: Path, *, loop: bool = False, kept: bool = True) -> list[AnyEvent]:
    """Return the events of a run in `folder`, finetui's own or a person's loop."""
    began, ready, started, runs = running(point(50), evaluated(1, 0.9))[:4]
    if loop:
        began = msgspec.structs.replace(began, capabilities=LOOP, hparams={"epochs": 3})
    saved = [CheckpointSaved(file="last.ckpt", kept=KEPT)] if kept else []
    ended = [] if state == "running" else [StateChanged(state=state)]
    return [
        began,
        ready,
        msgspec.structs.replace(started, path=str(folder)),
        runs,
        point(50),
        evaluated(1, 0.9),
        *saved,
        *ended,
    ]


class EngineLink(CannedLink):
    """Answers as an engine does: by the table of states, and what it said it obeys."""

    def __init__(self, *events: AnyEvent, reading: bool = False) -> None:
        began = next(event for event in events if isinstance(event, RunPrepared))
        if reading:  # as `SocketLink` does
            left = narrowed(began.capabilities, QUESTIONS, READS_ONLY)
            events = tuple(msgspec.structs.replace(e, capabilities=left) if e is began else e for e in events)
        super().__init__(*events)
        self.steers, self.attached = not reading, reading
        self._says = began.capabilities
        self._state = next(e.state for e in reversed(events) if isinstance(e, StateChanged))

    def send(self, command: AnyCommand) -> None:
        super().send(command)
        if (
            self.over
            or refusal(type(command), self._state, self._says) is not None
            or (not self.steers and not isinstance(command, commands.Question))
        ):
            self.refused.append(command)

    @property
    def refused(self) -> list[AnyCommand]:
        return self.__dict__.setdefault("_refused", [])

    @property
    def orders_refused(self) -> int:
        return sum(not isinstance(command, commands.Question) for command in self.refused)


def journal(folder: Path, events: list[AnyEvent]) -> JournalLink:
    folder.mkdir()
    lines = [encode_line(msgspec.structs.replace(event, seq=n, time=1.0)) for n, event in enumerate(events)]
    (folder / "journal.jsonl").write_bytes(b"".join(lines))
    return JournalLink(RunFolder(folder))


def watched(path: Path) -> WatchLink:
    (found,) = WatchedRuns([path]).found()
    return WatchLink(found)


def event_file(folder: Path) -> WatchLink:
    folder.mkdir()
    (folder / "events.out.tfevents.1.h").write_bytes(losses(range(5)))
    return watched(folder)


def left(folder: Path, state: str) -> EngineLink:
    """Return the link to an engine that has left at the end."""
    link = EngineLink(*run(state, folder))
    link.over = True
    return link


KINDS: dict[str, Callable[[Path], Any]] = {
    "own, running": lambda at: EngineLink(*run("running", at)),
    "own, paused": lambda at: EngineLink(*run("paused", at)),
    "own, stopped": lambda at: EngineLink(*run("stopped", at)),
    "own, finished": lambda at: EngineLink(*run("finished", at)),
    "own, its engine has left": lambda at: left(at, "finished"),
    "own, stopped, its engine has left": lambda at: left(at, "stopped"),
    "own, crashed": lambda at: left(at, "crashed"),
    "own, only read": lambda at: EngineLink(*run("running", at), reading=True),
    "own, opened finished": lambda at: journal(at, run("finished", at)),
    "own, opened stopped": lambda at: journal(at, run("stopped", at)),
    "own, opened crashed": lambda at: journal(at, run("running", at)),
    "own, opened without a checkpoint": lambda at: journal(at, run("finished", at, kept=False)),
    "loop, running": lambda at: EngineLink(*run("running", at, loop=True)),
    "loop, paused": lambda at: EngineLink(*run("paused", at, loop=True)),
    "loop, only read": lambda at: EngineLink(*run("running", at, loop=True), reading=True),
    "loop, opened ended": lambda at: journal(at, run("finished", at, loop=True)),
    "loop, opened crashed": lambda at: journal(at, run("running", at, loop=True)),
    "event files": event_file,
    "exported files": lambda _at: watched(FIXTURES / "lightning_csv"),
}


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Take the place of what would start an engine; return what it was asked for."""
    found: list[Any] = []
    monkeypatch.setattr(InspectionClient, "send", lambda _self, command: found.append(command))
    monkeypatch.setattr(FinetuiApp, "on_resume_wanted", lambda _self, message: found.append(message))
    monkeypatch.setattr(FinetuiApp, "on_finetune_wanted", lambda _self, message: found.append(message))
    monkeypatch.setattr(WatchLink, "run", WatchLink.look)
    return found


def store_of(link: Any) -> Store:
    """Return what the dashboard knows once the link has told all."""
    store = FinetuiApp(link).train_screen.store
    link.run()
    store.fold(link.events.drain(10_000))
    if link.over:
        store.engine_ended()
    return store


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_offered_is_obeyed(kind: str, tmp_path: Path, asked: list[Any]) -> None:
    link = KINDS[kind](tmp_path / "run")
    view = store_of(link).view
    for command in COMMANDS:
        reason = view.refusal_of(type(command))
        assert reason is None or reason.strip(), command
        if isinstance(command, BEGINS) and (view.lacks_engine or view.access == "reads"):
            continue  # that is the program's, which says it in its own way: see the next test
        asked.clear()
        link.send(command)
        refused = bool(link.events.drain(100)) or command in getattr(link, "refused", ())
        assert (reason is not None) == refused, f"{command}: {reason}"
    told = {type(command) for command in COMMANDS} | {commands.NoteTest}
    assert told == set(commands.AnyCommand.__args__)  # what comes to be a command is looked at here, too


# Keys of the Train screen that ask the run for something.
ASKING = (
    *(action.key_name for action in ACTIONS if action.name != "resume"),
    "rate",
    "raise_rate",
    "freeze_layers",
    "part",
    "undo",
    "copy",
)
SEEN = (
    "own, running", "own, only read", "own, its engine has left", "own, opened finished", "own, opened stopped",
    "own, opened without a checkpoint", "loop, running", "loop, opened ended", "event files",
)  # fmt: skip


def refusals(app: FinetuiApp) -> list[str]:
    """Return what was refused since this was asked last."""
    found = [message.text for message in app.told if message.kind == "refusal" and not message.copies]
    app.told.clear()
    return found


class ToldApp(FinetuiApp):
    """Remembers what it showed in toasts."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.told: list[ShowToast] = []

    def on_show_toast(self, message: ShowToast) -> None:
        self.told.append(message)
        super().on_show_toast(message)


def reasons_here(app: FinetuiApp) -> dict[str, str]:
    """Return why each key of the key map that has a meaning on the screen in front cannot be used; empty: it can."""
    found = app.screen.active_bindings
    here = {NAMES[key]: active for key, active in found.items() if key in NAMES}
    reasons = {name: why_not(app, active.binding.action, active.node) for name, active in here.items()}
    for name, reason in reasons.items():
        assert bool(reason) == (not here[name].enabled), f"{name} looks otherwise in the last line: {reason}"
    return reasons


async def check_key(pilot: DashboardPilot, name: str, reason: str, link: Any, asked: list[Any]) -> None:
    """Press the key: it is done without a word of refusal, or nothing is, and the reason is said."""
    app = pilot.app
    home, sent, before = app.screen, len(getattr(link, "sent", ())), len(asked)
    already = getattr(link, "orders_refused", 0)
    await pilot.press(KEYS[name].keys.split(",")[0])
    await pilot.settle()
    if reason:
        assert refusals(app) == [reason], name
        assert app.screen is home, name
        assert (len(getattr(link, "sent", ())), len(asked)) == (sent, before), name
    else:
        assert refusals(app) == [], name
        assert getattr(link, "orders_refused", 0) == already, name
    while app.screen is not home:
        await pilot.press("escape")
    home.set_focus(None)
    app.told.clear()


@pytest.mark.parametrize("kind", SEEN)
async def test_a_key_works_or_is_shown_as_unavailable(kind: str, tmp_path: Path, asked: list[Any]) -> None:
    link = KINDS[kind](tmp_path / "run")
    app = ToldApp(link)
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.until(lambda: app.screen.store.view.name)
        await pilot.settle()
        reasons = reasons_here(app)
        titles = {command.title: command for command in app.get_system_commands(app.screen)}
        helped = dict(told(app.screen))
        for name in dict.fromkeys(ASKING):
            reason = reasons[name]
            title = "Pause" if name == "toggle" else KEYS[name].label
            assert isinstance(titles[title], NotNow) == bool(reason), name
            assert not reason or titles[title].help == reason
            brief = reason.removeprefix(f"{title}: ")
            assert (f"Not now: {brief}" in helped[KEYS[name].shown]) == bool(reason) or name == "toggle", name
            await check_key(pilot, name, reason, link, asked)
        for button in app.screen.query("ActionButton"):
            names = [action.key_name for action in ACTIONS if action.name == button.action]
            if names:
                assert button.has_class("-unavailable") == bool(reasons[names[0]]), button.action


# What a person is told in some of these cases, and what they can do.
TOLD = {
    ("own, running", "save"): "",
    ("own, opened finished", "save"): "Save: this dashboard only shows the run's journal",
    ("own, opened finished", "evaluate"): "",
    ("own, opened finished", "finetune"): "",
    ("own, opened finished", "extend"): "",
    ("own, opened finished", "start"): "Start: all epochs are done",
    ("own, opened stopped", "start"): "",
    ("own, opened without a checkpoint", "finetune"): "Finetune: there is no checkpoint to start from",
    ("own, its engine has left", "save"): "Save: the engine has ended",
    ("own, its engine has left", "finetune"): "",
    ("own, only read", "save"): f"Save: {READS_ONLY}",
    ("loop, running", "find_rate"): "Find LR: no function was given",
    ("loop, opened ended", "start"): "Start: the loop has ended, and its network and data with it",
    ("loop, opened ended", "finetune"): "Finetune: the loop has ended, and its network and data with it",
    ("event files", "part"): "Only test is held out",
}


def test_the_reasons_are_sentences_that_say_what_is_so(tmp_path: Path) -> None:
    for at, ((kind, name), says) in enumerate(TOLD.items()):
        app = FinetuiApp(KINDS[kind](tmp_path / str(at)))
        screen = app.train_screen
        link = screen._link
        link.run()
        screen.store.fold(link.events.drain(1000))
        if link.over:
            screen.store.engine_ended()
        action = next(action for action in ACTIONS if action.key_name == name) if name != "part" else None
        found = screen.steering.why_not(action.name) if action else screen.store.view.why_not_part("")
        assert found[:1].upper() + found[1:] == says, (kind, name)


# -- other screens ------------------------------------------------------------------------------------------


async def test_runs_that_are_only_watched_are_not_offered_to_be_changed(tmp_path: Path, asked: list[Any]) -> None:
    for name in ("one", "two"):
        event_file(tmp_path / name)
    app = ToldApp(NoLink(), watched=WatchedRuns([tmp_path]))
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.until(lambda: "two" in picture(app))
        reasons = reasons_here(app)
        for name in ("tag", "note", "rename", "delete"):
            assert reasons[name] == "These runs are only watched: finetui does not change their files"
            await check_key(pilot, name, reasons[name], app.link, asked)
        assert reasons["compare"] == "Comparing takes 2 to 8 runs: mark them with space"
        app.screen.run_list.focus()
        await pilot.press("space", "down")
        assert reasons_here(app)["compare"] == ""


async def test_a_run_in_use_is_not_offered_to_be_deleted(tmp_path: Path, asked: list[Any]) -> None:
    live, shown = write_run(tmp_path, "live", at=1.9e9), write_run(tmp_path, "shown", at=1.8e9)
    write_run(tmp_path, "done", at=1.7e9)
    app = ToldApp(CannedLink(*run("running", shown)))
    with held(live):
        async with open_app(app, size=(120, 40)) as pilot:
            await pilot.until(lambda: app.screen.store.view.path)
            await pilot.press("r")
            await pilot.until(lambda: isinstance(app.screen, RunsScreen) and "done" in picture(app))
            for says in ("is live", "is open in this dashboard", ""):
                reasons = reasons_here(app)
                for name in ("rename", "delete"):
                    assert says in reasons[name] and bool(says) == bool(reasons[name]), (app.screen.run_list.run, name)
                    await check_key(pilot, name, reasons[name], app.link, asked)
                assert not reasons["tag"]
                app.screen.run_list.focus()
                await pilot.press("down")


@pytest.mark.parametrize("kind", ["loop, opened ended", "own, its engine has left", "own, opened finished"])
async def test_what_the_errors_and_the_layers_ask_for(kind: str, tmp_path: Path, asked: list[Any]) -> None:
    link = KINDS[kind](tmp_path / "run")
    app = ToldApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.until(lambda: app.screen.store.view.name)
        for screen, names in (("m", ("evaluate", "explain", "duplicates", "part")), ("g", ("toggle", "freeze_above"))):
            await pilot.press(screen)
            await pilot.settle()
            reasons = reasons_here(app)
            rows = app.focused
            for name in names:
                app.screen.set_focus(rows)
                await check_key(pilot, name, reasons[name], link, asked)
            if kind != "own, opened finished":
                assert all(reasons[name] for name in names), reasons
            await pilot.press("escape")
