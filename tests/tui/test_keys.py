"""The key map: one meaning for each key in the whole dashboard, told the same everywhere."""

import importlib
import inspect
import pkgutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from canned import CannedLink, running
from canned_predictions import AnsweringLink
from pilot import DashboardPilot, open_app, picture
from textual.binding import Binding, BindingsMap
from textual.dom import DOMNode
from textual.widgets import Input

import finetui.tui
from finetui.tui.app.app import FinetuiApp
from finetui.tui.keys import KEYS, MOVES, NAMES, as_markdown, face, parts
from finetui.tui.screens.base import ModalScreen, Screen
from finetui.tui.screens.dialog import Choice, Dialog
from finetui.tui.screens.help import HelpScreen
from finetui.tui.screens.log.screen import LogScreen
from finetui.tui.screens.train.checkpoints import CheckpointsScreen
from finetui.tui.screens.train.finetune import FinetuneForm
from finetui.tui.screens.train.screen import TrainScreen


def bindings() -> Iterator[tuple[str, Binding]]:
    """Yield every binding of finetui's own, with the module and class that it is in."""
    for module in pkgutil.walk_packages(finetui.tui.__path__, "finetui.tui."):
        for kind in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(kind) and issubclass(kind, DOMNode) and kind.__module__ == module.name:
                for of_key in BindingsMap(kind.__dict__.get("BINDINGS", [])).key_to_bindings.values():
                    yield from ((f"{module.name}.{kind.__qualname__}", binding) for binding in of_key)


def test_no_key_has_two_entries() -> None:
    counted = Counter(key for entry in KEYS.values() for key in entry.keys.split(","))
    assert [key for key, times in counted.items() if times > 1] == []
    assert not counted.keys() & set(MOVES)
    labels = Counter(entry.label for entry in KEYS.values())
    assert [label for label, times in labels.items() if times > 1] == []
    assert all(names for names in parts().values())


def test_every_key_means_what_the_key_map_says() -> None:
    strange = []
    for where, binding in bindings():
        if binding.key in MOVES:
            continue
        entry = KEYS.get(NAMES.get(binding.key, ""))
        own = binding.key in ("enter", "space", "escape", "q", "1")  # may say what they do here
        if entry is None or binding.key_display != entry.shown or (binding.description != entry.label and not own):
            strange.append((where, binding.key, binding.description))
    assert strange == []


def test_every_entry_is_used() -> None:
    used = {NAMES.get(binding.key) for _, binding in bindings()} - {None}
    assert KEYS.keys() - used == set()


def test_the_page_in_the_docs_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / "docs" / "keys.md"
    assert page.read_text() == as_markdown(), "python -m finetui.tui.keys > docs/keys.md"


def test_how_keys_are_written() -> None:
    assert [face(key) for key in ("escape", "space", "minus", "question_mark", "up", "x", "f3")] == [
        "esc", "space", "-", "?", "↑", "x", "f3",
    ]  # fmt: skip


# -- help ---------------------------------------------------------------------------------------------------

# Keys that lead from the Train screen to each screen and box, and something that its help says.
VISITS = {
    "train": ((), "its curves, its classes"),
    "errors": (("m",), "highest loss first"),
    "layers": (("g",), "Every module"),
    "log": (("o",), "engine's output"),
    "runs": (("r",), "each finetune is below the run"),
    "machine": (("M",), "where the time of a step goes"),
    "checkpoints": (("c",), "after confirmation"),
    "finetune": (("f",), "A new run that starts from the weights of this one"),
    "extend": (("E",), "Enter applies it"),
    "matrix": (("m", "C"), "Rows are true classes"),
    "scores": (("m", "S"), "calibration"),
    "compare": (("m", "D"), "Enter chooses the line"),
    "filter": (("m", "/"), "Enter applies it"),
    "export": (("m", ">"), "Enter applies it"),
}


async def back_to_train(pilot: DashboardPilot) -> int:
    """Press Escape until the Train screen is in front; return how often."""
    for times in range(9):
        if isinstance(pilot.app.screen, TrainScreen):
            return times
        await pilot.press("escape")
    raise AssertionError(f"still not on Train:\n{picture(pilot.app)}")


