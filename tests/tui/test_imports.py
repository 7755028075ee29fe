"""The dashboard never loads torch, and help answers without the heavy libraries."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "textual", "plotext", "numpy")


def loaded_by(code: str) -> set[str]:
    """Return which of the heavy libraries a fresh interpreter has loaded after `code`."""
    report = f"{code}\nimport sys; print('loaded', *[name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, timeout=60, check=True)
    return set(result.stdout.splitlines()[-1].split()[1:])


def test_the_whole_dashboard_loads_without_torch() -> None:
    code = "import finetui.tui.app.launch, finetui.tui.cli.headless, finetui.engine.link.process_link"
    assert not loaded_by(code) & {"torch", "torchvision"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["runs", "--runs-dir", "/none"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"from finetui.tui.cli.main import run\ntry: run({arguments!r})\nexcept SystemExit: pass"
    assert loaded_by(code) == set()


def test_the_engine_loads_no_interface() -> None:
    assert not loaded_by(
        "import finetui.engine.session.session, finetui.engine.process.host, finetui.engine.session.serve"
    ) & {"textual", "plotext"}
