"""How many colours a terminal is taken to have."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from finetui.tui.colours.depth import ask_tmux, colour_depth

RICH = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
IN_TMUX = {"TERM": "tmux-256color", "TMUX": "/tmp/tmux-0/default,1,0"}


def never() -> str:
    raise AssertionError("tmux was asked")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (RICH, "truecolor"),
        ({"TERM": "xterm-256color"}, "256"),
        ({"TERM": "xterm-kitty"}, "256"),
        ({"TERM": "xterm"}, "16"),
        ({"TERM": "linux"}, "16"),
        ({}, "16"),
        ({"TERM": "screen", "STY": "1.pts", "COLORTERM": "truecolor"}, "256"),
        (RICH | {"NO_COLOR": "1"}, "none"),
        (RICH | {"NO_COLOR": ""}, "truecolor"),
        (RICH | {"TEXTUAL_COLOR_SYSTEM": "256"}, "256"),
        (RICH | {"TEXTUAL_COLOR_SYSTEM": "standard"}, "16"),
        ({"TERM": "xterm", "TEXTUAL_COLOR_SYSTEM": "truecolor"}, "truecolor"),
        (RICH | {"TEXTUAL_COLOR_SYSTEM": "auto"}, "truecolor"),
    ],
)
def test_the_environment_tells(environ: dict[str, str], expected: str) -> None:
    assert colour_depth(environ, never) == expected


@pytest.mark.parametrize(
    ("environ", "features", "expected"),
    [
        (IN_TMUX, "bpaste,ccolour,clipboard,RGB,title", "truecolor"),
        (IN_TMUX | {"COLORTERM": "truecolor"}, "bpaste,ccolour,title", "256"),
        (IN_TMUX, "bpaste,title", "256"),
        (IN_TMUX | {"COLORTERM": "truecolor"}, "", "truecolor"),
        (IN_TMUX, "", "256"),
        (IN_TMUX | {"TERM": "screen"}, "title", "16"),
    ],
)
def test_in_tmux_it_is_asked_what_it_passes_on(environ: dict[str, str], features: str, expected: str) -> None:
    assert colour_depth(environ, lambda: features) == expected


@pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux")
def test_a_tmux_that_nobody_looks_at_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMUX_TMPDIR", str(tmp_path))
    monkeypatch.delenv("TMUX", raising=False)
    assert ask_tmux() == ""
    environ = {**os.environ, "TERM": "xterm-256color"}
    subprocess.run(["tmux", "-f", os.devnull, "new-session", "-d", "sleep 60"], check=True, env=environ)
    try:
        assert ask_tmux() == ""
    finally:
        subprocess.run(["tmux", "kill-server"], check=True, env=environ)


def test_without_tmux_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert ask_tmux() == ""
