"""A disk that is full, a folder that cannot be written, a folder that is deleted: training goes on, and saves later."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
import torch
from forked import ForkedSession

from finetui.engine.checkpoints import checkpoint
from finetui.engine.protocol.config import CheckpointsConfig, RunConfig
from finetui.engine.protocol.events import CheckpointSaved, Log, TrainPoint
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.lock import holder_of
from finetui.engine.runs.summaries import summarise_run
from finetui.engine.session.session import Session


def every(config: RunConfig, steps: int) -> RunConfig:
    return msgspec.structs.replace(config, checkpoints=CheckpointsConfig(every_steps=steps, every_minutes=0))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB."""
    place = tmp_path / "runs"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def messages(folder: RunFolder) -> list[str]:
    return [event.message for event in JournalReader(folder.journal).read() if isinstance(event, Log)]


def test_a_full_disk_is_said_and_training_goes_on_and_saves_once_there_is_room(
    make_config, small_disk: Path, monkeypatch: pytest.MonkeyPatch, recorder
) -> None:
    """Row 16: full from step 20 to step 60; the checkpoint from before is whole all the time."""
    monkeypatch.setattr("finetui.engine.session.checkpointing._RETRY_SECONDS", 0.0)
    ballast = small_disk / "ballast"
    kept: list[int] = []

    def on_step(step: int, _loss: torch.Tensor) -> None:
        folder = RunFolder(small_disk / "full")
        if step == 20:
            with ballast.open("wb", buffering=0) as file, suppress(OSError):
                while file.write(b"x" * 4096):  # to the last byte
                    pass
        elif step == 55:
            kept.append(checkpoint.load(folder.last)[2]["step"])
        elif step == 60:
            ballast.unlink()

    config = every(make_config(epochs=2, name="full"), 10)
    outcome = Session(config, sinks=[recorder], on_step=on_step).run()
    assert outcome.state == "finished"
    assert outcome.folder is not None
    (before,) = kept
    assert before <= 20
    assert checkpoint.load(outcome.folder.last)[2]["step"] == 80
    told = messages(outcome.folder)
    assert any("the checkpoint could not be written: No space left on device; training continues" in m for m in told)
    assert "checkpoints can be written again" in told
    # What could not be written at first was written later: nothing that anybody was told is missing.
    assert list(JournalReader(outcome.folder.journal).read()) == [e for e in recorder.events if e.seq >= 0]
    assert sum(point.steps for point in recorder.of(TrainPoint)) == 80


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user reaches: those of pytest are closed to others."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o777)
        yield Path(place)


def test_a_folder_that_cannot_be_written_any_more_is_said(make_config, open_folder: Path, tmp_path: Path) -> None:
    """Row 16: read-only from the start of the training on, for a user whom modes bind."""
    config = every(make_config(epochs=1, name="locked"), 10)
    config = msgspec.structs.replace(config, run=msgspec.structs.replace(config.run, runs_dir=str(open_folder)))
    folder = RunFolder(open_folder / "locked")
    told = tmp_path / "told"

    def become_nobody() -> None:
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)

    log = os.open(told, os.O_WRONLY | os.O_CREAT)

    def lock(event: object) -> None:
        if isinstance(event, CheckpointSaved) and event.step == 0:
            folder.path.chmod(0o555)
        if isinstance(event, Log):
            os.write(log, event.message.encode() + b"\n")

    assert ForkedSession(config, before=become_nobody, sinks=[lock]).wait() == 0
    os.close(log)
    folder.path.chmod(0o755)
    assert "the checkpoint could not be written: Permission denied; training continues" in told.read_text()
    assert checkpoint.load(folder.last)[2]["step"] == 0
    summary = summarise_run(folder)
    assert summary is not None
    assert (summary.state, summary.step) == ("finished", 40)
    Session(config, resume=folder).run()
    assert checkpoint.load(folder.last)[2]["step"] == 40


def test_a_folder_that_is_deleted_while_it_trains_is_made_anew(make_config, recorder) -> None:
    """Row 16: the journal is whole again, the next checkpoint is there, and the run is still this engine's."""
    config = every(make_config(epochs=1, name="deleted"), 10)
    folder = RunFolder(Path(config.run.runs_dir) / "deleted")
    holders = []

    def on_step(step: int, _loss: torch.Tensor) -> None:
        if step == 15:
            shutil.rmtree(folder.path)
        if step == 25:
            holders.append(holder_of(folder))

    outcome = Session(config, sinks=[recorder], on_step=on_step).run()
    assert outcome.state == "finished"
    assert list(JournalReader(folder.journal).read()) == [e for e in recorder.events if e.seq >= 0]
    assert any("was deleted during training" in message for message in messages(folder))
    assert [holder.pid for holder in holders if holder] == [os.getpid()]
    assert checkpoint.load(folder.last)[2]["step"] == 40
    assert folder.config.is_file()
