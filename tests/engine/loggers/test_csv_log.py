"""CSV files: what a run says, each step once, whatever becomes of it."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from logged_runs import logged, rows, run_cut_and_resumed, run_rolled_back, run_steered, steps

from finetui.engine.loggers.base import About
from finetui.engine.loggers.csv_log import CsvLog
from finetui.engine.protocol.config import RunConfig
from finetui.engine.protocol.events import Evaluated, Rewound, RunPrepared, StateChanged, TrainPoint
from finetui.engine.protocol.values import ClassReport
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.lineage import effective
from finetui.engine.sources.recognise import find_runs
from finetui.engine.sources.watched_runs import events_of


@pytest.fixture(autouse=True)
def _each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is told of, however fast the machine is."""
    monkeypatch.setattr("finetui.engine.training.metrics.POINT_INTERVAL", 0.0)


@pytest.fixture
def about(tmp_path: Path) -> About:
    return About(
        name="a", folder=str(tmp_path), id="1", config=RunConfig(), classes=("cat", "dog"), groups=("conv", "fc"),
        watched="test",
    )  # fmt: skip


def point(step: int, **fields: object) -> TrainPoint:
    common = {"epoch": 1, "step_in_epoch": step, "steps": 1, "loss": 2.0, "accuracy": 0.5, "learning_rate": 0.1}
    return TrainPoint(step=step, grad_norm=1.0, samples_per_second=10.0, **(common | fields))  # type: ignore[arg-type]


def test_a_run_is_there_as_its_events_tell_it(make_config, recorder) -> None:
    folder = run_steered(logged(make_config(), "csv"), recorder)
    points, (scores,) = recorder.of(TrainPoint), recorder.of(Evaluated)
    train = rows(folder, "train")
    assert [(int(row["step"]), float(row["loss"]), float(row["learning_rate"])) for row in train] == [
        (event.step, event.loss, event.learning_rate) for event in points
    ]
    layers = rows(folder, "layers")
    assert [row["group"] for row in layers[:5]] == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    assert len(layers) == 5 * len(points)
    (evaluation,) = rows(folder, "evaluations")
    assert (float(evaluation["accuracy"]), evaluation["part"]) == (scores.accuracy, "test")
    assert float(evaluation["macro_f1"]) == scores.averages[0].f1
    assert [float(row["f1"]) for row in rows(folder, "classes")] == [report.f1 for report in scores.per_class]
    changes = {row["change"]: int(row["step"]) for row in rows(folder, "changes")}
    assert changes == {"running": 0, "freeze conv1": 5, "learning rate 0.005": 8, "finished": 40}
    matrix = (folder.path / "csv" / "confusion-test.csv").read_text().splitlines()
    assert matrix[0] == "true \\ predicted,0,1,2,3,4,5,6,7,8,9"
    assert [[int(cell) for cell in line.split(",")[1:]] for line in matrix[1:]] == [*map(list, scores.confusion)]
    settings = dict(line.split(",", 1) for line in (folder.path / "csv" / "settings.csv").read_text().splitlines())
    assert settings["training.batch_size"] == "100"
    assert "package.torch" in settings
    assert settings["run.log"] == "csv"
    assert not (folder.path / "csv.log").exists()  # nothing was printed


def effective_steps(folder: RunFolder) -> list[int]:
    return [event.step for event in effective(JournalReader(folder.journal).read()) if isinstance(event, TrainPoint)]


def test_a_run_that_is_resumed_goes_on_in_the_same_files_with_no_step_twice(make_config) -> None:
    folder = run_cut_and_resumed(logged(make_config(), "csv"))
    assert steps(folder) == effective_steps(folder) == list(range(1, 41))
    assert (steps(folder, "evaluations"), steps(folder)[-1]) == ([40], 40)
    changes = [row["change"] for row in rows(folder, "changes")]
    assert "resumed at step 20" in changes
    assert not any(change.startswith("failed") for change in changes)  # that was at a step that did not hold


def test_a_run_that_is_rolled_back_loses_the_rows_that_do_not_hold(make_config) -> None:
    folder = run_rolled_back(logged(make_config(), "csv"))
    assert steps(folder) == effective_steps(folder) == list(range(1, 41))
    assert {float(row["learning_rate"]) for row in rows(folder, "train")} == {0.01, 0.001}
    assert "rolled back to step 10" in [row["change"] for row in rows(folder, "changes")]


