"""Completion in real shells, each in a pseudo-terminal."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import finetui
from old_runs import OLD_RUNS
from shell_pty import Shell

SHELLS = {
    "bash": (("bash", "--norc", "-i"), "source <(finetui completion bash)"),
    "zsh": (("zsh", "-f", "-i"), "autoload -U compinit; compinit -u; source <(finetui completion zsh)"),
    "fish": (("fish", "--no-config", "-i"), "finetui completion fish | source"),
}
TYPED = {
    "finetui eva\t": "finetui evaluate",
    "finetui evaluate stee\t": "finetui evaluate steered",
    "finetui evaluate steered:pre\t": "steered:previous",
    "finetui train --optimi\tada\t": "--optimizer adamw",
    "finetui finetune steered --data mnist-s\t": "--data mnist-sample",
}


@pytest.mark.parametrize("name", SHELLS)
def test_a_tab_completes_commands_options_runs_and_values(tmp_path: Path, name: str) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"needs {name}")
    shutil.copytree(OLD_RUNS, tmp_path / "checkpoints")
    program = tmp_path / "bin" / "finetui"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m finetui \"$@\"\n")
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    command, load = SHELLS[name]
    shell = Shell(*command, cwd=tmp_path, env=os.environ | {"PATH": path, "TERM": "xterm", "HOME": str(tmp_path)})
    try:
        shell.type(f"{load}; echo rea''dy\n")
        shell.until("ready\n")
        for typed, completed in TYPED.items():
            shell.type(typed)
            shell.until(completed)
            shell.type("\x15")
    finally:
        shell.close()


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("bash", ".local/share/bash-completion/completions/finetui"),
        ("zsh", ".zsh/completions/_cyclopts_finetui"),
        ("fish", ".config/fish/completions/finetui.fish"),
    ],
)
def test_it_is_installed_where_the_shell_looks(tmp_path: Path, name: str, where: str) -> None:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("ZSH", "XDG"))}
    result = finetui("completion", name, "--install", cwd=tmp_path, env=env | {"HOME": str(tmp_path)})
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / where).is_file()
    assert where in result.stdout


def test_what_a_tab_asks_never_loads_torch(tmp_path: Path) -> None:
    shutil.copytree(OLD_RUNS, tmp_path / "checkpoints")
    code = "import sys; from finetui.tui.cli.main import run; run(sys.argv[1:]); print('torch' in sys.modules)"
    asked = {("evaluate", ""): "steered", ("train", "--model", ""): "resnet18", ("runs", ""): "lr:"}
    for words, offered in asked.items():
        found = subprocess.run(
            [sys.executable, "-c", code, "__complete", *words], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        lines = found.stdout.splitlines()
        assert offered in lines
        assert lines[-1] == "False"
