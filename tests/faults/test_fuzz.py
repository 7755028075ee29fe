"""Random input for a long time: keys, clicks, pastes, sizes and bytes that are nothing."""

import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from command_line import FINETUI
from fuzzed_terminal import Fuzzed, fuzz
from fuzzing import Action, Actions, read_script

from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.lock import is_live, live_runs
from finetui.engine.runs.summaries import summarise_run, summarise_runs
from finetui.tui.terminal.log_file import log_path

# Row 29 wants 600. A script that a failure has written is done again with FINETUI_FUZZ_SCRIPT.
SECONDS = float(os.environ.get("FINETUI_FUZZ_SECONDS", "25"))
SEED = int(os.environ.get("FINETUI_FUZZ_SEED", "29"))
SCRIPT = os.environ.get("FINETUI_FUZZ_SCRIPT")
SETTINGS = (
    *("--data", "mnist-sample", "--device", "cpu", "--batch-size", "20", "--lr", "0.01", "--save-steps", "100"),
    *("--fast", "on"),  # not measured: two runs are to come to the same bits
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS * 8 + 300), pytest.mark.parametrize("seed", [SEED])]


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is saved to a person's own folders, such as a picture of the screen, is saved here."""
    for name in ("home", "downloads"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DOWNLOAD_DIR", str(tmp_path / "downloads"))


def actions_of(seed: int) -> Iterator[Action]:
    return read_script(Path(SCRIPT)) if SCRIPT else iter(Actions(seed))


def finetui(cwd: Path, *arguments: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*FINETUI, *arguments], cwd=cwd, capture_output=True, text=True, timeout=seconds)


def label_of(seed: int) -> str:
    return f"FINETUI_FUZZ_SEED={seed} FINETUI_FUZZ_SECONDS={SECONDS:g}"


def assert_nothing_was_hidden(tmp_path: Path, label: str) -> None:
    """What goes wrong away from the screen is in the dashboard's log, and in the engines'."""
    for log in (log_path(), *(tmp_path / "checkpoints").glob("*/engine.log")):
        text = log.read_text(errors="replace") if log.exists() else ""
        assert "Traceback" not in text, f"{label}: {log}:\n{text[text.index('Traceback') - 200 :][:5000]}"


def weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    return torch.load(folder.last, weights_only=True)["model"]


class Steered:
    """Says how the dashboard is opened next: on a run that trains, on one that was stopped, or on a new one."""

    def __init__(self, runs_dir: Path, seed: int) -> None:
        self._runs_dir = runs_dir
        self._random = random.Random(seed)
        self._begun = 0

    def __call__(self) -> list[str]:
        for run in summarise_runs(self._runs_dir) if self._runs_dir.exists() else []:
            if run.pid is not None:
                return ["attach", run.name]
            if run.state in ("stopped", "crashed") and self._random.random() < 0.8:
                return ["resume", run.name, "--dashboard"]
        self._begun += 1
        return [*SETTINGS, "--epochs", "60", "--name", f"fuzz-{self._begun}", "--start"]


def end_all(tmp_path: Path, runs_dir: Path) -> None:
    deadline = time.monotonic() + 120
    while there := live_runs(runs_dir):
        assert time.monotonic() < deadline, f"{there} cannot be stopped"
        for folder in there:
            stopped = finetui(tmp_path, "stop", str(folder.path))
            assert "Traceback" not in stopped.stderr
        time.sleep(0.2)


def test_a_dashboard_that_steers_survives_anything(open_terminal, tmp_path: Path, seed: int) -> None:
    """Row 29: no crash, no traceback, never stuck; a replay of each run that was steered so ends with its weights."""
    runs_dir, label = tmp_path / "checkpoints", label_of(seed)
    fuzzed = Fuzzed(open_terminal, Steered(runs_dir, seed), runs_dir, tmp_path / "script.jsonl", label)
    fuzzed.terminal.until("running")  # so that there is a run, wherever it is left
    fuzz(fuzzed, actions_of(seed), SECONDS)
    fuzzed.close()
    print(f"\n{label}: {fuzzed.figures()}", flush=True)
    end_all(tmp_path, runs_dir)
    assert_nothing_was_hidden(tmp_path, label)
    found = summarise_runs(runs_dir)
    assert found
    for run in found:
        replayed = finetui(tmp_path, "replay", run.name, "--json", seconds=SECONDS * 4 + 120)
        print(f"{run.name}, {run.state} at step {run.step}: {replayed.stdout}{replayed.stderr}".replace("\n", " "))
        assert replayed.returncode == 0, f"{label}: {run}\n{replayed.stdout}{replayed.stderr}"
        assert json.loads(replayed.stdout)["same"]


def test_a_run_that_is_only_looked_at_is_as_if_nobody_had(open_terminal, tmp_path: Path, seed: int) -> None:
    """Row 29: whatever is done to a dashboard that reads only, the run ends with the weights of one left alone."""
    runs_dir, label = tmp_path / "checkpoints", label_of(seed)
    epochs = str(max(int(SECONDS / 2), 10))
    begun = finetui(tmp_path, "train", *SETTINGS, "--epochs", epochs, "--name", "watched", "--detach")
    assert begun.returncode == 0, begun.stderr
    watched = RunFolder(runs_dir / "watched")

    def opening() -> list[str]:
        return ["attach", "--read-only", "watched"] if is_live(watched) else ["open", "watched"]

    fuzzed = Fuzzed(open_terminal, opening, runs_dir, tmp_path / "script.jsonl", label)
    fuzz(fuzzed, actions_of(seed), SECONDS)
    fuzzed.close()
    print(f"\n{label}: {fuzzed.figures()}", flush=True)
    deadline = time.monotonic() + SECONDS * 2 + 120
    while is_live(watched):
        assert time.monotonic() < deadline, f"{label}: it sent far more than expected: {summarise_run(watched)}"
        time.sleep(0.2)
    assert_nothing_was_hidden(tmp_path, label)
    assert [run.name for run in summarise_runs(runs_dir)] == ["watched"]
    alone = finetui(tmp_path, "train", *SETTINGS, "--epochs", epochs, "--name", "alone", seconds=SECONDS * 2 + 120)
    assert alone.returncode == 0, alone.stderr
    first, second = weights(watched), weights(RunFolder(runs_dir / "alone"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first), label
