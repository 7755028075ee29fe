"""Every look at a run's test images is in its journal, whoever looks, and changes nothing else."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from watching import Watcher

from finetui.engine.inspection.engine import InspectionEngine
from finetui.engine.link.process_link import ProcessLink
from finetui.engine.protocol.commands import Evaluate, NoteTest, RollBack, Save
from finetui.engine.protocol.config import DataConfig, RunConfig, RunSection, TrainingConfig
from finetui.engine.protocol.events import AnyEvent, CommandAccepted, Evaluated, StateChanged, TrainPoint
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.protocol.requests import Inspection
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.lock import RunLock
from finetui.engine.runs.summaries import summarise_run
from finetui.engine.session.replay import replay_run
from finetui.engine.session.session import Session

Call = Callable[..., subprocess.CompletedProcess[str]]


def trained(root: Path, name: str, val: float, **how: Any) -> RunFolder:
    config = RunConfig(
        data=DataConfig(name="mnist-sample", val=val),
        training=TrainingConfig(epochs=how.pop("epochs", 1), batch_size=100, lr=0.03, device="cpu", fast="off"),
        run=RunSection(name=name, runs_dir=str(root / "checkpoints")),
    )
    folder = Session(config, **how).run().folder
    assert folder is not None
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that chose by val, and one that was evaluated on test all along."""
    root = tmp_path_factory.mktemp("work")
    trained(root, "val", 0.2)
    trained(root, "test", 0.0)
    return root


@pytest.fixture
def work(runs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs, tmp_path / "work"))


def events_of(folder: RunFolder) -> list[AnyEvent]:
    return list(JournalReader(folder.journal).read())


def notes(folder: RunFolder) -> list[NoteTest]:
    accepted = [event.command for event in events_of(folder) if isinstance(event, CommandAccepted)]
    return [command for command in accepted if isinstance(command, NoteTest)]


@pytest.mark.parametrize("name", ["val", "test"])
def test_evaluate_is_noted_and_changes_nothing_else(in_process: Call, work: Path, name: str) -> None:
    folder = RunFolder(work / "checkpoints" / name)
    before, summary = events_of(folder), summarise_run(folder)
    asked = ("evaluate", "--from", name, "--device", "cpu", "--json")
    scores = json.loads(in_process(*asked, cwd=work).stdout)
    (note,) = notes(folder)
    assert (note.use, note.checkpoint, note.accuracy, note.n) == ("evaluate", "best", scores["accuracy"], 1000)
    assert events_of(folder)[: len(before)] == before
    last = events_of(folder)[-1]
    assert (last.seq, last.step) == (before[-1].seq + 1, before[-1].step)
    now = summarise_run(folder)
    assert now is not None and summary is not None
    assert msgspec.structs.replace(now, size=summary.size, took=summary.took) == summary
    told = in_process("log", name, cwd=work).stdout.splitlines()[-1]
    assert f"evaluate: 1,000 test images, {scores['accuracy']:.2%} correct with best at step {last.step}" in told


def test_other_parts_and_other_data_are_not_noted(in_process: Call, work: Path) -> None:
    folder = RunFolder(work / "checkpoints" / "val")
    shutil.copytree(Path(__file__).parents[3] / "engine" / "data" / "sample", work / "other" / "MNIST" / "raw")
    for asked in (
        ("evaluate", "--part", "val"),
        ("errors",),  # what was kept while training
        ("calibrate",),
        ("evaluate", "--data", "mnist", "--data-dir", str(work / "other")),
    ):
        source = ("val",) if asked == ("calibrate",) else ("--from", "val")
        result = in_process(asked[0], *source, *asked[1:], "--device", "cpu", cwd=work)
        assert result.returncode == 0, result.stderr
    assert notes(folder) == []


def test_errors_of_test_are_noted_and_shown_by_runs(in_process: Call, work: Path) -> None:
    folder = RunFolder(work / "checkpoints" / "val")
    in_process(
        "errors", "--from", str(folder.last), "--part", "test", "--data", "mnist-sample", "--device", "cpu", cwd=work
    )
    (note,) = notes(folder)
    assert (note.use, note.checkpoint) == ("errors", "last")
    (row,) = (row for row in json.loads(in_process("runs", "--json", cwd=work).stdout) if row["name"] == "val")
    assert (row["state"], row["test_accuracy"]) == ("finished", note.accuracy)


