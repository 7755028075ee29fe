"""Predictions of any size, made from a seed."""

import numpy as np

from finetui.engine.predictions.file import Files, Origin, Predictions


def make(n: int = 20, classes: int = 4, *, seed: int = 0, paths: tuple[str, ...] = ()) -> Predictions:
    """Return consistent predictions with random probabilities."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(classes), n)
    labels = random.integers(0, classes, n)
    order = np.argsort(-probabilities, 1, kind="stable")[:, :10]
    top = np.take_along_axis(probabilities, order, 1)
    own = probabilities[np.arange(n), labels]
    second = top[:, 1] if classes > 1 else np.zeros(n)
    columns = {
        "index": np.arange(n),
        "label": labels,
        "predicted": order[:, 0],
        "confidence": top[:, 0],
        "loss": -np.log(own),
        "margin": own - np.where(order[:, 0] == labels, second, top[:, 0]),
    }
    origin = Origin(classes=tuple(f"c{i}" for i in range(classes)), data="d", run="r", step=7)
    return Predictions(origin, columns, order.astype(np.int32), top.astype(np.float32), Files.of(paths))
