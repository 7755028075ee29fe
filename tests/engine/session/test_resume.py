"""Checkpoints that are kept, resumed, rolled back to and branched from: what is said, and what is refused."""

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import msgspec
import pytest
import torch
from steered import at

from finetui.engine.checkpoints import checkpoint
from finetui.engine.distributed.ranks import SINGLE
from finetui.engine.errors import BadInput
from finetui.engine.inspection.opened_checkpoint import open_checkpoint
from finetui.engine.protocol.commands import Branch, RollBack, Save, SetLearningRate, Start, Stop
from finetui.engine.protocol.config import CheckpointsConfig, RunConfig
from finetui.engine.protocol.config_file import load, to_toml
from finetui.engine.protocol.events import (
    CheckpointSaved,
    CommandAccepted,
    CommandRefused,
    Log,
    Rewound,
    RunPrepared,
    RunStarted,
    StateChanged,
    TrainingChanged,
    TrainPoint,
)
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.runs import kept_checkpoints
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import Journal, JournalReader
from finetui.engine.runs.lineage import effective
from finetui.engine.runs.lock import RunLock
from finetui.engine.runs.reporter import Reporter
from finetui.engine.runs.run_writer import RunWriter
from finetui.engine.runs.summaries import summarise_run
from finetui.engine.session.serve import serve
from finetui.engine.session.session import Session


def run(config: RunConfig, *lines: tuple, **options: object) -> RunFolder:
    folder = Session(config, script=at(*lines), **options).run().folder
    assert folder is not None
    return folder


def journal(folder: RunFolder, *kinds: type) -> list:
    return [event for event in JournalReader(folder.journal).read() if isinstance(event, kinds)]


def scored_files(folder: RunFolder) -> list[Path]:
    opened = open_checkpoint(folder.last, device="cpu")
    opened.close()
    test = opened.subject.data.test
    return [Path(test.file(index)) for index in range(len(test))]


def steps(folder: RunFolder) -> dict[str, int]:
    return {path.stem: checkpoint.load(path)[2]["step"] for path in folder.path.glob("*.ckpt")}


def test_the_last_two_the_best_and_the_named_are_kept(make_config) -> None:
    config = make_config(epochs=2, name="run")
    config = msgspec.structs.replace(config, checkpoints=CheckpointsConfig(every_steps=15, every_minutes=0))
    # In the second epoch nothing is learned, so that the first evaluation stays the best.
    folder = run(config, (33, Save(name="mine")), (40, SetLearningRate(value=1e-12)))
    assert steps(folder) == {"last": 80, "previous": 70, "best": 40, "mine": 33}
    last = journal(folder, CheckpointSaved)[-1]
    assert {one.name: one.step for one in last.kept} == steps(folder)
    assert [one.name for one in last.kept] == ["last", "previous", "best", "mine"]
    assert kept_checkpoints.of(folder) == last.kept
    saved = [event.step for event in journal(folder, CheckpointSaved) if event.file == "last.ckpt"]
    assert saved == [0, 15, 30, 33, 40, 55, 70, 80]


def test_checkpoints_by_the_minute_take_at_most_a_hundredth_of_the_time(make_config, monkeypatch) -> None:
    from finetui.engine.session import checkpointing as module

    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    writer = RunWriter()
    folder = writer.create(make_config(), "x")
    loop = mock.MagicMock()
    loop.turn, loop.ranks = None, SINGLE
    loop.config.checkpoints = CheckpointsConfig(every_steps=0, every_minutes=1.0)
    loop.prepared.model.state_dict.return_value = {}
    loop.state_dict.return_value = {"step": 10, "epoch": 0, "accuracy": None}
    manager = module.CheckpointManager(writer, loop, Reporter(writer.journal, [], lambda: 10))

    def slow_save(*_: object) -> None:
        now[0] += 5.0
        folder.last.touch()

    monkeypatch.setattr(module.checkpoint, "save", slow_save)
    now[0] += 59
    assert not manager.due(10)
    now[0] += 1
    assert manager.due(10)
    assert manager.save()
    now[0] += 499
    assert not manager.due(20)
    now[0] += 1
    assert manager.due(20)
    loop.config.checkpoints = CheckpointsConfig(every_steps=0, every_minutes=0.0)
    now[0] += 1e6
    assert not manager.due(10**6)


