"""Which part chooses, and which is only scored: val while a run trains, test once at its end, and each says which."""

import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision import datasets

import finetui
from finetui.engine.checkpoints import checkpoint
from finetui.engine.data import ImageData, Transform, load
from finetui.engine.errors import BadInput
from finetui.engine.inspection.answers import Answerer, Subject
from finetui.engine.inspection.opened_checkpoint import evaluate_checkpoint, open_checkpoint
from finetui.engine.predictions.file import load_predictions
from finetui.engine.protocol import events
from finetui.engine.protocol.commands import Evaluate, FetchImages, FindDuplicates, SetLearningRate
from finetui.engine.protocol.config import DataConfig, GuardsConfig, RunConfig, RunSection, TrainingConfig
from finetui.engine.protocol.config_file import load as load_config
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.summaries import summarise_run
from finetui.engine.session.loop import TrainingLoop
from finetui.engine.session.replay import replay_run
from finetui.engine.session.session import Outcome, Session
from finetui.engine.training.alerts import AlertWatch


@pytest.fixture(scope="module")
def every() -> int:
    return 1  # all of the bundled digits


def with_val(config: RunConfig, share: float = 0.2, **settings: object) -> RunConfig:
    return msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, val=share, **settings))


class Spoiler:
    """Raises the rate once, three steps before the end."""

    def __init__(self) -> None:
        self.waits = True

    def __call__(self, step: int) -> SetLearningRate | None:
        if step < 93 or not self.waits:
            return None
        self.waits = False
        return SetLearningRate(value=0.4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Outcome, list[events.AnyEvent]]:
    """A run whose best epoch is not its last, whose last steps have far too high a rate; and what it said."""
    training = TrainingConfig(
        epochs=3,
        batch_size=100,
        lr=0.05,
        device="cpu",
        optimizer="sgd",
        schedule="constant",
        weight_decay=0.0,
        fast="on",
    )
    run = RunSection(runs_dir=str(tmp_path_factory.mktemp("parts") / "runs"))
    config = RunConfig(data=DataConfig(name="mnist-sample", val=0.2), training=training, run=run)
    heard: list[events.AnyEvent] = []
    outcome = Session(config, sinks=[heard.append], script=Spoiler()).run()
    found = [event for event in heard if isinstance(event, events.Evaluated)]
    best = max(event.accuracy for event in found if event.watched)
    assert found[-2].accuracy < best, "the last epoch must not be the best for these tests"
    return outcome, heard


@pytest.fixture
def run(trained, recorder, tmp_path: Path) -> Outcome:
    """That run, its folder a test's own."""
    outcome, heard = trained
    recorder.events += heard
    copy = shutil.copytree(outcome.folder.path, tmp_path / "runs" / outcome.folder.path.name)
    return replace(outcome, folder=RunFolder(Path(copy)))


def test_val_is_watched_and_test_is_scored_once_with_the_best_weights(run: Outcome, recorder) -> None:
    found = recorder.of(events.Evaluated)
    assert [event.part for event in found] == ["val", "val", "val", "test"]
    assert [event.watched for event in found] == [True] * 3 + [False]
    assert [event.n for event in found] == [800] * 3 + [1000]
    assert found[-1].checkpoint == "best"
    assert not found[-1].best
    (prepared,) = recorder.of(events.RunPrepared)
    assert prepared.data.sizes == {"train": 3200, "val": 800, "test": 1000}
    scored = evaluate_checkpoint(run.folder.best, device="cpu")
    assert scored.part == "test"
    assert scored.report.accuracy == found[-1].accuracy
    assert evaluate_checkpoint(run.folder.last, device="cpu").report.loss != found[-1].loss
    best = max(found[:-1], key=lambda event: event.accuracy)
    assert evaluate_checkpoint(run.folder.best, device="cpu", part="val").report.accuracy == best.accuracy
    with pytest.raises(BadInput, match="there is no part|has no"):
        replace(load(DataConfig(name="mnist-sample"), torch.device("cpu")), test=None).part("test")


