"""What is overridden of Textual's private parts, or used of them, is still there, and is called in the same way."""

import importlib
import inspect
import pkgutil

import pytest
from pilot import open_app
from textual import events
from textual._compositor import ChopsUpdate, Compositor, CompositorUpdate, LayoutUpdate
from textual._styles_cache import StylesCache
from textual.app import App
from textual.command import CommandPalette
from textual.driver import Driver
from textual.drivers.linux_driver import LinuxDriver
from textual.message_pump import MessagePump
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input, OptionList
from textual.widgets._toast import ToastRack

import finetui.tui

METHODS = [
    (App, "_display", ["screen", "renderable"]),
    (App, "_handle_exception", ["error"]),
    (App, "_load_screen_css", ["screen"]),
    (App, "_print", ["text", "stderr"]),
    (App, "_refresh_notifications", []),
    (ToastRack, "_toast_id", []),
    (ChopsUpdate, "__init__", ["chops", "spans", "chop_ends"]),
    (CompositorUpdate, "render_segments", ["console"]),
    (LayoutUpdate, "__init__", ["strips", "region"]),
    (CommandPalette, "_action_command_list", ["action"]),
    (Compositor, "_get_renders", ["crop"]),
    (Compositor, "_render_chops", ["crop", "is_rendered_line"]),
    (Compositor, "reflow", ["parent", "size"]),
    (Compositor, "reflow_visible", ["parent", "size"]),
    (Compositor, "render_partial_update", []),
    (LinuxDriver, "_get_terminal_size", []),
    (LinuxDriver, "_run_input_thread", []),
    (LinuxDriver, "_sigcont_application", ["_"]),
    (LinuxDriver, "_sigtstp_application", ["_"]),
    (MessagePump, "_close_messages_no_wait", []),
    (MessagePump, "_dispatch_message", ["message"]),
    (MessagePump, "call_after_refresh", ["callback", "args", "kwargs"]),
    (OptionList, "_get_option_render", ["option", "style"]),
    (Screen, "_compose", []),
    (Screen, "_compositor_refresh", []),
    (Screen, "_get_breakpoint_classes", ["dimension", "breakpoints"]),
    (Screen, "_on_idle", ["event"]),
    (Screen, "_on_screen_resume", ["event"]),
    (Screen, "_on_screen_suspend", []),
    (Screen, "_on_timer_update", []),
    (Screen, "_refresh_layout", ["size", "scroll"]),
    (Screen, "_screen_resized", ["size"]),
    (Screen, "dismiss", ["result"]),
    (StylesCache, "is_dirty", ["y"]),
    (Widget, "_size_updated", ["size", "virtual_size", "container_size", "layout"]),
    (Widget, "remove", []),
]
# Attributes that are read or set, of objects that are made like this.
ATTRIBUTES = [
    (App, ["_notifications", "_driver", "_exception", "_exit", "_filters", "_return_code"]),
    (Screen, ["_compositor", "_dirty_widgets", "_layout_required", "_pruning", "_repaint_required"]),
    (Compositor, ["_dirty_regions", "layers", "visible_widgets"]),
    (Input, ["_default_compact"]),
    (OptionList, ["_default_compact", "_index_to_line"]),
    (StylesCache, ["_cache", "_width"]),
    (Timer, ["_active"]),
    (
        Widget,
        ["_horizontal_scrollbar", "_is_mounted", "_message_queue", "_nodes", "_styles_cache", "_vertical_scrollbar"],
    ),
]


@pytest.mark.parametrize(("owner", "name", "parameters"), METHODS)
def test_a_method_is_there_with_its_parameters(owner: type, name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(owner, name)).parameters)[1:] == parameters


async def test_attributes_are_there() -> None:
    async with open_app(App[None]()) as pilot:
        for kind, names in ATTRIBUTES:
            found = {App: pilot.app, Timer: pilot.app.screen._update_timer}.get(kind) or kind()
            for name in names:
                assert hasattr(found, name), f"{kind.__name__} has no {name}"
        assert type(pilot.app.screen._compositor) is Compositor
        assert not pilot.app._exception_event.is_set()
    assert events.ScreenResume().refresh_styles
    assert inspect.iscoroutinefunction(MessagePump._dispatch_message)
    assert issubclass(LinuxDriver, Driver)


def test_no_private_name_of_textual_is_overridden_unawares() -> None:
    """A name that Textual begins to use for itself would be taken from it."""
    known = {name for _, name, _ in METHODS} | {name for _, names in ATTRIBUTES for name in names}
    set_by_textual = vars(type("Plain", (Screen,), {})).keys() | {"_abc_impl"}
    overridden = set()
    for module in pkgutil.walk_packages(finetui.tui.__path__, "finetui.tui."):
        for kind in vars(importlib.import_module(module.name)).values():
            if not inspect.isclass(kind) or not kind.__module__.startswith("finetui."):
                continue
            theirs = [base for base in kind.__mro__ if base.__module__.startswith("textual.")]
            overridden |= {
                f"{kind.__qualname__}.{name}"
                for name in vars(kind)
                if name.startswith("_") and not name.startswith("__") and any(name in vars(base) for base in theirs)
                if name not in known and name not in set_by_textual
            }
    assert not overridden