def test_names_that_finetui_writes_itself_and_odd_ones_are_refused(make_config, recorder) -> None:
    lines = [(5, Save(name=name)) for name in ("best", "a/b", "..", "-x")]
    folder = run(make_config(name="run"), *lines, sinks=[recorder])
    assert len(recorder.of(CommandRefused)) == 4
    assert set(steps(folder)) == {"last", "previous", "best"}


def test_a_rollback_keeps_what_it_leaves_and_can_be_taken_back(make_config, recorder) -> None:
    lines = [
        (10, Save(name="early")),
        (25, RollBack(checkpoint="early")),
        (12, RollBack(checkpoint="previous")),
        (26, RollBack(checkpoint="nope")),
        (26, RollBack(checkpoint="early", rate_factor=-1)),
    ]
    folder = run(make_config(name="run"), *lines, sinks=[recorder])
    back, again = recorder.of(Rewound)
    assert (back.step, back.undone, back.file) == (10, 15, "early.ckpt")
    assert again.step > back.step  # what was left at step 25 is there again
    refused = [event.reason for event in recorder.of(CommandRefused)]
    assert "there is no checkpoint 'nope' in this run; there are: last (step" in refused[0]
    assert "positive" in refused[1]
    assert journal(folder, StateChanged)[-1].state == "finished"


def test_what_was_said_of_a_named_checkpoint_holds_for_whoever_goes_back_to_it(make_config) -> None:
    folder = run(make_config(name="run"), (10, Save(name="early")), (25, RollBack(checkpoint="early")))
    line = effective(JournalReader(folder.journal).read())
    accepted = [event for event in line if isinstance(event, CommandAccepted)]
    assert [type(event.command) for event in accepted] == [Save, RollBack]
    assert isinstance(line[line.index(accepted[0]) + 1], Rewound)


def assert_the_place_is_after_the_acceptance(folder: RunFolder) -> None:
    (accepted,) = journal(folder, CommandAccepted)
    saved = [event for event in journal(folder, CheckpointSaved) if event.at == accepted.seq + 1]
    assert [event.file for event in saved] == ["last.ckpt", "early.ckpt"]
    assert checkpoint.load(folder.checkpoint("early"))[2]["at"] == accepted.seq + 1


def test_what_is_said_of_a_checkpoint_after_one_that_failed_holds_as_well(make_config, monkeypatch) -> None:
    save, failed = checkpoint.save, []

    def fail_once(path: Path, about: object, model: object, training: dict) -> None:
        if training["step"] == 10 and not failed:
            failed.append(path)
            raise OSError("no room")
        save(path, about, model, training)

    monkeypatch.setattr(checkpoint, "save", fail_once)
    config = msgspec.structs.replace(
        make_config(name="run"), checkpoints=CheckpointsConfig(every_steps=10, every_minutes=0)
    )
    folder = run(config, (12, Save(name="early")))
    assert failed
    assert_the_place_is_after_the_acceptance(folder)


def test_a_journal_that_cannot_be_written_says_so_after_all_that_is_said_of_a_checkpoint(
    make_config, monkeypatch
) -> None:
    write, failed = Journal._write, []

    def fail_for_a_while(self: Journal, line: bytes) -> None:
        if b"early.ckpt" in line and len(failed) < 3:
            failed.append(line)
            raise OSError("no room")
        write(self, line)

    monkeypatch.setattr(Journal, "_write", fail_for_a_while)
    folder = run(make_config(name="run"), (12, Save(name="early")))
    assert "no room" in "".join(event.message for event in journal(folder, Log))
    assert_the_place_is_after_the_acceptance(folder)