def test_scoring_test_leaves_the_weights_as_they_were(run: Outcome, make_config, tmp_path: Path) -> None:
    alone = with_val(make_config(epochs=3, lr=0.05, name="alone"), test="none")
    other = Session(alone, script=Spoiler()).run()
    last, without = (checkpoint.load(folder.last)[1] for folder in (run.folder, other.folder))
    assert all(torch.equal(last[name], without[name]) for name in last)


def test_every_opening_is_in_the_journal_and_the_files_say_the_part(run: Outcome) -> None:
    folder = run.folder
    told = [event for event in JournalReader(folder.journal).read() if isinstance(event, events.Evaluated)]
    assert [event.part for event in told] == ["val"] * 3 + ["test"]
    assert [event.predictions for event in told] == ["last.predictions"] * 3 + ["test.predictions"]
    assert load_predictions(folder.last_predictions).origin.part == "val"
    assert load_predictions(folder.best_predictions).origin.part == "val"
    tested = load_predictions(folder.predictions_of("test"))
    assert tested.origin.part == "test"
    assert tested.origin.step == checkpoint.load(folder.best)[2]["step"]
    assert len(tested) == 1000
    summary = summarise_run(folder)
    assert summary is not None
    assert (summary.part, summary.accuracy, summary.best_accuracy) == (
        "val", told[2].accuracy, max(event.accuracy for event in told[:3]),
    )  # fmt: skip
    assert summary.test_accuracy == told[3].accuracy


def test_a_run_with_val_is_replayed_to_the_same_bits(run: Outcome) -> None:
    replayed = replay_run(run.folder)
    assert replayed.complete
    assert replayed.different_at is None


def test_a_finished_run_is_not_tested_again_when_it_is_resumed(run: Outcome, recorder) -> None:
    before = len(recorder.of(events.Evaluated))
    Session(load_config(run.folder.config), sinks=[recorder], resume=run.folder).run()
    assert len(recorder.of(events.Evaluated)) == before


def test_a_run_that_was_cut_before_the_test_makes_up_for_it(make_config, recorder, monkeypatch) -> None:
    def cut(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(TrainingLoop, "test", cut)
        session = Session(with_val(make_config(name="cut")))
        with pytest.raises(KeyboardInterrupt):
            session.run()
    folder = session.folder
    outcome = Session(with_val(make_config(name="cut")), sinks=[recorder], resume=folder).run()
    assert outcome.state == "finished"
    assert [event.part for event in recorder.of(events.Evaluated)] == ["test"]


def test_without_val_everything_is_test_as_it_was(make_config, recorder) -> None:
    folder = Session(make_config(epochs=2), sinks=[recorder]).run().folder
    found = recorder.of(events.Evaluated)
    assert [(event.part, event.watched, event.n) for event in found] == [("test", True, 1000)] * 2
    assert load_predictions(folder.best_predictions).origin.part == "test"
    assert not folder.predictions_of("test").exists()


def test_test_none_scores_nothing_at_the_end(make_config, recorder) -> None:
    Session(with_val(make_config(), test="none"), sinks=[recorder]).run()
    assert [event.part for event in recorder.of(events.Evaluated)] == ["val"]


@pytest.mark.parametrize("part", ["test", "train"])
def test_another_part_is_evaluated_on_demand(make_config, recorder, part: str) -> None:
    commands = CommandQueue()
    commands.put(Evaluate(part=part))
    session = Session(with_val(make_config()), commands=commands, sinks=[recorder], autostart=False)
    session.run()
    (event,) = recorder.of(events.Evaluated)
    assert (event.part, event.watched, event.best, event.checkpoint) == (part, False, False, "")
    assert session.active.loop.accuracy is None
    assert session.active.loop.evaluator.best == -1


def test_a_part_that_is_not_there_is_refused(make_config, recorder) -> None:
    commands = CommandQueue()
    commands.put(Evaluate(part="val"))
    Session(make_config(), commands=commands, sinks=[recorder], autostart=False).run()
    (refused,) = recorder.of(events.CommandRefused)
    assert refused.reason == "mnist-sample has no val part; it has train and test"


def test_an_alert_says_the_part() -> None:
    watch = AlertWatch(GuardsConfig(plateau_evaluations=2))
    said = []
    for epoch in range(5):
        event = events.Evaluated(
            epoch=epoch, loss=1.0, accuracy=0.5, n=1, per_class=(), confusion=(), best=False, seconds=0.0, part="val"
        )
        said += watch.evaluated(event, 1.0)
    assert said[0].message.startswith("the val loss has not improved")


# -- data of a person's own, and torchvision's ------------------------------------------------------------------


class Own(Dataset):
    """Images whose grey says of which part they are."""

    classes = ("low", "high")

    def __init__(self, count: int, grey: int) -> None:
        self.targets = [index % 2 for index in range(count)]
        self.grey = grey

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int):
        if index >= len(self):
            raise IndexError
        return Image.fromarray(np.full((8, 8), self.grey + index, np.uint8)), self.targets[index]


