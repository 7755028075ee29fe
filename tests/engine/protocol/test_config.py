import math
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from finetui.engine.errors import BadInput
from finetui.engine.protocol.config import (
    DataConfig,
    FinetuneConfig,
    ModelConfig,
    RunConfig,
    RunSection,
    TrainingConfig,
    with_overrides,
)
from finetui.engine.protocol.config_file import load, to_toml


@given(
    epochs=st.integers(1, 1000),
    lr=st.floats(1e-9, 1e3, allow_nan=False),
    momentum=st.floats(0, 0.999),
    runs_dir=st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20),
)
def test_toml_round_trip(tmp_path_factory, epochs: int, lr: float, momentum: float, runs_dir: str) -> None:
    config = RunConfig(
        training=TrainingConfig(epochs=epochs, lr=lr, momentum=momentum),
        run=RunSection(name="a-run", runs_dir=runs_dir),
        finetune=FinetuneConfig(parent="x.ckpt"),
    )
    path = tmp_path_factory.mktemp("toml") / "config.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert load(path) == config


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        (("training", "epochs"), 0, "--epochs"),
        (("training", "batch_size"), 0, "--batch-size"),
        (("training", "lr"), 0.0, "--lr"),
        (("training", "lr"), -1.0, "--lr"),
        (("training", "lr"), math.nan, "--lr"),
        (("training", "lr"), math.inf, "--lr"),
        (("training", "momentum"), 1.0, "--momentum"),
        (("training", "seed"), -1, "--seed"),
        (("training", "device"), "gpu", "--device"),
        (("data", "name"), "mnits", "did you mean 'mnist'"),
        (("model", "name"), "LeNet!", "--model"),
        (("run", "name"), "../up", "--name"),
        (("run", "name"), "a\x1b[2J", "--name"),
    ],
)
def test_bad_values_are_refused_by_name(field: tuple, value: object, says: str) -> None:
    with pytest.raises(BadInput) as caught:
        with_overrides(RunConfig(), {field: value})
    message = str(caught.value)
    assert says in message
    assert "\n" not in message
    assert "\x1b" not in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[training]\nepochs = 'ten'", "training.epochs"),
        ("[training]\nepoch = 3", "epoch"),
        ("[training\n", "not TOML"),
        ("[training]\nlr = -1", "--lr"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match="run.toml") as caught:
        load(path)
    assert says in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nowhere.toml"):
        load(tmp_path / "nowhere.toml")


def test_none_leaves_a_setting_as_it_is() -> None:
    assert with_overrides(RunConfig(), {("training", "lr"): None}) == RunConfig()


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_data_that_no_file_can_be_called_is_refused_in_words(name: str) -> None:
    with pytest.raises(BadInput, match="there is no data set or folder"):
        DataConfig(name=name)


def test_the_input_that_weights_need_is_checked() -> None:
    ModelConfig(mean=(0.5,), std=(0.5,), resize=256, crop=224, interpolation="bicubic")
    for wrong, said in (
        ({"mean": (0.5,)}, "--mean and --std .*must be given together"),
        ({"mean": (0.5,), "std": (0.5, 0.5, 0.5)}, "as many numbers each"),
        ({"mean": (127.0,), "std": (0.5,)}, "of pixels from 0 to 1"),
        ({"mean": (0.5,), "std": (0.0,)}, "above 0"),
        ({"mean": (0.5, 0.5), "std": (0.5, 0.5)}, "1 or 3 numbers"),
        ({"resize": 100, "crop": 224}, "at most --resize"),
        ({"interpolation": "cubic"}, "bicubic"),
    ):
        with pytest.raises(BadInput, match=said):
            ModelConfig(**wrong)