def test_a_run_folder_that_was_renamed_tells_of_itself_where_it_lies_now(make_config) -> None:
    folder = run(make_config(name="run"), (10, Stop()))
    moved = RunFolder(folder.path.rename(folder.path.parent / "other"))
    (started,) = journal(moved, RunStarted)
    assert (started.name, started.path) == ("other", str(moved.path))


def test_a_finished_run_that_is_rolled_back_can_be_started_again(make_config, recorder) -> None:
    commands = CommandQueue()
    wanted = [RollBack(checkpoint="early"), Start()]

    def steer(event: object) -> None:
        if isinstance(event, StateChanged) and event.state in ("finished", "stopped") and wanted:
            commands.put(wanted.pop(0))

    session = Session(
        make_config(name="run"),
        commands=commands,
        sinks=[recorder, steer],
        script=at((10, Save(name="early"))),
        stay=lambda _state: bool(wanted),
    )
    assert session.run().state == "finished"
    assert recorder.states()[-4:] == ["finished", "stopped", "running", "finished"]
    assert sum(point.steps for point in recorder.of(TrainPoint)) == 70


def test_a_branch_follows_in_the_same_engine_and_its_start_is_kept(make_config, recorder) -> None:
    commands = CommandQueue()

    def steer(event: object) -> None:
        if isinstance(event, TrainPoint) and event.step == 40 and not recorder.of(CommandAccepted):
            commands.put(Branch(checkpoint="last"))

    outcome = serve(
        make_config(epochs=2, name="stem"), commands, [recorder, steer], autostart=True, stay=lambda _state: False
    )
    assert outcome.folder is not None
    assert outcome.folder.name == "stem-branch"
    stem = RunFolder(outcome.folder.path.parent / "stem")
    assert journal(stem, StateChanged)[-1].state == "stopped"
    pinned = [name for name in steps(stem) if name.startswith("step-")]
    assert len(pinned) == 1
    prepared = journal(outcome.folder, RunPrepared)[0]
    assert prepared.parent == "stem"
    (rewound,) = journal(outcome.folder, Rewound)
    assert (rewound.cause, rewound.step) == ("branch", steps(stem)[pinned[0]])
    summary = summarise_run(outcome.folder)
    assert summary is not None
    assert (summary.state, summary.parent, summary.step) == ("finished", "stem", 80)
    # As the stem would have ended.
    whole = run(make_config(epochs=2, name="whole"))
    weights = [checkpoint.digest(checkpoint.load(folder.last)[1]) for folder in (outcome.folder, whole)]
    assert weights[0] == weights[1]


@pytest.fixture
def more_threads() -> Iterator[int]:
    """Let one more thread compute than before."""
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    yield before + 1
    torch.set_num_threads(before)


def test_as_many_threads_compute_as_before(make_config, recorder, more_threads: int) -> None:
    folder = run(make_config(epochs=2, name="run"), (30, Stop()))
    torch.set_num_threads(more_threads + 1)
    Session(load(folder.config), resume=folder, sinks=[recorder]).run()
    assert recorder.of(Rewound)[0].device == f"cpu ({more_threads} threads)"
    assert not [event.message for event in recorder.of(Log) if "digits" in event.message]
    assert torch.get_num_threads() == more_threads + 1