async def test_help_is_there_on_every_screen_and_says_its_keys(link: AnsweringLink) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        went: tuple[str, ...] = ()  # to the screen that is in front
        for name, (keys, says) in VISITS.items():
            if keys[:-1] != went:
                await back_to_train(pilot)
                went = ()
            home = app.screen
            await pilot.press(*keys[len(went) : -1])
            if keys[:-1] != went:
                went, home = keys[:-1], app.screen
            await pilot.press(*keys[-1:])
            below = app.screen
            await pilot.press("f1")  # the question mark is text where some is typed
            assert isinstance(app.screen, HelpScreen), name
            text = " ".join(picture(app).split())
            assert says in text, f"{name}:\n{picture(app)}"
            assert "esc" in text, name
            assert app.screen.has_class("-broad"), name
            await pilot.press("f1")
            assert app.screen is below, name
            while app.screen is not home:
                await pilot.press("escape")


# Entries of the key map that the help of each screen must tell.
TOLD = {
    (): ("start", "freeze_above", "rate", "errors", "detach", "suspend"),
    ("g",): ("zoom", "fold_all", "image", "log_axis", "machine", "toggle"),
    ("o",): ("filter", "warnings", "tab_number", "layers"),
    ("c",): ("branch", "keep", "confirm"),
}


@pytest.mark.parametrize("width", [80, 120])
async def test_the_help_is_made_from_the_key_map(width: int) -> None:
    app = FinetuiApp(CannedLink(*running()))
    async with open_app(app, size=(width, 100)) as pilot:
        await pilot.settle()
        for keys, names in TOLD.items():
            await pilot.press(*keys, "question_mark")
            text = picture(app)
            for name in names:
                first = KEYS[name].help.split()[0]
                assert KEYS[name].shown in text, f"{name}:\n{text}"
                assert first in text or name in ("confirm", "toggle"), f"{name}:\n{text}"
            # In two columns where there is room for them.
            box = app.screen.query_one("#box")
            left, right = app.screen.query(".column")
            assert (right.region.y == left.region.y) == (width == 120)
            assert box.region.width <= width
            await pilot.press("escape")
            await back_to_train(pilot)


# -- ways from screen to screen -----------------------------------------------------------------------------

FULL = {"m": "errors", "r": "runs", "g": "layers", "o": "log", "M": "machine"}


async def test_screens_are_reached_from_each_other_and_escape_leads_back_to_train(link: AnsweringLink) -> None:
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        for key, name in FULL.items():
            await pilot.press(key)  # from the one before it, in place of that
            assert name == app.screen.NAME
            assert len(app.screen_stack) == 3  # Textual's own, Train, and this one
            # A box stands above, and leads back here.
            await pilot.press("c")
            assert isinstance(app.screen, CheckpointsScreen)
            await pilot.press("escape")
            assert name == app.screen.NAME
        await pilot.press("escape")
        assert isinstance(app.screen, TrainScreen)
        for key in FULL:
            for leave in (key, "q"):  # its own key closes a screen
                await pilot.press(key, leave)
                assert isinstance(app.screen, TrainScreen)


async def test_where_something_is_typed_letters_are_text() -> None:
    app = FinetuiApp(CannedLink(*running()))
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press("o", "slash", *"mgrcoMf")
        assert isinstance(app.screen, LogScreen)
        assert app.screen.query_one(Input).value == "mgrcoMf"
        await pilot.press("escape")
        assert app.screen.query_one(Input).value == ""
        assert isinstance(app.screen, LogScreen)
        assert await back_to_train(pilot) == 1


CHOICES = (Choice("yes", "enter", "Yes"), Choice("less", "minus", "A little"))


