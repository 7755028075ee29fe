"""How images are drawn where."""

import subprocess
import sys

import pytest

from finetui.tui.graphics import choose_mode
from finetui.tui.graphics.modes import Mode
from finetui.tui.graphics.probe import Answers

RICH = {"TERM": "xterm-256color", "LANG": "en_GB.UTF-8"}
KITTY = RICH | {"TERM": "xterm-kitty"}
ALL, NONE = Answers(kitty=True, sixel=True), Answers()


def never() -> Answers:
    raise AssertionError("the terminal was asked")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (RICH, "blocks"),
        (RICH | {"COLORTERM": "truecolor"}, "blocks"),
        ({"TERM": "xterm", "LANG": "en_GB.UTF-8"}, "ascii"),
        ({"TERM": "xterm", "COLORTERM": "truecolor", "LANG": "en_GB.UTF-8"}, "blocks"),
        ({"TERM": "linux", "LANG": "en_GB.UTF-8"}, "ascii"),
        ({"TERM": "xterm-16color"}, "ascii"),
        (RICH | {"LC_ALL": "C.utf8", "LANG": "C"}, "blocks"),
        ({"TERM": "xterm-256color"}, "blocks"),
    ],
)
def test_without_graphics_colours_decide(environ: dict[str, str], expected: str) -> None:
    assert choose_mode("auto", environ, lambda: NONE) == expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (KITTY | {"TMUX": "/tmp/tmux-0"}, "blocks"),
        (KITTY | {"STY": "1.pts"}, "blocks"),
        (KITTY | {"ZELLIJ": "0"}, "blocks"),
        (KITTY | {"SSH_CONNECTION": "10.0.0.1 5 10.0.0.2 22"}, "blocks"),
        (KITTY | {"SSH_TTY": "/dev/pts/0"}, "blocks"),
        ({"TERM": "screen", "STY": "1.pts", "LANG": "en_GB.UTF-8"}, "ascii"),
        (KITTY | {"NO_COLOR": "1"}, "ascii"),
        (KITTY | {"LANG": "C"}, "ascii"),
        (KITTY | {"LC_ALL": "en_US.ISO-8859-1"}, "ascii"),
    ],
)
def test_where_graphics_would_not_do_nothing_is_asked(environ: dict[str, str], expected: str) -> None:
    assert choose_mode("auto", environ, never) == expected


@pytest.mark.parametrize(
    ("environ", "answers", "expected"),
    [
        (KITTY, Answers(kitty=True), "kitty"),
        (RICH | {"TERM": "xterm-ghostty"}, ALL, "kitty"),
        (RICH | {"TERM_PROGRAM": "ghostty"}, ALL, "kitty"),
        (KITTY, NONE, "blocks"),
        (RICH, Answers(sixel=True), "sixel"),
        # Konsole and WezTerm answer for Kitty's graphics without knowing the cells that these need here.
        (RICH | {"TERM_PROGRAM": "WezTerm"}, ALL, "sixel"),
        (RICH | {"KONSOLE_VERSION": "230801"}, Answers(kitty=True), "blocks"),
        ({"TERM": "mlterm", "LANG": "C.UTF-8"}, Answers(sixel=True), "sixel"),
    ],
)
def test_the_terminal_says_what_it_can(environ: dict[str, str], answers: Answers, expected: Mode) -> None:
    assert choose_mode("auto", environ, lambda: answers) == expected


@pytest.mark.parametrize("asked", ["blocks", "ascii", "sixel", "kitty"])
@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, KITTY | {"TMUX": "x", "NO_COLOR": "1"}, {"LANG": "C"}])
def test_an_explicit_choice_is_obeyed(asked: str, environ: dict[str, str]) -> None:
    learnt = []
    assert choose_mode(asked, environ, never, lambda: learnt.append(asked)) == asked
    assert bool(learnt) == (asked in ("sixel", "kitty"))


def test_choosing_imports_nothing_slow() -> None:
    code = (
        "import sys; from finetui.tui.graphics import choose_mode; choose_mode('blocks'); choose_mode('kitty')\n"
        "print([name for name in ('textual_image', 'PIL') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