def test_threads_that_this_machine_has_no_processors_for_are_said(
    make_config, recorder, more_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(make_config(epochs=2, name="run"), (30, Stop()))
    torch.set_num_threads(1)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    Session(load(folder.config), resume=folder, sinks=[recorder]).run()
    said = [event.message for event in recorder.of(Log)]
    assert f"the last digits may differ from an uninterrupted run: threads {more_threads} then, 1 now" in said


def test_digits_that_stood_in_for_mnist_go_on_without_a_warning(make_config, recorder) -> None:
    """There is no network in tests: the bundled digits are trained on in the place of MNIST."""
    folder = run(make_config(data="mnist", epochs=2), (20, Stop()))
    assert journal(folder, RunPrepared)[0].data.name == "mnist-sample"
    config = load(folder.config)
    assert Session(config, resume=folder, sinks=[recorder]).run().state == "finished"
    assert [event.message for event in recorder.of(Log) if "changed since the run began" in event.message] == []


def test_data_that_has_changed_is_no_continuation(tmp_path: Path, make_config) -> None:
    from PIL import Image

    for name in ("cat", "dog"):
        for number in range(20):
            path = tmp_path / "images" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (28, 28), number * 10).save(path)
    config = make_config(data=str(tmp_path / "images"), batch_size=4, name="run")
    folder = run(config, (3, Stop()))
    Image.new("L", (28, 28)).save(tmp_path / "images" / "cat" / "more.png")
    # The new one belongs to no part: the run goes on with the images that it has divided.
    run(load(folder.config), (5, Stop()), resume=folder)
    assert any("1 image new and not used" in event.message for event in journal(folder, Log))
    held_out = {path.name for path in scored_files(folder) if path.parent.name == "cat"}
    gone = next(path for path in (tmp_path / "images" / "cat").iterdir() if path.name not in {*held_out, "more.png"})
    gone.unlink()
    with pytest.raises(BadInput, match="there are 31 training images now, and there were 32"):
        Session(load(folder.config), resume=folder).run()
    for path in (tmp_path / "images" / "dog").iterdir():
        path.unlink()
    with pytest.raises(BadInput, match="class"):
        Session(load(folder.config), resume=folder).run()


def test_an_edited_configuration_is_said(make_config, recorder) -> None:
    folder = run(make_config(epochs=2, name="run"), (30, Stop()))
    config = load(folder.config)
    training = msgspec.structs.replace(config.training, epochs=3)
    data = msgspec.structs.replace(config.data, augment="light")
    folder.config.write_text(to_toml(msgspec.structs.replace(config, training=training, data=data)))
    Session(load(folder.config), resume=folder, sinks=[recorder]).run()
    said = [event.message for event in recorder.of(Log)]
    assert "config.toml has changed since the run began, in [data]: it continues with the new settings" in said
    assert [(event.step, event.training.epochs) for event in recorder.of(TrainingChanged)] == [(30, 3)]


def test_a_run_that_somebody_has_is_not_resumed(make_config) -> None:
    folder = run(make_config(name="run"), (10, Stop()))
    lock = RunLock(folder)
    content = folder.journal.read_bytes()
    with pytest.raises(BadInput, match=r"in use by process \d+ on host"):
        Session(load(folder.config), resume=folder).run()
    lock.release()
    assert folder.journal.read_bytes() == content


def test_a_run_without_a_whole_checkpoint_says_so(make_config) -> None:
    folder = run(make_config(name="run"), (10, Stop()))
    for path in folder.path.glob("*.ckpt"):
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match="has no checkpoint to resume from: .*last.ckpt.*previous.ckpt"):
        Session(load(folder.config), resume=folder).run()


def test_a_callers_own_module_and_data_go_on_as_well(make_config) -> None:
    from torch import nn
    from torch.utils.data import TensorDataset

    import finetui

    def make() -> tuple:
        torch.manual_seed(0)
        images, labels = torch.rand(200, 1, 8, 8), torch.arange(200) % 5
        data = finetui.from_datasets(TensorDataset(images, labels), TensorDataset(images, labels), torch.device("cpu"))
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Dropout(0.3), nn.Linear(16, 5)), data

    def session(name: str, **options: object) -> Session:
        model, data = make()
        return Session(make_config(epochs=4, batch_size=20, name=name), model=model, data=data, **options)

    whole = session("whole").run().folder
    cut = session("cut", script=at((17, Stop()))).run().folder
    assert whole is not None
    assert cut is not None
    session("cut", resume=cut).run()
    weights = [checkpoint.digest(checkpoint.load(folder.last)[1]) for folder in (cut, whole)]
    assert weights[0] == weights[1]