def test_a_run_that_was_looked_at_goes_on_and_is_replayed_as_without(
    in_process: Call, work: Path, tmp_path: Path
) -> None:
    import torch

    folder = RunFolder(work / "checkpoints" / "val")
    alone = RunFolder(Path(shutil.copytree(folder.path, tmp_path / "alone" / "val")))
    in_process("evaluate", "--from", "val", "--device", "cpu", cwd=work)
    for run in (folder, alone):
        asked = ("extend", str(run.path), "--epochs", "2")
        result = in_process(*asked, cwd=work)
        assert result.returncode == 0, result.stderr
    one, other = (torch.load(run.last, weights_only=True)["model"] for run in (folder, alone))
    assert all(torch.equal(one[name], other[name]) for name in one)
    numbers = [event.seq for event in events_of(folder)]
    assert numbers == list(range(len(numbers)))
    assert len(notes(folder)) == 1
    replayed = replay_run(folder)
    assert replayed.complete
    assert replayed.different_at is None


def test_the_engine_of_a_live_run_notes_it(in_process: Call, tmp_path: Path, make_config) -> None:
    link = ProcessLink(make_config(name="live", epochs=1000), autostart=True)
    watcher = Watcher(link)
    watcher.until_kind(TrainPoint)
    folder = RunFolder(tmp_path / "runs" / "live")
    result = in_process("evaluate", "--from", "live", "--runs-dir", "runs", "--device", "cpu", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stderr == ""
    heard = watcher.until(lambda event: isinstance(event, CommandAccepted) and isinstance(event.command, NoteTest))
    watcher.close()
    assert [note.use for note in notes(folder)] == ["evaluate"]
    assert heard is not None
    numbers = [event.seq for event in events_of(folder)]
    assert numbers == list(range(len(numbers)))


def test_where_it_cannot_be_noted_the_scores_are_printed_and_it_is_said(in_process: Call, work: Path) -> None:
    folder = RunFolder(work / "checkpoints" / "val")
    asked = ("evaluate", "--from", "val", "--device", "cpu", "--json")
    folder.lock.unlink()
    folder.lock.mkdir()
    unlockable = in_process(*asked, cwd=work)
    folder.lock.rmdir()
    lock = RunLock(folder)  # an engine that serves no socket
    held = in_process(*asked, cwd=work)
    lock.release()
    for result in (unlockable, held):
        assert result.returncode == 0
        assert json.loads(result.stdout)["n"] == 1000
        assert "the journal of val could not record that test was looked at: " in result.stderr
    assert notes(folder) == []


def test_a_dashboard_on_a_finished_run_notes_it(work: Path, recorder) -> None:
    folder = RunFolder(work / "checkpoints" / "val")
    commands = CommandQueue()
    commands.put(Evaluate(part="test"))
    inspection = Inspection(checkpoint=str(folder.last), device="cpu", scratch=str(work / "last.predictions"))
    InspectionEngine(inspection, commands, [recorder]).run(lambda _: False)
    (note,) = notes(folder)
    (event,) = recorder.of(Evaluated)
    assert (note.use, note.checkpoint, note.accuracy) == ("dashboard", "last", event.accuracy)


def test_the_last_evaluation_is_that_before_the_checkpoint_that_a_run_went_back_to(tmp_path: Path) -> None:
    steps: list[tuple[int, Any]] = [(40, Save(name="one")), (100, RollBack(checkpoint="one"))]

    def script(step: int) -> Any:
        return steps.pop(0)[1] if steps and step >= steps[0][0] else None

    seen: list[AnyEvent] = []
    folder = trained(tmp_path, "back", 0.0, epochs=3, script=script, sinks=[seen.append])
    assert not steps
    lines = folder.journal.read_bytes().splitlines(keepends=True)
    end = next(at for at, line in enumerate(lines) if b'"type":"rewound"' in line)
    folder.journal.write_bytes(b"".join(lines[: end + 1]))
    first = next(event for event in seen if isinstance(event, Evaluated))
    summary = summarise_run(folder)
    assert summary is not None
    assert summary.accuracy == first.accuracy
    assert isinstance(seen[-1], StateChanged)