def test_a_torn_line_is_taken_away(about: About) -> None:
    log = CsvLog(about)
    log.point(point(1), {})
    path = Path(about.folder) / "csv" / "train.csv"
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(b"1795833486.87,2,1,2,0.3")
    CsvLog(about).point(point(2), {})
    assert path.read_bytes().startswith(whole)
    assert steps(RunFolder(Path(about.folder))) == [1, 2]


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_rows_that_do_not_fit_leave_no_half_of_them(about: About) -> None:
    """`evaluations.csv` has room, `classes.csv` has not."""
    log = CsvLog(about)
    report = ClassReport(label="=cat", support=9, precision=1.0, recall=1.0, f1=1.0, accuracy=1.0)
    many = tuple(report for _ in range(400))
    scores = Evaluated(
        step=7, epoch=1, loss=1.0, accuracy=1.0, n=9, per_class=many, confusion=(), best=True, seconds=1.0
    )
    with no_file_beyond(4096), pytest.raises(OSError):
        log.evaluated(scores, {})
    folder = RunFolder(Path(about.folder))
    assert (rows(folder, "evaluations"), rows(folder, "classes")) == ([], [])
    log.evaluated(scores, {})
    assert (len(rows(folder, "evaluations")), len(rows(folder, "classes"))) == (1, 400)
    assert rows(folder, "classes")[0]["class"] == "'=cat"  # no spreadsheet computes it


def test_going_back_keeps_what_came_before_and_the_header(about: About) -> None:
    log = CsvLog(about)
    for step in (1, 2, 3):
        log.point(point(step, group_grad_norms=(1.0, 2.0), group_rate_factors=(0.5, 1.0)), {})
    header = (Path(about.folder) / "csv" / "train.csv").read_text().splitlines()[0]
    log.go_back(Rewound(step=2, cause="rollback", file="a", at=1, epoch=1, undone=1, learning_rate=0.1, layers=()))
    log.point(point(3, loss=9.0), {})
    folder = RunFolder(Path(about.folder))
    assert [(row["step"], row["loss"]) for row in rows(folder, "train")] == [("1", "2.0"), ("2", "2.0"), ("3", "9.0")]
    assert (Path(about.folder) / "csv" / "train.csv").read_text().splitlines()[0] == header
    assert [(row["group"], row["learning_rate"]) for row in rows(folder, "layers")[:2]] == [
        ("conv", "0.05"), ("fc", "0.1")
    ]  # fmt: skip


@pytest.mark.parametrize("run", [run_steered, run_cut_and_resumed, run_rolled_back])
def test_finetui_watches_the_files_as_one_run_with_the_numbers_of_its_journal(
    run: Callable[..., RunFolder], make_config
) -> None:
    folder = run(logged(make_config(), "csv"))
    (found,) = find_runs(folder.path / "csv")
    heard = list(events_of(found).read())
    journal = list(effective(JournalReader(folder.journal).read()))
    told = [
        (e.step, e.epoch, e.loss, e.accuracy, e.learning_rate) for e in heard if isinstance(e, TrainPoint) if e.loss
    ]
    assert told == [
        (e.step, e.epoch, e.loss, e.accuracy, e.learning_rate) for e in journal if isinstance(e, TrainPoint)
    ]
    scores = [
        [(e.step, e.part, e.loss, e.accuracy) for e in list_ if isinstance(e, Evaluated)] for list_ in (heard, journal)
    ]
    assert scores[0] == scores[1] != []
    (begun,) = [event for event in heard if isinstance(event, RunPrepared)]
    assert begun.hparams is not None
    assert (begun.hparams["model"], begun.hparams["batch_size"]) == ("lenet", 100)
    assert [event.state for event in heard if isinstance(event, StateChanged)] == ["running", "finished"]


def test_files_that_are_written_anew_while_they_are_watched_are_told_anew(about: About) -> None:
    log = CsvLog(about)
    log.point(point(1), {})
    log.point(point(2), {})
    (found,) = find_runs(Path(about.folder) / "csv")
    reader = events_of(found)
    assert [event.step for event in reader.read() if isinstance(event, TrainPoint)] == [1, 2]
    log.go_back(
        Rewound(
            step=1, cause="command", file="", at=1, epoch=1, undone=1, learning_rate=0.1, layers=(), best_accuracy=None
        )
    )
    log.point(point(2, loss=9.0), {})
    again = list(reader.read())
    assert isinstance(again[0], RunPrepared)
    assert [(event.step, event.loss) for event in again if isinstance(event, TrainPoint)] == [(1, 2.0), (2, 9.0)]
