"""Names, lines and fields that were made to take over the terminal: every screen, and every byte that is sent."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from canned import CannedLink, evaluated, layers, point, prepared, running
from canned_layers import MODULES
from canned_predictions import AnsweringLink
from hostile_run import HARMLESS, a_run, poisoned, texts
from hostile_text import HOSTILE, obeyed
from pilot import DashboardPilot, open_app

from finetui.engine.protocol import commands, events
from finetui.engine.protocol.commands import AnyCommand, DescribeModel
from finetui.engine.protocol.events import AnyEvent, RunStarted, StateChanged
from finetui.engine.text import clean
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.log.log_view import OutputView
from finetui.tui.state.sanitize import sanitized


def test_there_are_fifty_of_them() -> None:
    """Row 23: at least fifty strings, each different."""
    assert len(set(HOSTILE)) >= 50


@pytest.mark.parametrize("limit", [10, 200, 4096])
def test_cleaned_they_are_text(limit: int) -> None:
    """Row 23: nothing that a terminal obeys is left, in any of them."""
    for text in HOSTILE:
        cleaned = clean(text, limit)
        assert obeyed(cleaned) == []
        assert len(cleaned) <= limit
        assert clean(cleaned, limit) == cleaned


# -- every field of every event -----------------------------------------------------------------------------


def _every_event(text: str) -> list[AnyEvent]:
    """Return one event of each kind with `text` in every field, in an order in which they may come."""
    group = layers()[0]
    common = {"learning_rate": 0.1, "epoch": 1, "layers": (group,), "file": "", "undone": 1, "at": 1}
    asked = commands.PreviewFinetune(plan=commands.FinetunePlan(recipe="lp-ft"))
    found: list[AnyEvent] = [
        events.Phase(name="", unit=""),
        prepared(versions={"": ""}),
        RunStarted(name="", path=""),
        StateChanged(state="running"),
        point(10),
        events.StageStarted(index=1, count=2, name="", epochs=1, learning_rate=0.1),
        evaluated(1, 0.9),
        events.LayersChanged(layers=(group,)),
        events.CheckpointSaved(file="", kept=(events.KeptCheckpoint(name="", file="", step=1, epoch=1, at=1),)),
        events.Rewound(cause="rollback", **common),
        events.Alert(kind="plateau", message=""),
        events.Audience(names=("",)),
        events.FinetunePreview(command=asked),
        events.Log(level="warning", message=""),
    ]
    found += [events.CommandAccepted(command=command) for command in _every_command()]
    found += [events.CommandRefused(command=command, reason="") for command in _every_command()]
    return [poisoned(event, type(event), text) for event in found]


def _every_command() -> list[AnyCommand]:
    return [
        commands.SetFrozen(groups=("",), layers=("",), frozen=True),
        commands.StartFinetune(plan=commands.FinetunePlan(recipe="")),
        commands.ExplainImage(index=0, method="gradcam"),
        commands.ViewLayer(layer="", view="weights"),
        commands.Save(name=""),
        commands.RollBack(checkpoint=""),
        commands.Branch(checkpoint="", name=""),
    ]


def picture(pilot: DashboardPilot) -> list[str]:
    """Return what is on the screen, after a look at it: harmless characters only, and every line as wide as it is."""
    app = pilot.app
    strips = app.screen._compositor.render_strips(app.size)
    for strip in strips:
        assert strip.cell_length == app.size.width
        for segment in strip:
            assert obeyed(segment.text) == [], f"{segment.text!r} on {app.screen}"
            assert segment.style is None or "@click" not in segment.style.meta, segment
    assert len(strips) == app.size.height
    return [strip.text for strip in strips]


async def heard(pilot: DashboardPilot, link: CannedLink) -> list[str]:
    """Wait until the dashboard has heard everything; return the picture."""
    await pilot.until(lambda: not len(link.events))
    return picture(pilot)


async def settled(pilot: DashboardPilot, link: CannedLink) -> list[str]:
    """Wait until nothing is being worked out either; return the picture."""

    await pilot.settle()
    assert not len(link.events)
    return picture(pilot)


def test_no_field_of_any_event_passes_the_dashboards_door() -> None:
    """Row 23: whatever an event holds, and wherever, is text behind it."""
    for text in HOSTILE:
        for event in _every_event(text):
            builtin = msgspec.to_builtins(sanitized(event))
            assert [found for found in texts(builtin) if obeyed(found)] == []


@pytest.mark.slow
@pytest.mark.parametrize("size", [(80, 24), (80, 22), (120, 40)], ids=str)
async def test_no_field_of_any_event_harms_the_train_screen(size: tuple[int, int]) -> None:
    """Row 23: model, run, class and layer names, reasons, notices, alerts, and who asked, in turn."""
    link = CannedLink(*running(point(50), evaluated(1, 0.9)))
    app = FinetuiApp(link)
    async with open_app(app, size=size) as pilot:
        expected = await heard(pilot, link)
        for text in HOSTILE:
            for event in _every_event(text):
                link.events.put(event)
            shown = await heard(pilot, link)
            assert shown[-1][:60] == expected[-1][:60]  # the footer, without the keys that depend on the state
            assert shown[0].startswith(" ● running"), text
            assert clean(text)[:20] in " ".join(shown)
            link.events.put(StateChanged(state="failed", reason=text))  # why is said in full
            shown = await heard(pilot, link)
            assert shown[-1][:60] == expected[-1][:60]
            assert shown[0].startswith(" ✗ failed"), text
            if size[1] >= 24:  # in fewer lines a long reason leaves no room for the log
                assert "failed" in "".join(shown[-5:-1])
        assert app.is_running


# -- lists of hostile things --------------------------------------------------------------------------------


class _Link(AnsweringLink):
    """An engine whose layers and images have hostile names."""

    def __init__(self, names: Sequence[str], *said: AnyEvent) -> None:
        super().__init__(*said)
        self.names = names

    def send(self, command: AnyCommand) -> None:
        match command:
            case DescribeModel():
                rows = [msgspec.structs.replace(MODULES[1], name=n, kind=n, summary=n) for n in self.names]
                self.events.put(events.ModelDescribed(command=command, input=(1, 28, 28), modules=tuple(rows)))
            case commands.ViewLayer():
                shown = tuple(_image(index, name) for index, name in enumerate(self.names))
                self.events.put(events.LayerView(command=command, shape=(1, 2), total=len(shown), pictures=shown))
            case commands.FetchImages():
                shown = tuple(_image(index, self.names[index % len(self.names)]) for index in command.indices)
                self.events.put(events.Images(command=command, pictures=shown))
            case commands.PreviewFinetune():
                many = tuple(self.names)
                found = events.FinetunePreview(command=command, notices=many, reused=many, dropped=many, fresh=many)
                self.events.put(found)
            case _:
                super().send(command)


def _image(index: int, name: str) -> events.Picture:
    if index % 2:
        return events.Picture(index=index, name=name, problem=name)
    return events.Picture(index=index, name=name, height=2, width=2, pixels=bytes(4))


_STATE = " ‖ paused  a-run"  # the first line of every screen
_TRAIN, _ERRORS, _LAYERS, _LOG = "", " Mis", " Layers  ", " Log  a-run"
# Which keys lead on from the place before, and how the third and the last line begin there. A dialog leaves both as
# they are below it, but for the third of the Train screen; the form and the matrix, of `None`, have all of a small
# terminal.
_WALK: tuple[tuple[str, tuple[str, ...], str | None, str], ...] = (
    ("train", (), _TRAIN, "? Help m Errors"),
    ("finetune", ("f",), None, ""),
    ("runs", ("escape", "r"), " Runs  ", "enter Open"),
    ("checkpoints", ("escape", "c"), _TRAIN, "? Help m Errors"),
    ("help", ("escape", "question_mark"), _TRAIN, "? Help m Errors"),
    ("palette", ("escape", "ctrl+p"), _TRAIN, ""),  # in a small terminal it covers the footer
    ("errors", ("escape", "m"), _ERRORS, "enter Enlarge"),
    ("explained", ("right", "right", "i"), _ERRORS, "enter Enlarge"),
    ("filter", ("/",), _ERRORS, "enter Enlarge"),
    ("confusion", ("escape", "C"), None, "enter Images"),
    ("compare", ("escape", "D"), _ERRORS, "enter Enlarge"),
    ("export", ("escape", ">"), _ERRORS, "enter Enlarge"),
    ("one image", ("escape", "enter"), _ERRORS, "esc Back ? Help"),
    ("log", ("o",), _LOG, "End Follow esc Back"),
    ("log, beginning", ("home",), _LOG, "End Follow esc Back"),
    ("log, output", ("2",), _LOG, "End Follow esc Back"),
    ("log, output's beginning", ("home",), _LOG, "End Follow esc Back"),
    ("layers", ("escape", "g"), _LAYERS, "space Freeze a Freeze above"),
    ("layers, end", ("end", "2"), _LAYERS, "space Freeze a Freeze above"),
    ("lists", ("escape", "F", *("down",) * 20), _TRAIN, "space Freeze a Freeze above"),
)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(80, 24), pytest.param((200, 60), marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("names", [HARMLESS, HOSTILE], ids=["harmless", "hostile"])
async def test_every_screen_holds(names: tuple[str, ...], size: tuple[int, int], tmp_path: Path) -> None:
    """Row 23: hostile class, file, layer, run and image names and lines leave each screen as harmless ones do."""
    link = _Link(names, *a_run(tmp_path, names))
    app = FinetuiApp(link)
    async with open_app(app, size=size) as pilot:
        await settled(pilot, link)
        for place, keys, title, last in _WALK:
            for key in keys:
                await pilot.press(key)
                if key not in ("tab", "down"):
                    await settled(pilot, link)
            if place == "log, output":
                await pilot.until(lambda: app.screen.query_one(OutputView).rows)
            shown = picture(pilot)
            footer = " ".join(shown[-1].split())
            there = title is None or (shown[0].startswith(_STATE) and shown[2].startswith(title))
            assert there, f"{place}\n" + "\n".join(shown)
            assert footer.startswith(last), f"{place}\n" + "\n".join(shown)
        assert app.is_running
