"""How images are drawn where."""

import subprocess
import sys
from pathlib import Path

import pytest
from pty_terminal import PtyTerminal

from tui.pictures import choose_mode
from tui.pictures.modes import Mode

ROOT = Path(__file__).parents[3]
RICH = {"TERM": "xterm-256color", "LANG": "en_GB.UTF-8"}


def never() -> Mode:
    raise AssertionError("the terminal was asked")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (RICH, "blocks"),
        (RICH | {"COLORTERM": "truecolor"}, "blocks"),
        (RICH | {"NO_COLOR": "1"}, "ascii"),
        (RICH | {"NO_COLOR": ""}, "blocks"),
        ({"TERM": "xterm", "LANG": "en_GB.UTF-8"}, "ascii"),
        ({"TERM": "xterm", "COLORTERM": "truecolor", "LANG": "en_GB.UTF-8"}, "blocks"),
        ({"TERM": "linux", "LANG": "en_GB.UTF-8"}, "ascii"),
        (RICH | {"LANG": "C"}, "ascii"),
        (RICH | {"LC_ALL": "en_US.ISO-8859-1"}, "ascii"),
        (RICH | {"LC_ALL": "C.utf8"}, "blocks"),
        (RICH | {"TERM": "xterm-kitty", "TMUX": "/tmp/tmux-0"}, "blocks"),
        (RICH | {"TERM": "screen-256color", "STY": "1.pts"}, "blocks"),
    ],
)
def test_most_terminals_are_not_asked(environ: dict[str, str], expected: str) -> None:
    assert choose_mode("auto", environ, never) == expected


@pytest.mark.parametrize("answer", ["sixel", "kitty", "blocks"])
@pytest.mark.parametrize("name", [{"TERM": "xterm-kitty"}, {"TERM_PROGRAM": "WezTerm"}])
def test_those_that_may_have_graphics_decide_themselves(name: dict[str, str], answer: Mode) -> None:
    assert choose_mode("auto", RICH | name, lambda: answer) == answer


def test_no_colour_is_no_graphics_either() -> None:
    assert choose_mode("auto", RICH | {"TERM": "xterm-kitty", "NO_COLOR": "1"}, never) == "ascii"


@pytest.mark.parametrize("asked", ["blocks", "ascii"])
def test_what_is_asked_for_is_done(asked: str) -> None:
    assert choose_mode(asked, {"TERM": "dumb"}, never) == asked


@pytest.mark.parametrize("asked", ["sixel", "kitty"])
def test_graphics_can_be_insisted_on(asked: str) -> None:
    assert choose_mode(asked, RICH | {"NO_COLOR": "1"}, lambda: "blocks") == asked


def test_a_terminal_that_never_answers_is_not_waited_for_long(tmp_path: Path) -> None:
    code = (
        "import time; start = time.monotonic()\n"
        "from tui.pictures import choose_mode\n"
        "mode = choose_mode('auto', {'TERM': 'xterm-kitty', 'LANG': 'C.UTF-8'})\n"
        "print('mode is', mode, 'soon' if time.monotonic() - start < 10 else 'late')"
    )
    terminal = PtyTerminal([sys.executable, "-c", code], ROOT)
    terminal.until("mode is blocks soon")
    terminal.close()


def test_choosing_imports_nothing_slow_where_nothing_is_asked() -> None:
    code = (
        "import sys; from tui.pictures import choose_mode; choose_mode('blocks'); print('textual_image' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
