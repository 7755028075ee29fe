"""Runs that an earlier version wrote (tests/fixtures) open, go on, are replayed, and list their errors."""

import json
import shutil
from pathlib import Path

import pytest

from finetui.engine.checkpoints import checkpoint
from finetui.engine.protocol.config import with_overrides
from finetui.engine.protocol.events import CommandAccepted, Evaluated
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.resume import resumable
from finetui.engine.runs.summaries import summarise_run, summarise_runs
from finetui.engine.session.replay import replay_run
from finetui.engine.session.session import Session
from finetui.tui.cli.main import run

FIXTURE = Path(__file__).parent / "fixtures" / "runs"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A copy of the old runs; the finetune finds its parent where that lies now."""
    copied = tmp_path / "runs"
    shutil.copytree(FIXTURE, copied)
    for name in ("config.toml", "journal.jsonl"):
        file = copied / "linear-probe" / name
        file.write_text(file.read_text().replace("/tmp/fixture/runs", str(copied)))
    return copied


def test_every_old_run_is_listed_with_its_state(runs: Path) -> None:
    found = {one.name: one for one in summarise_runs(runs)}
    assert {name: one.state for name, one in found.items()} == dict.fromkeys(
        ("steered", "parent", "linear-probe"), "stopped"
    )
    assert found["linear-probe"].parent == "parent"


def test_the_whole_journal_is_read(runs: Path) -> None:
    reader = JournalReader(RunFolder(runs / "steered").journal)
    events = list(reader.read())
    assert len(events) == len((runs / "steered" / "journal.jsonl").read_text().splitlines())
    commands = [event.command for event in events if isinstance(event, CommandAccepted)]
    assert [type(command).__name__ for command in commands] == [
        "SetLearningRate",
        "Save",
        "SetFrozen",
        "RollBack",
        "SetFrozen",
        "Stop",
    ]
    assert commands[0].by == "somebody"


@pytest.mark.parametrize("name", ["steered", "linear-probe"])
def test_an_old_run_goes_on_to_its_end(runs: Path, name: str) -> None:
    folder = RunFolder(runs / name)
    before = summarise_run(folder)
    outcome = Session(with_overrides(resumable(folder), {("training", "device"): "cpu"}), resume=folder).run()
    assert outcome.state == "finished"
    assert outcome.report is not None
    after = summarise_run(folder)
    assert (after.state, after.name) == ("finished", before.name)
    scores = [event.accuracy for event in JournalReader(folder.journal).read() if isinstance(event, Evaluated)]
    assert scores[-1] == outcome.report.accuracy


def test_an_old_run_is_replayed(runs: Path) -> None:
    folder = RunFolder(runs / "steered")
    found = replay_run(folder)
    assert found.complete
    assert found.compared >= 3
    then, now = (checkpoint.load(one.last) for one in (folder, found.folder))
    for name, weights in then[1].items():  # another processor may round otherwise
        assert weights.allclose(now[1][name], atol=1e-4), name


@pytest.mark.parametrize("kind", ["mark", "best", "last", "previous"])
def test_old_checkpoints_are_loaded(runs: Path, kind: str) -> None:
    about, model, training = checkpoint.load(runs / "steered" / f"{kind}.ckpt")
    assert (about.architecture.name, len(model)) == ("lenet", 10)
    assert training["step"] > 0


def test_errors_of_an_old_run_are_listed(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs.parent)
    assert run(["errors", "--from", "runs/steered", "--sort", "index", "--limit", "3", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(image["index"], image["true"], image["predicted"]) for image in listed] == [
        (2, 0, 7),
        (3, 7, 2),
        (4, 0, 7),
    ]
