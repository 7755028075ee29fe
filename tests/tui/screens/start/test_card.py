"""The first card: what to train, which run to go to, and what is remembered."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from canned import CannedLink, evaluated, prepared, running
from pilot import open_app, picture
from textual.widgets import Input

from finetui.engine.link.no_link import NoLink
from finetui.engine.protocol.config import RunConfig, RunSection
from finetui.engine.protocol.events import StateChanged
from finetui.engine.runs.journal import encode_line
from finetui.engine.runs.lock import Holder
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.start import card
from finetui.tui.screens.start.card import StartCard
from finetui.tui.state.data_choices import DataChoice
from finetui.tui.state.last_settings import LastSettings, keep_last, read_last, settings_file

HERE = (
    DataChoice("mnist", "/data", "60,000 images", 60000, location="/data/MNIST/raw"),
    DataChoice("mnist-sample", None, "4,000 images", 4000, location="bundled with finetui"),
)


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing is read from, or left in, what the person at this machine has."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(card, "data_choices", lambda *_args, **_options: HERE)
    yield


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """The configurations for which an engine was to be started."""
    configs: list[RunConfig] = []

    def link(config: RunConfig, *, autostart: bool) -> CannedLink:
        assert autostart
        configs.append(config)
        return CannedLink(*running())

    monkeypatch.setattr("finetui.tui.app.app.ProcessLink", link)
    return configs


def app_in(folder: Path) -> FinetuiApp:
    base = RunConfig(run=RunSection(runs_dir=str(folder / "runs")))
    return FinetuiApp(NoLink(), first=StartCard(base, ["lenet", "resnet18", "resnet50"]))


def write_run(folder: Path, name: str) -> None:
    path = folder / "runs" / name
    path.mkdir(parents=True)
    events = [prepared(), *running()[1:], evaluated(1, 0.5), StateChanged(state="finished")]
    lines = [encode_line(msgspec.structs.replace(event, seq=n, time=1.7e9 + n)) for n, event in enumerate(events)]
    (path / "journal.jsonl").write_bytes(b"".join(lines))


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (120, 40), (200, 60)])
async def test_enter_starts_and_the_settings_are_remembered(
    size: tuple[int, int], tmp_path: Path, started: list[RunConfig]
) -> None:
    app = app_in(tmp_path)
    async with open_app(app, size=size) as pilot:
        await pilot.settle()
        assert "enter Start training   esc Quit" in picture(app)
        if size != (60, 15):  # where one has to scroll
            for word in ("Data", "60,000 images", "Model", "resnet18", "Batch size", "469 steps per epoch", "Quit"):
                assert word in picture(app), f"{word} is missing at {size}:\n{picture(app)}"
        await pilot.press("down", "tab", "tab", "down")
        app.screen.query_one("#epochs", Input).value = "7"
        await pilot.press("enter")
        await pilot.settle()
        assert app.screen is app.train_screen
        assert app.train_screen.store.view.state == "running"
    (config,) = started
    assert (config.data.name, config.data.dir, config.model.name) == ("mnist-sample", None, "resnet18")
    assert (config.training.epochs, config.training.lr, config.training.batch_size) == (7, 0.003, 128)
    assert read_last()[0].to_config(RunConfig()).training == config.training
    again = app_in(tmp_path)
    async with open_app(again, size=size) as pilot:
        await pilot.settle()
        values = {name: again.screen.query_one(f"#{name}", Input).value for name in ("data", "model", "epochs")}
        assert values == {"data": "mnist-sample", "model": "resnet18", "epochs": "7"}


async def test_what_cannot_be_is_said_at_once_and_starts_nothing(tmp_path: Path, started: list[RunConfig]) -> None:
    app = app_in(tmp_path)
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        for field, typed, says in (
            ("data", "mnits", "did you mean 'mnist'"),
            ("data", "", "enter a data set"),
            ("model", "resnet81", "did you mean 'resnet18'"),
            ("epochs", "0", "at least 1"),
            ("epochs", "4.5", "not '4.5'"),
            ("lr", "fast", "'fast' is not a number"),
            ("batch", "-1", "not '-1'"),
        ):
            row = app.screen.query_one(f"#{field}", Input)
            before, row.value = row.value, typed
            await pilot.press("enter")
            assert isinstance(app.screen, StartCard)
            assert says in " ".join(picture(app).split()), picture(app)
            row.value = before
        app.screen.query_one("#recipe").focus()
        await pilot.press("right")  # the tutorial's settings
        assert app.screen.query_one("#epochs", Input).value == "10"
        assert app.screen.query_one("#lr", Input).value == "0.001"
        await pilot.press("escape")
    assert app.return_code == 0
    assert started == []
    assert not settings_file().exists()


async def test_a_recent_run_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, "base")
    monkeypatch.setattr("finetui.tui.app.app.link_to_run", lambda *_args, **_options: CannedLink(*running()))
    app = app_in(tmp_path)
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        assert "Recent runs" in picture(app)
        assert "base" in picture(app)
        assert app.screen.focused is app.screen.query_one("#data-list")
        dark = app.theme
        await pilot.press("ctrl+t")
        assert app.theme != dark
        await pilot.click("#run-list", offset=(4, 0))
        await pilot.settle()
        assert app.screen is app.train_screen
        assert app.train_screen.store.view.name == "a-run"


async def test_a_live_run_is_offered_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, "base")
    write_run(tmp_path, "alive")
    there = Holder(pid=1, host="here", socket="", started=0.0)
    monkeypatch.setattr(
        "finetui.engine.runs.summaries.holder_of", lambda folder: there if folder.name == "alive" else None
    )
    opened = []
    monkeypatch.setattr(
        "finetui.tui.app.app.link_to_run",
        lambda folder, **_options: opened.append(folder.name) or CannedLink(*running()),
    )
    app = app_in(tmp_path)
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        assert "1 live: Enter attaches" in picture(app)
        await pilot.press("enter")
        await pilot.settle()
        assert app.screen is app.train_screen
    assert opened == ["alive"]


@pytest.mark.parametrize("text", [b"{", b'{"epochs": -3}', b'{"recipe": "nose"}', b"\xff\xfe", b'{"data": 3}'])
async def test_a_corrupt_file_is_ignored_with_a_word(text: bytes, tmp_path: Path) -> None:
    keep_last(LastSettings(epochs=9))
    assert read_last() == (LastSettings(epochs=9), "")
    settings_file().write_bytes(text)
    found, word = read_last()
    assert found == LastSettings()
    assert "could not be read" in word
    if text == b"{":
        app = app_in(tmp_path)
        async with open_app(app, size=(80, 24)) as pilot:
            await pilot.settle()
            assert "The last settings could not be read" in picture(app)
