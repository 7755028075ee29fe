"""Looking at a network on a GPU: scores, explanations and layers are those of the CPU."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from steered import at

from finetui.engine.inspection.answers import Answerer
from finetui.engine.inspection.opened_checkpoint import OpenedCheckpoint, open_checkpoint
from finetui.engine.protocol.commands import DescribeModel, ExplainImage, ViewLayer
from finetui.engine.runs.folder import RunFolder
from finetui.engine.session.session import Session

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("full_float32")]


@pytest.fixture
def folder(gpu: str, make_config: Callable) -> RunFolder:
    found = Session(make_config(device=gpu, lr=0.05)).run().folder
    assert found is not None
    return found


@pytest.fixture
def pair(gpu: str, folder: RunFolder) -> tuple[OpenedCheckpoint, OpenedCheckpoint]:
    """The same checkpoint on the GPU and on the CPU."""
    return open_checkpoint(folder.last, device=gpu), open_checkpoint(folder.last, device="cpu")


def test_scores_are_those_of_the_cpu(pair: tuple[OpenedCheckpoint, OpenedCheckpoint]) -> None:
    ours, theirs = (opened.evaluate() for opened in pair)
    assert ours.n == theirs.n > 0
    assert abs(ours.accuracy - theirs.accuracy) * ours.n < 1.5  # images
    assert ours.loss == pytest.approx(theirs.loss, abs=1e-5)
    for name in ("loss", "confidence", "margin"):
        assert np.allclose(ours.columns[name], theirs.columns[name], atol=1e-4)
    assert np.array_equal(ours.columns["label"], theirs.columns["label"])
    assert np.allclose(ours.roc_auc, theirs.roc_auc, atol=1e-4)


@pytest.mark.parametrize("method", ["grad-cam", "integrated-gradients", "occlusion"])
def test_explanations_are_those_of_the_cpu(pair: tuple[OpenedCheckpoint, OpenedCheckpoint], method: str) -> None:
    pytest.importorskip("captum")
    ours, theirs = (Answerer(opened.subject).answer(ExplainImage(index=3, method=method, target=1)) for opened in pair)
    found, expected = (np.frombuffer(answer.values, dtype="<f4") for answer in (ours, theirs))
    assert np.abs(expected).max() == pytest.approx(1)
    assert np.allclose(found, expected, atol=1e-3)
    assert (ours.layer, ours.target) == (theirs.layer, theirs.target)
    assert ours.probability == pytest.approx(theirs.probability, abs=1e-4)


@pytest.mark.parametrize("view", ["filters", "feature-maps", "weights", "activations"])
def test_layers_look_as_on_the_cpu(pair: tuple[OpenedCheckpoint, OpenedCheckpoint], view: str) -> None:
    question = ViewLayer(layer="conv1", view=view, index=2, count=4)
    ours, theirs = (Answerer(opened.subject).answer(question) for opened in pair)
    for name in ("minimum", "maximum", "mean"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), abs=1e-4)
    assert ours.shape == theirs.shape
    assert len(ours.pictures) == len(theirs.pictures)


def test_the_network_is_timed(pair: tuple[OpenedCheckpoint, OpenedCheckpoint]) -> None:
    ours, theirs = (Answerer(opened.subject).answer(DescribeModel()) for opened in pair)
    assert ours.seconds is not None and ours.seconds > 0
    assert [row.flops for row in ours.modules] == [row.flops for row in theirs.modules]


def test_a_question_leaves_the_training_alone(gpu: str, make_config: Callable) -> None:
    """Losses with questions in between are those without, on the GPU's random numbers as well."""

    def losses(name: str, *lines: tuple) -> list[float]:
        found: list[torch.Tensor] = []
        Session(
            make_config(name=name, device=gpu), on_step=lambda _step, loss: found.append(loss), script=at(*lines)
        ).run()
        return torch.stack(found).tolist()

    asked = [(10, ExplainImage(index=1, method="occlusion")), (20, DescribeModel())]
    assert losses("asked", *asked) == losses("alone")
