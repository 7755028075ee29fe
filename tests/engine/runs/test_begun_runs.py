"""A job that is started anew goes on with the run that it has begun, and with no other."""

from pathlib import Path

import msgspec
import pytest
from made_runs import write_run

from finetui.engine.protocol.config import RunConfig, RunSection, TrainingConfig
from finetui.engine.protocol.events import RunStarted
from finetui.engine.runs.begun_runs import JobNote, begun_run
from finetui.engine.runs.folder import RunFolder


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    return monkeypatch


def begun(folder: Path, config: RunConfig, name: str = "mine") -> RunFolder:
    """Return a run that this job begins with `config`, with a checkpoint in its folder."""
    run = RunFolder(write_run(folder, name))
    JobNote(config)(RunStarted(name=name, path=str(run.path)))
    run.last.touch()
    return run


def test_only_a_job_that_is_started_anew_goes_on(tmp_path: Path, job: pytest.MonkeyPatch) -> None:
    config = RunConfig(run=RunSection(runs_dir=str(tmp_path)))
    run = begun(tmp_path, config)
    write_run(tmp_path, "another", at=1.8e9)
    assert begun_run(config) is None
    job.setenv("SLURM_RESTART_COUNT", "1")
    assert begun_run(config) == run
    # With fewer nodes, the same run.
    fewer = msgspec.structs.replace(config, training=TrainingConfig(processes=2))
    assert begun_run(fewer) == run


def test_other_settings_and_other_jobs_begin_a_run_of_their_own(tmp_path: Path, job: pytest.MonkeyPatch) -> None:
    config = RunConfig(run=RunSection(runs_dir=str(tmp_path)))
    begun(tmp_path, config)
    job.setenv("SLURM_RESTART_COUNT", "1")
    assert begun_run(msgspec.structs.replace(config, training=TrainingConfig(lr=0.5))) is None
    job.setenv("SLURM_JOB_ID", "8")
    assert begun_run(config) is None


def test_what_cannot_be_gone_on_with_is_none(tmp_path: Path, job: pytest.MonkeyPatch) -> None:
    config = RunConfig(run=RunSection(runs_dir=str(tmp_path)))
    run = begun(tmp_path, config)
    job.setenv("SLURM_RESTART_COUNT", "1")
    run.last.unlink()
    assert begun_run(config) is None
    run.last.touch()
    run.job.write_text("[")
    assert begun_run(config) is None
    assert begun_run(RunConfig(run=RunSection(runs_dir=str(tmp_path / "none")))) is None


def test_a_run_of_no_job_notes_nothing(tmp_path: Path) -> None:
    run = begun(tmp_path, RunConfig())
    assert not run.job.exists()


def test_only_the_first_run_of_a_process_is_the_jobs(tmp_path: Path, job: pytest.MonkeyPatch) -> None:
    note = JobNote(RunConfig())
    first, second = write_run(tmp_path, "first"), write_run(tmp_path, "second")
    for path in (first, second):
        note(RunStarted(name=path.name, path=str(path)))
    assert RunFolder(first).job.exists()
    assert not RunFolder(second).job.exists()
