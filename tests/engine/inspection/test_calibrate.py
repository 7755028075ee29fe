"""A temperature: fitted on val images alone, kept in the checkpoint, and used wherever a probability is told."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

import finetui
from finetui.engine.checkpoints import checkpoint
from finetui.engine.data import load
from finetui.engine.errors import BadInput
from finetui.engine.inspection.calibrate import calibrate, fit_temperature
from finetui.engine.protocol.config import DataConfig, RunConfig
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.lock import RunLock
from finetui.engine.session.session import Session


def trained(config: RunConfig, val: float) -> RunFolder:
    """A run that has learned little, and is too sure of it: its last layer is five times what it was."""
    data = msgspec.structs.replace(config.data, val=val)
    folder = Session(msgspec.structs.replace(config, data=data)).run().folder
    about, weights, training = checkpoint.load(folder.best)
    weights |= {name: 5 * weights[name] for name in ("fc3.weight", "fc3.bias")}
    checkpoint.save(folder.best, about, weights, training)
    return folder


@pytest.fixture
def run(make_config) -> RunFolder:
    return trained(make_config(lr=0.05, epochs=2), val=0.2)


def test_a_temperature_is_the_minimum_of_the_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(5000, 10, generator=generator)
    # The labels are drawn as the softmax of a third of these logits says.
    labels = torch.multinomial((logits / 3).softmax(1), 1, generator=generator)[:, 0]
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(3, rel=0.05)

    def loss(temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits.double() / temperature, labels))

    assert loss(found) < min(loss(found * 1.001), loss(found / 1.001))


@pytest.mark.peers
@pytest.mark.parametrize("classes", [2, 10, 300])
def test_it_is_the_one_that_scipy_finds(classes: int) -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="needs the extra `peers`")
    logits = 4 * torch.randn(2000, classes, generator=torch.Generator().manual_seed(classes))
    labels = torch.multinomial((logits / 2).softmax(1), 1, generator=torch.Generator().manual_seed(1))[:, 0]

    def loss(temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits.double() / temperature, labels))

    expected = optimize.minimize_scalar(loss, bounds=(0.05, 50), method="bounded", options={"xatol": 1e-9}).x
    assert fit_temperature(logits, labels) == pytest.approx(expected, rel=1e-5)


def test_where_no_temperature_is_the_best_that_is_said() -> None:
    logits = torch.eye(4).repeat(5, 1)
    with pytest.raises(BadInput, match="all 20 val images are classified correctly"):
        fit_temperature(logits, logits.argmax(1))
    with pytest.raises(BadInput, match="does not tell"):
        fit_temperature(logits, (logits.argmax(1) + 1) % 4)


def test_it_is_kept_in_the_checkpoint_and_nothing_else_changes(run: RunFolder) -> None:
    about, weights, training = checkpoint.load(run.best)
    last = run.last.read_bytes()
    found = calibrate(run.best, device="cpu")
    now, same_weights, same_training = checkpoint.load(run.best)
    assert found.temperature > 1.2  # it was too sure
    assert now.temperature == found.temperature
    assert msgspec.structs.replace(now, temperature=1.0) == about
    assert checkpoint.digest(weights) == checkpoint.digest(same_weights)
    assert repr(training) == repr(same_training)
    assert run.last.read_bytes() == last
    assert found.log_loss[1] < found.log_loss[0]
    assert found.calibration_error[1] < found.calibration_error[0]
    assert calibrate(run.best, device="cpu").temperature == pytest.approx(found.temperature, rel=1e-6)


def test_evaluate_and_predict_use_it(run: RunFolder, tmp_path: Path) -> None:
    image = tmp_path / "digit.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (28, 28), dtype=np.uint8)).save(image)

    def probabilities() -> dict[str, float]:
        (answer,) = finetui.classify(run.best, [image], top=10, device="cpu")
        return dict(answer.top)

    plain, before = finetui.evaluate_checkpoint(run.best, device="cpu", part="val"), probabilities()
    found = calibrate(run.best, device="cpu")
    warm, after = finetui.evaluate_checkpoint(run.best, device="cpu", part="val"), probabilities()
    assert (plain.temperature, plain.report.uncalibrated) == (1.0, None)
    assert warm.temperature == found.temperature
    assert warm.scores.accuracy == plain.scores.accuracy
    assert warm.report.uncalibrated == pytest.approx((plain.scores.log_loss, plain.scores.calibration_error), rel=1e-5)
    assert (warm.scores.log_loss, warm.scores.calibration_error) == pytest.approx(
        (found.log_loss[1], found.calibration_error[1]), rel=1e-4
    )
    names = sorted(before)
    expected = (torch.tensor([before[name] for name in names]).log() / found.temperature).softmax(0)
    assert [after[name] for name in names] == pytest.approx(expected.tolist(), rel=1e-4)


def test_without_val_images_it_is_refused_and_the_checkpoint_stays(make_config) -> None:
    run = trained(make_config(), val=0.0)
    content = run.best.read_bytes()
    with pytest.raises(BadInput, match="no val images"):
        calibrate(run.best, device="cpu")
    assert run.best.read_bytes() == content


def test_val_images_of_classes_that_the_network_does_not_know_are_left_out(run: RunFolder, tmp_path: Path) -> None:
    digits = load(DataConfig(name="mnist-sample"), torch.device("cpu")).train
    for label, name in ((3, "3"), (7, "7"), (8, "letter")):
        ours = torch.nonzero(digits.labels == label)[:, 0].tolist()
        for number, index in enumerate(ours[:160]):
            path = tmp_path / "marks" / ("train" if number < 20 else "val") / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(digits.item(index)[0].numpy()).save(path)
    assert calibrate(run.best, data=str(tmp_path / "marks"), device="cpu").temperature > 0


def test_a_run_that_an_engine_has_is_left_alone(run: RunFolder) -> None:
    content = run.best.read_bytes()
    lock = RunLock(run)
    try:
        with pytest.raises(BadInput, match="in use"):
            calibrate(run.best, device="cpu")
    finally:
        lock.release()
    assert run.best.read_bytes() == content


def test_what_cannot_be_written_leaves_the_old_checkpoint(run: RunFolder, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    content = run.best.read_bytes()
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BadInput, match=r"best\.ckpt cannot be written: No space left"):
        calibrate(run.best, device="cpu")
    assert run.best.read_bytes() == content
    assert not list(run.path.glob(".*.tmp"))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(run: RunFolder, temperature: float, monkeypatch) -> None:
    about, weights, training = checkpoint.load(run.best)
    plain = msgspec.to_builtins

    def damaged(value: object, **how: object) -> object:
        return {**plain(value, **how), "temperature": temperature}

    monkeypatch.setattr(msgspec, "to_builtins", damaged)
    checkpoint.save(run.best, about, weights, training)
    with pytest.raises(BadInput, match="temperature"):
        checkpoint.load(run.best)
