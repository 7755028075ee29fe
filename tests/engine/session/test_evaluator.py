"""Evaluations of a run: every prediction is kept, aligned with its image, and costs nobody a training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from constant_model import Constant, split
from PIL import Image
from torch.utils.data import Dataset

import finetui
from finetui.engine.data import Transform, load
from finetui.engine.inspection.answers import Answerer, Subject
from finetui.engine.inspection.evaluation import evaluate, files_of
from finetui.engine.inspection.opened_checkpoint import open_checkpoint
from finetui.engine.models import Architecture
from finetui.engine.predictions.file import load_predictions as load_predictions
from finetui.engine.protocol import events
from finetui.engine.protocol.commands import FetchImages
from finetui.engine.protocol.config import DataConfig
from finetui.engine.session.session import Session


def test_each_evaluation_leaves_its_predictions_and_the_best_stay(make_config, recorder) -> None:
    outcome = Session(make_config(epochs=3, lr=0.05), sinks=[recorder]).run()
    folder = outcome.folder
    assert folder is not None
    evaluated = recorder.of(events.Evaluated)
    last, best = load_predictions(folder.last_predictions), load_predictions(folder.best_predictions)
    assert {event.predictions for event in evaluated} == {"last.predictions"}
    for found, event in ((last, evaluated[-1]), (best, max(evaluated, key=lambda event: event.accuracy))):
        assert int(found.wrong.sum()) == round(event.n * (1 - event.accuracy))
        assert found.confusion().tolist() == [list(row) for row in event.confusion]
        assert float(found.loss.mean(dtype=np.float64)) == pytest.approx(event.loss, rel=1e-6)
        assert (found.origin.step, found.origin.run) == (event.step, folder.name)
    assert last.origin.classes == tuple("0123456789")


def test_predictions_are_those_of_the_network(make_config) -> None:
    outcome = Session(make_config()).run()
    found = load_predictions(outcome.folder.best_predictions)
    opened = open_checkpoint(outcome.folder.best, device="cpu")
    inputs, labels = next(opened.subject.data.test.batches(torch.arange(50), 50))
    with torch.inference_mode():
        probabilities = opened.subject.model(inputs).softmax(1)
    opened.close()
    assert found.label[:50].tolist() == labels.tolist()
    assert found.predicted[:50].tolist() == probabilities.argmax(1).tolist()
    own = probabilities[torch.arange(50), labels]
    assert np.allclose(found.loss[:50], -own.log().numpy(), atol=1e-5)
    assert np.allclose(found.confidence[:50], probabilities.max(1).values.numpy(), atol=1e-6)
    others = probabilities.clone()
    others[torch.arange(50), labels] = 0
    assert np.allclose(found.margin[:50], (own - others.max(1).values).numpy(), atol=1e-5)
    assert [label for label, _ in found.top(0)] == probabilities[0].sort(descending=True).indices.tolist()
    assert sum(probability for _, probability in found.top(0)) == pytest.approx(1, abs=1e-5)


def test_among_equals_the_first_class_is_predicted() -> None:
    class Same(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(x), 4)

    report = evaluate(Same(), split([0, 1, 2, 3]), "abcd")
    assert report is not None
    assert report.columns["predicted"].tolist() == [0, 0, 0, 0]
    assert report.top[0].tolist() == [0, 1, 2, 3]


def test_one_class_has_a_margin_and_no_second() -> None:
    class One(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(x), 1)

    report = evaluate(One(), split([0, 0]), "a")
    assert report is not None
    assert report.columns["margin"].tolist() == [1.0, 1.0]


def test_predictions_that_cannot_be_written_are_a_warning_and_no_end(make_config, recorder, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("finetui.engine.predictions.file.Predictions.save", full)
    outcome = Session(make_config(), sinks=[recorder]).run()
    assert outcome.state == "finished"
    assert [event.predictions for event in recorder.of(events.Evaluated)] == [""]
    assert any("No space left" in event.message for event in recorder.of(events.Log))


def test_without_links_the_best_are_copied(make_config, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    folder = Session(make_config()).run().folder
    assert folder.best_predictions.read_bytes() == folder.last_predictions.read_bytes()


def test_files_that_prove_unreadable_leave_the_others_in_line(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label in "ab":
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            for i in range(6):
                Image.fromarray(np.full((8, 8), 20 * i + (label == "b"), np.uint8)).save(folder / f"{i}.png")
    data = load(DataConfig(name=str(tmp_path), loader="stream", workers=1), torch.device("cpu"))
    gone = [2, 7, 8]
    files = [data.test.file(index) for index in range(12)]
    for index in gone:
        Path(files[index]).write_bytes(b"no image any more")
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    try:
        report = evaluate(network, data.test, data.classes, batch_size=5)
    finally:
        data.test.close()
    assert report is not None
    assert report.n == 9
    kept = [index for index in range(12) if index not in gone]
    assert report.columns["index"].tolist() == kept
    assert report.columns["label"].tolist() == [int(data.test.labels[index]) for index in kept]
    aligned = files_of(data.test).at(report.columns["index"])
    assert [aligned.path(row) for row in range(9)] == [files[index] for index in kept]


class Noisy(Dataset):
    """Draws a random number for every image that it is asked for, and gives floats."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index >= self.n:
            raise IndexError(index)
        torch.rand(3)
        return torch.full((1, 28, 28), index / self.n), index % 2


def test_asking_for_an_own_datasets_images_draws_no_number_and_changes_no_pixel() -> None:
    data = finetui.from_datasets(Noisy(20), Noisy(10), torch.device("cpu"))
    architecture = Architecture(name="lenet", num_classes=2, in_channels=1, height=28, width=28)
    transform = Transform(mean=(0.5,), std=(0.5,), height=28, width=28)
    subject = Subject(torch.nn.Identity(), data, transform, architecture, torch.device("cpu"))
    streamed = finetui.from_datasets(Noisy(20), Noisy(10), torch.device("cpu"), request=DataConfig(loader="stream"))
    for held in (data, streamed):
        answerer = Answerer(Subject(subject.model, held, transform, architecture, subject.device))
        before, state = held.test.item(3).clone(), torch.get_rng_state()
        answerer.answer(FetchImages(indices=(3,)))
        assert torch.equal(state, torch.get_rng_state())
        answerer._input(3)
        assert torch.equal(held.test.item(3), before)
        held.test.close()


def test_the_report_of_a_constant_answer_is_as_before() -> None:
    report = evaluate(Constant([0, 0, 1]), split([0, 1, 1]), "abc")
    assert report is not None
    assert report.accuracy == pytest.approx(2 / 3)
    assert report.columns["index"].tolist() == [0, 1, 2]
