"""A fourth of the bundled digits, in batches of a fourth: as many steps an epoch, each in a third of the time."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetui.engine.data import idx, mnist
from finetui.engine.protocol.config import RunConfig
from finetui.engine.runs.data_places import file_names
from finetui.engine.training.features import cache


@pytest.fixture(scope="module")
def every() -> int:
    """Which of the bundled digits are trained with: every fourth, or what a module's own `every` says."""
    return 4


@pytest.fixture(scope="module")
def digits(every: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    for part in idx.PARTS:
        pair = idx.read_pair(mnist.SAMPLE_FOLDER, part, 10)
        for name, magic, values in zip(file_names(part), (idx.IMAGES, idx.LABELS), pair, strict=True):
            few = values[::every]
            (folder / name).write_bytes(struct.pack(f">{1 + few.ndim}I", magic, *few.shape) + few.tobytes())
    return folder


@pytest.fixture
def make_config(
    make_config: Callable[..., RunConfig], every: int, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., RunConfig]:
    """Return a maker of small runs on these digits: 40 steps an epoch, and four blocks of features."""
    monkeypatch.setattr(mnist, "SAMPLE_FOLDER", digits)
    monkeypatch.setattr(cache, "_MOST_VALUES", 784_000 // every)

    def make(*data: Any, **settings: Any) -> RunConfig:
        return make_config(*data, **({"batch_size": 100 // every} | settings))

    return make