def greys(data: ImageData) -> dict[str, list[int]]:
    return {part: [int(split.item(i).max()) for i in range(len(split))] for part, split in data.parts.items()}


CPU = torch.device("cpu")
FACTORIES = """
from test_parts import Own
def two(): return Own(8, 0), Own(4, 100)
def three(): return Own(8, 0), Own(4, 50), Own(4, 100)
def no_test(): return Own(8, 0), Own(4, 50), None
def four(): return Own(8, 0), Own(4, 50), Own(4, 100), Own(4, 150)
def none(): return Own(8, 0), None
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch) -> Path:
    (tmp_path / "made.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return tmp_path


@pytest.mark.parametrize(
    ("factory", "starts"),
    [
        ("two", {"train": 0, "test": 100}),
        ("three", {"train": 0, "val": 50, "test": 100}),
        ("no_test", {"train": 0, "val": 50}),
    ],
)
def test_own_datasets_of_two_and_three_parts(factories: Path, factory: str, starts: dict[str, int]) -> None:
    data = load(DataConfig(name=f"made.py:{factory}"), CPU)
    assert greys(data) == {
        part: list(range(grey, grey + (8 if part == "train" else 4))) for part, grey in starts.items()
    }


def test_val_is_held_out_of_an_own_training_set(factories: Path) -> None:
    data = load(DataConfig(name="made.py:two", val=0.25), CPU)
    found = greys(data)
    assert [len(values) for values in found.values()] == [6, 2, 4]
    assert sorted(found["train"] + found["val"]) == list(range(8))
    assert sorted(data.parts["val"].labels.tolist()) == [0, 1]


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        ("four", "must return datasets: .train, test., or .train, val, test."),
        ("none", "leaves no images of .* to evaluate on"),
    ],
)
def test_other_numbers_of_datasets_are_refused(factories: Path, factory: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        load(DataConfig(name=f"made.py:{factory}"), CPU)


def test_from_datasets_takes_val() -> None:
    data = finetui.from_datasets(Own(8, 0), Own(4, 100), CPU, val=Own(4, 50))
    assert list(data.parts) == ["train", "val", "test"]
    assert (data.watched, data.scored) == ("val", "test")


class Three(Own):
    """Stands for a set of torchvision's with three parts and a union of two."""

    def __init__(self, _root, split: str = "train", download: bool = False) -> None:
        sizes = {"train": (8, 0), "val": (4, 50), "trainval": (12, 0), "test": (4, 100)}
        super().__init__(*sizes[split])


