"""plotext's figure is had by itself; where it cannot be, by all of plotext; both draw the same."""

import subprocess
import sys

import pytest

DRAW = (
    "from finetui.tui.widgets import plot_geometry\n"
    "print(plot_geometry.draw(((0, 0), (5, 7), (9, 2)), (5, 3)).tolist())\n"
)
LOADED = "print(sorted({'plotext', 'plotext._doc', 'unittest', 'PIL', '_hashlib'} & set(sys.modules)))\n"


def said(code: str) -> list[str]:
    """Return the lines that `code` prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", "import sys\n" + code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def drawn() -> str:
    """Return what all of plotext draws."""
    return said("import plotext\n" + DRAW)[0]


def test_it_draws_the_same_and_loads_nothing_else(drawn: str) -> None:
    assert "⡰" in drawn
    assert said(DRAW + LOADED) == [drawn, "[]"]


@pytest.mark.parametrize("home", [("plotext._kernel.gone", "terminal"), ("plotext._kernel.terminal", "gone")])
def test_a_plotext_that_has_its_classes_elsewhere_is_imported_as_a_whole(home: tuple[str, str], drawn: str) -> None:
    moved = f"from finetui.tui.widgets import plotext_figure\nplotext_figure._HOMES = ({home!r},)\n"
    assert said(moved + DRAW + LOADED) == [drawn, "['plotext', 'plotext._doc', 'unittest']"]


def test_plotext_can_be_imported_as_ever_afterwards() -> None:
    same = "import plotext\nprint(type(plotext.figure) is type(plot_geometry._figure()), callable(plotext.doc))\n"
    assert said(DRAW + same)[1] == "True True"
