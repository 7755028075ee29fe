"""What a loop gives of its predictions: errors, matrix, classes, label suspects, and the images themselves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_loop import journal_of
from PIL import Image
from watching import Watcher

import finetui
from finetui.engine.errors import BadInput
from finetui.engine.link.journal_link import JournalLink
from finetui.engine.predictions.file import load_predictions
from finetui.engine.predictions.images import pixels
from finetui.engine.predictions.metrics import scores_of
from finetui.engine.protocol import commands, events
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.resume import branched, resumable
from finetui.engine.session.replay import read_recording

NAMES = ("ant", "bee", "cat")
LOGITS = torch.tensor([[4.0, 0.0, 1.0], [0.0, 3.0, 0.5], [0.2, 2.0, 1.0], [0.0, 0.0, 5.0]])
LABELS = torch.tensor([0, 1, 2, 2])


def given(tmp_path: Path, *arguments: Any, name: str = "own", **options: Any) -> RunFolder:
    """Return the folder of a run that was given these predictions."""
    with finetui.watch(runs_dir=tmp_path, name=name, classes=NAMES) as run:
        run.predictions(*arguments, **options)
        assert run.folder is not None
        return RunFolder(run.folder)


def evaluation(folder: RunFolder) -> events.Evaluated:
    return next(event for event in journal_of(folder) if isinstance(event, events.Evaluated))


def test_scores_classes_and_the_matrix(tmp_path: Path) -> None:
    folder = given(tmp_path, LOGITS.softmax(1), LABELS)
    told = evaluation(folder)
    expected = torch.nn.functional.cross_entropy(LOGITS, LABELS)
    assert told.loss == pytest.approx(float(expected), rel=1e-5)
    assert (told.accuracy, told.n, told.best, told.part, told.watched) == (0.75, 4, True, "val", True)
    assert told.confusion == ((1, 0, 0), (0, 1, 0), (0, 1, 1))
    assert [row.label for row in told.per_class] == list(NAMES)
    found = load_predictions(folder.last_predictions)
    assert found.classes == NAMES
    assert found.top(2)[0] == (1, pytest.approx(float(LOGITS[2].softmax(0)[1]), rel=1e-5))
    assert scores_of(found).accuracy == 0.75
    assert folder.best_predictions.is_file()


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        (LOGITS, LABELS),
        (LOGITS.softmax(1).numpy(), LABELS.numpy()),
        (LOGITS.softmax(1).tolist(), LABELS.tolist()),
        ([LOGITS[:3].softmax(1), LOGITS[3:].softmax(1)], [LABELS[:3], LABELS[3:]]),
        (LOGITS.softmax(1).double(), torch.nn.functional.one_hot(LABELS)),
        (LOGITS.softmax(1).to(torch.bfloat16), LABELS.float()),
    ],
)
def test_any_form_of_them_will_do(tmp_path: Path, scores: Any, labels: Any) -> None:
    found = load_predictions(given(tmp_path, scores, labels).last_predictions)
    np.testing.assert_array_equal(found.label, LABELS)
    np.testing.assert_array_equal(found.predicted, LOGITS.argmax(1))
    np.testing.assert_allclose(found.confidence, LOGITS.softmax(1).amax(1), atol=5e-3)


def asked(folder: RunFolder, question: commands.AnyCommand) -> events.AnyEvent:
    """Return what the dashboard of an ended run answers."""
    watcher = Watcher(JournalLink(folder))
    watcher.until_state("finished")
    answer = watcher.ask(question)
    watcher.close()
    return answer


def test_images_are_shown_from_their_files(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    paths = []
    for number in range(4):
        paths.append(tmp_path / f"image {number}.png")
        Image.fromarray(generator.integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(paths[-1])
    paths[1].write_bytes(b"no picture")
    folder = given(tmp_path, LOGITS, LABELS, paths)
    answer = asked(folder, commands.FetchImages(indices=(2, 1, 9)))
    assert isinstance(answer, events.Images)
    good, bad, none = answer.pictures
    np.testing.assert_array_equal(pixels(good), np.asarray(Image.open(paths[2])))
    assert good.name == str(paths[2])
    assert bad.problem.startswith(f"{paths[1]} cannot be read: ")
    assert none.problem == "there is no image 9; there are 4"


@pytest.mark.parametrize("shape", [(4, 1, 6, 5), (4, 6, 5), (4, 3, 6, 5), (4, 6, 5, 3)])
def test_images_are_shown_as_they_were_given(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    folder = given(tmp_path, LOGITS, LABELS, images)
    answer = asked(folder, commands.FetchImages(indices=(3,), part="val"))
    assert isinstance(answer, events.Images)
    shown = torch.from_numpy(pixels(answer.pictures[0]).copy())
    assert shown.shape[:2] == (6, 5)
    wanted = images[3].reshape(shown.shape) if 3 not in shape[1:2] else images[3].permute(1, 2, 0)
    assert torch.equal(shown, wanted)


def test_normalised_floats_are_stretched(tmp_path: Path) -> None:
    images = torch.linspace(-2, 2, 4 * 30).reshape(4, 1, 6, 5)
    answer = asked(given(tmp_path, LOGITS, LABELS, images), commands.FetchImages(indices=(0,)))
    assert isinstance(answer, events.Images)
    shown = pixels(answer.pictures[0])
    assert (shown.min(), shown.max()) == (0, 255)


def test_parts_have_files_of_their_own(tmp_path: Path) -> None:
    with finetui.watch(runs_dir=tmp_path, name="own", classes=NAMES) as run:
        run.predictions(LOGITS, LABELS, part="val")
        run.predictions(LOGITS.flip(1), LABELS, part="train")
        run.predictions(LOGITS, LABELS, part="val")
    folder = RunFolder(tmp_path / "own")
    told = [event for event in journal_of(folder) if isinstance(event, events.Evaluated)]
    assert [(e.part, e.watched, e.best, e.predictions) for e in told] == [
        ("val", True, True, "last.predictions"),
        ("train", False, False, "train.predictions"),
        ("val", True, False, "last.predictions"),
    ]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((LOGITS[0], LABELS), "takes [n, classes], and was given (3,)"),
        ((LOGITS, LABELS[:2]), "there are 4 predictions, and labels of the shape (2,)"),
        ((LOGITS, LABELS + 1), "labels must be from 0 to 2, and these are from 1 to 3"),
        ((LOGITS, LABELS + 0.5), "takes whole numbers"),
        ((LOGITS / 0, LABELS), "some of the predictions are not finite numbers"),
        ((LOGITS[:, :2], LABELS), "there are 3 classes, and predictions for 2"),
        ((LOGITS, LABELS, ["a.png"]), "there are 4 predictions, and 1 images"),
        ((LOGITS, LABELS, torch.zeros(4, 2, 2, 2, 2)), "an image has 2 or 3 dimensions"),
        (("text", LABELS), "takes tensors or arrays of numbers"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, arguments: tuple[Any, ...], problem: str) -> None:
    with pytest.warns(RuntimeWarning) as said:
        given(tmp_path, *arguments)
    assert problem in str(said[0].message)


def test_only_the_loop_itself_can_go_on(tmp_path: Path) -> None:
    folder = given(tmp_path, LOGITS, LABELS)
    reason = "the run own was trained by your own loop, which finetui only watched: start that loop again"
    with pytest.raises(BadInput, match=reason):
        resumable(folder)
    with pytest.raises(BadInput, match=reason):
        branched(folder, "last", "other", None)
    with pytest.raises(BadInput, match=reason):
        read_recording(folder)
    answer = asked(folder, commands.FindDuplicates())
    assert isinstance(answer, events.CommandRefused)
    assert answer.reason == "the loop has ended, and its network and data with it"


def test_an_ended_loop_is_said_to_obey_what_it_can_still_answer_and_nothing_else(tmp_path: Path) -> None:
    watcher = Watcher(JournalLink(given(tmp_path, LOGITS, LABELS, torch.zeros(4, 6, 5))))
    watcher.until_state("finished")
    begun = next(event for event in watcher.seen if isinstance(event, events.RunPrepared))
    assert begun.capabilities is not None
    assert begun.capabilities.commands == ("FetchImages",)
    for kind in (commands.Save, commands.Evaluate, commands.SetLearningRate, commands.ExplainImage):
        assert begun.capabilities.refusal(kind) == "the loop has ended, and its network and data with it"
    watcher.close()