@pytest.mark.parametrize(
    ("name", "kind", "val", "sizes"),
    [
        ("dtd", "DTD", 0.0, {"train": 8, "val": 4, "test": 4}),
        ("flowers102", "Flowers102", 0.0, {"train": 8, "val": 4, "test": 4}),
        ("fgvc-aircraft", "FGVCAircraft", 0.0, {"train": 12, "test": 4}),
        ("fgvc-aircraft", "FGVCAircraft", 0.1, {"train": 8, "val": 4, "test": 4}),
        ("oxford-iiit-pet", "OxfordIIITPet", 0.0, {"train": 12, "test": 4}),
        ("imagenette", "Imagenette", 0.0, {"train": 8, "val": 4}),
        ("food101", "Food101", 0.25, {"train": 6, "val": 2, "test": 4}),
    ],
)
def test_torchvisions_parts_are_what_they_are(
    monkeypatch, tmp_path: Path, name: str, kind: str, val: float, sizes: dict[str, int]
) -> None:
    monkeypatch.setattr(datasets, kind, Three)
    data = load(DataConfig(name=name, dir=str(tmp_path), val=val), CPU)
    assert {part: len(split) for part, split in data.parts.items()} == sizes


def test_idx_files_hold_out_from_train() -> None:
    whole, data = (load(DataConfig(name="mnist-sample", val=share), CPU, seed=3) for share in (0.0, 0.1))
    assert {part: len(split) for part, split in data.parts.items()} == {"train": 3600, "val": 400, "test": 1000}
    own = {split.item(i).numpy().tobytes() for split in (data.train, data.parts["val"]) for i in range(len(split))}
    assert own == {whole.train.item(i).numpy().tobytes() for i in range(len(whole.train))}
    shares = torch.bincount(data.parts["val"].labels) / torch.bincount(whole.train.labels)
    assert ((shares - 0.1).abs() < 0.005).all()
    assert torch.equal(data.test.labels, whole.test.labels)


# -- questions, and what was made before there was val ----------------------------------------------------------


def test_questions_are_about_the_part_that_they_name() -> None:
    data = finetui.from_datasets(Own(8, 0), Own(4, 100), CPU, val=Own(4, 2))
    opened = Subject(torch.nn.Identity(), data, Transform(mean=data.mean, std=data.std), None, CPU)  # type: ignore[arg-type]
    answerer = Answerer(opened)
    for part, grey in (("", 2), ("val", 2), ("test", 100), ("train", 0)):
        (shown,) = answerer.answer(FetchImages(indices=(0,), part=part)).pictures
        assert shown.pixels[0] == grey
    assert answerer.answer(FindDuplicates(part="test")).pairs == ()
    assert [pair[0] for pair in answerer.answer(FindDuplicates(part="val")).pairs] == [0, 1, 2, 3]
    with pytest.raises(BadInput, match="the training images themselves"):
        answerer.answer(FindDuplicates(part="train"))


@pytest.mark.parametrize("parts", [("train", "val", "test"), ("train", "val")])
def test_a_run_from_before_there_was_val_goes_on_with_the_images_it_was_evaluated_on(
    make_config, tmp_path: Path, recorder, parts: tuple[str, ...]
) -> None:
    for part in parts:
        for label, name in enumerate("ab"):
            for index in range({"train": 20, "val": 5, "test": 7}[part]):
                path = tmp_path / "d" / part / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((28, 28), 100 * label + index, np.uint8)).save(path)
    config = make_config(data=str(tmp_path / "d"), epochs=2, batch_size=10, name="old")
    folder = (
        Session(msgspec.structs.replace(config, training=msgspec.structs.replace(config.training, epochs=2)))
        .run()
        .folder
    )
    about, weights, training = checkpoint.load(folder.last)
    for key in ("watched", "tested"):
        del training[key]  # as it was written before
    checkpoint.save(folder.last, about, weights, training)
    evaluated_on = parts[-1]
    opened = open_checkpoint(folder.last, device="cpu")
    assert list(opened.subject.data.parts) == ["train", "test"]
    assert f"/{evaluated_on}/" in opened.subject.data.test.file(0)
    opened.close()
    commands = CommandQueue()
    commands.put(Evaluate())
    Session(config, commands=commands, sinks=[recorder], resume=folder, autostart=False).run()
    (event,) = recorder.of(events.Evaluated)
    assert (event.part, event.watched) == ("test", True)
    assert event.n == {"val": 10, "test": 14}[evaluated_on]