async def test_a_dialog_gives_enter_to_its_first_choice_and_letters_to_nobody() -> None:
    app = FinetuiApp(CannedLink(*running()))
    async with open_app(app, size=(80, 24)) as pilot:
        await pilot.settle()
        answers: list[str | None] = []
        for keys in (("enter",), ("right", "enter"), ("m", "g", "o", "x", "escape"), ("minus",)):
            app.push_screen(Dialog("Really?", ("It is lost.",), CHOICES), answers.append)
            await pilot.press("question_mark")
            assert "Nothing happens until" in picture(app)
            await pilot.press("escape", *keys)
            assert isinstance(app.screen, TrainScreen)
        assert answers == ["yes", "less", None, "less"]


def test_every_screen_has_help_and_a_way_back() -> None:
    for kind in (Screen, ModalScreen):
        assert {"escape", "question_mark", "f1"} <= BindingsMap(kind.BINDINGS).key_to_bindings.keys()
    list(bindings())  # imports all modules
    kinds = [Screen, ModalScreen]
    for kind in kinds:
        kinds += kind.__subclasses__()
    bases = (
        "Screen",
        "HomeScreen",
        "ModalScreen",
        "HelpScreen",
        "ListScreen",
        "RunListScreen",
        "Form",
        "ListingScreen",
    )
    said = {kind.__name__: bool(kind.INTRODUCTION) and bool(kind.TITLE_TEXT or kind is Dialog) for kind in kinds}
    ours = {kind.__name__ for kind in kinds if kind.__module__.startswith("finetui.")}
    assert [name for name, says in said.items() if name in ours and name not in bases and not says] == []


# -- the palette --------------------------------------------------------------------------------------------


async def test_the_palette_has_every_action_with_its_key() -> None:
    app = FinetuiApp(CannedLink(*running()))
    async with open_app(app, size=(120, 60)) as pilot:
        await pilot.settle()
        titles = [command.title for command in app.get_system_commands(app.screen)]
        for name in (
            "start",
            "stop",
            "finetune",
            "rate",
            "errors",
            "checkpoints",
            "log_axis",
            "theme",
            "detach",
            "help",
        ):
            assert titles.count(KEYS[name].label) == 1, name
        assert "Pause" in titles
        assert not {"Maximize", "Keys", "Explain"} & set(titles)
        await pilot.press("ctrl+p")
        await pilot.settle()
        lines = picture(app).splitlines()
        for name in ("stop", "errors", "theme"):
            assert any(f" {KEYS[name].shown}  {KEYS[name].label}" in line for line in lines), picture(app)
        await pilot.press(*"misclass")  # by what it does
        await pilot.settle()
        await pilot.press("enter")
        await pilot.settle()
        assert app.screen.NAME == "errors"


# -- typed ahead --------------------------------------------------------------------------------------------


async def test_what_is_typed_ahead_reaches_the_screen_that_it_was_typed_for() -> None:
    link = CannedLink(*running())
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        await pilot.press_at_once("o", "slash", *"detach xsmgq")
        assert isinstance(app.screen, LogScreen)
        assert app.screen.query_one(Input).value == "detach xsmgq"
        await pilot.press_at_once("escape", "escape", "f", *"xdqwe")  # no text field has the focus at first
        assert isinstance(app.screen, FinetuneForm)
        await back_to_train(pilot)
        await pilot.press_at_once("c", "K", *"mxdq", "enter")
        assert app.screen is app.train_screen
        assert [(type(sent).__name__, getattr(sent, "name", None)) for sent in link.sent] == [("Save", "mxdq")]
        assert app.is_running


async def test_keys_go_on_after_one_whose_widget_went_away() -> None:
    app = FinetuiApp(CannedLink(*running()))
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        for _ in range(5):
            await pilot.press_at_once("g", "o", "M", "q", "g", "Z", "z", "escape", "escape", "o")
            assert isinstance(app.screen, LogScreen)
            await pilot.press_at_once("o")
            assert app.screen is app.train_screen


async def test_a_key_that_makes_a_button_open_a_box_is_waited_for() -> None:
    link = CannedLink(*running())
    app = FinetuiApp(link)
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.settle()
        app.screen.query_one("#extend").focus()
        await pilot.press_at_once("enter", *"12", "x", "escape")
        assert app.screen is app.train_screen
        assert link.sent == []
