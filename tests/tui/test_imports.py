"""The dashboard never loads torch, and help answers without the heavy libraries."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

HEAVY = ("torch", "torchvision", "textual", "plotext", "numpy")


def loaded_by(code: str) -> set[str]:
    """Return which of the heavy libraries a fresh interpreter has loaded after `code`."""
    report = f"{code}\nimport sys; print('loaded', *[name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(result.stdout.splitlines()[-1].split()[1:])


def modules_of(*packages: str) -> list[str]:
    """Return the names of all modules of these packages of finetui."""
    files = [file for package in packages for file in (ROOT / package).rglob("*.py")]
    names = ["finetui." + ".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    return sorted(name.removesuffix(".__init__") for name in names)


def test_the_terminal_side_and_what_it_imports_load_without_torch() -> None:
    engine = [
        f"engine/{package}"
        for package in (
            *("protocol", "runs", "predictions", "sources", "link", "loggers.available", "loggers.writer"),
            "process",
        )
    ]
    names = modules_of("tui", *engine)
    assert {"finetui.tui.app.app", "finetui.engine.link.server", "finetui.engine.runs.journal"} <= set(names)
    assert not loaded_by(f"import finetui, {', '.join(names)}") & {"torch", "torchvision"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["runs", "--runs-dir", "/none"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"from finetui.tui.cli.main import run\ntry: run({arguments!r})\nexcept SystemExit: pass"
    assert loaded_by(code) == set()


def test_the_engine_loads_no_interface() -> None:
    # What an extra is needed for is passed over where that is missing.
    code = (
        "import contextlib, importlib\n"
        f"for name in {modules_of('engine')!r}:\n"
        "    with contextlib.suppress(ModuleNotFoundError): importlib.import_module(name)"
    )
    assert not loaded_by(code) & {"textual", "plotext"}


def test_the_public_names_are_there() -> None:
    import finetui

    for name in finetui.__all__:
        assert getattr(finetui, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = finetui.nonsense


def test_every_package_has_its_place_among_the_layers() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    named = {name for layer in layers for name in layer.split(" | ")}
    packages = [file for side in ("engine", "tui") for file in (ROOT / side).glob("*/__init__.py")]
    assert len(packages) > 15
    assert {f"finetui.{file.parent.parent.name}.{file.parent.name}" for file in packages} <= named
