"""Runs that nobody has trained: journals and predictions as long and as wide as anybody may bring, made in seconds."""

from pathlib import Path

import msgspec
import numpy as np

from finetui.engine.predictions.file import Files, Origin, Predictions
from finetui.engine.protocol.config import DataConfig, RunConfig, TrainingConfig
from finetui.engine.protocol.config_file import to_toml
from finetui.engine.protocol.events import (
    AnyEvent,
    ClassReport,
    DataSummary,
    Evaluated,
    Layer,
    LayerGroup,
    RunPrepared,
    RunStarted,
    StateChanged,
    TrainPoint,
)
from finetui.engine.runs.folder import LAST_PREDICTIONS, RunFolder
from finetui.engine.runs.journal import encode_line

SPIKE = 99.0


def make_run(path: Path, *, points: int = 1000, layers: int = 5, classes: int = 10, predictions: int = 0) -> RunFolder:
    """Write the folder of a finished run into the new folder `path`, with so many train points of a step each.

    One point in the middle has the loss `SPIKE`. Two evaluations, of `classes` classes, belong to it.
    """
    path.mkdir(parents=True)
    folder = RunFolder(path)
    names = tuple(f"class {index}" for index in range(classes))
    config = RunConfig(data=DataConfig(name="mnist"), training=TrainingConfig(epochs=2, batch_size=64))
    folder.config.write_text(to_toml(config))
    with folder.journal.open("wb") as file:
        seq = 0

        def say(event: AnyEvent, step: int) -> None:
            nonlocal seq
            file.write(encode_line(msgspec.structs.replace(event, seq=seq, step=step, time=1.8e9 + step)))
            seq += 1

        half = points // 2
        say(_prepared(config, names, layers, half), 0)
        say(RunStarted(name=path.name, path=str(path)), 0)
        say(StateChanged(state="running"), 0)
        for step in range(1, points + 1):
            say(_point(step, half, SPIKE if step == half // 2 else 0.5 + (step % 7) / 100, layers), step)
            if step in (half, points):
                say(_evaluated(names, 1 + step // points, predictions), step)
        say(StateChanged(state="finished"), points)
    if predictions:
        make_predictions(names, predictions).save(folder.path / LAST_PREDICTIONS)
    return folder


def make_predictions(classes: tuple[str, ...], count: int) -> Predictions:
    """Return predictions for `count` images, of which a tenth are wrong."""
    random = np.random.default_rng(0)
    label = random.integers(0, len(classes), count)
    wrong = random.random(count) < 0.1
    predicted = np.where(wrong, (label + 1 + random.integers(0, len(classes) - 1, count)) % len(classes), label)
    confidence = random.uniform(0.5, 1.0, count)
    columns = {
        "index": np.arange(count),
        "label": label,
        "predicted": predicted,
        "confidence": confidence,
        "loss": -np.log(np.where(wrong, 1 - confidence, confidence)),
        "margin": np.where(wrong, -confidence, confidence),
    }
    top = ((predicted[:, None] + np.arange(min(10, len(classes)))) % len(classes)).astype(np.int32)
    shares = (confidence[:, None] * 0.5 ** np.arange(top.shape[1])).astype(np.float32)
    return Predictions(Origin(classes=classes, data="mnist"), columns, top, shares, Files.of(()))


def _prepared(config: RunConfig, classes: tuple[str, ...], layers: int, steps_per_epoch: int) -> RunPrepared:
    table = tuple(
        LayerGroup(
            name=f"blocks.{index}",
            summary="Conv2d 64, 3x3",
            parameters=36_928,
            trainable=36_928,
            frozen=False,
            layers=(Layer(name=f"blocks.{index}.conv", summary="Conv2d 64, 3x3", parameters=36_928, frozen=False),),
        )
        for index in range(layers)
    )
    data = DataSummary(
        name="mnist",
        requested="mnist",
        location="generated",
        classes=classes,
        train_size=64 * steps_per_epoch,
        test_size=50 * len(classes),
        channels=1,
        height=28,
        width=28,
    )
    return RunPrepared(
        config=config,
        data=data,
        layers=table,
        device="cpu (2 threads)",
        parameters=36_928 * layers,
        steps_per_epoch=steps_per_epoch,
    )


def _point(step: int, steps_per_epoch: int, loss: float, layers: int) -> TrainPoint:
    return TrainPoint(
        epoch=1 + (step - 1) // steps_per_epoch,
        step_in_epoch=1 + (step - 1) % steps_per_epoch,
        steps=1,
        loss=loss,
        accuracy=0.9,
        learning_rate=0.01,
        grad_norm=1.0,
        samples_per_second=25_000.0,
        group_grad_norms=(1.0,) * layers,
    )


def _evaluated(classes: tuple[str, ...], epoch: int, predictions: int) -> Evaluated:
    count = len(classes)
    reports = tuple(
        ClassReport(label=name, support=50, precision=0.9, recall=0.9, f1=0.9, accuracy=0.9) for name in classes
    )
    confusion = np.eye(count, dtype=int) * 45 + np.roll(np.eye(count, dtype=int), 1, axis=1) * 5
    return Evaluated(
        epoch=epoch,
        loss=0.3,
        accuracy=0.9,
        n=50 * count,
        per_class=reports,
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        best=True,
        seconds=1.0,
        predictions=LAST_PREDICTIONS if predictions else "",
    )
