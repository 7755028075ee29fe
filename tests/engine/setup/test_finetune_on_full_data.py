"""What finetuning is for, on full data: slow."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from finetui.engine.checkpoints import checkpoint
from finetui.engine.protocol import events
from finetui.engine.protocol.config import DataConfig, FinetuneConfig, ModelConfig, RunConfig
from finetui.engine.session.session import Session

SHIPPED = Path(__file__).parents[3] / "checkpoints" / "lenet-mnist" / "last.ckpt"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def with_finetune(config: RunConfig, parent: Path, **changes: object) -> RunConfig:
    return msgspec.structs.replace(config, finetune=FinetuneConfig(parent=str(parent), **changes))


def test_the_tutorials_probe_after_its_ten_epochs(make_config, shared_data: Path) -> None:
    """`checkpoints/lenet-mnist` holds the tutorial's ten epochs; test_parity.py shows that they are its own."""
    config = make_config("mnist", shared_data, epochs=3, batch_size=64, lr=0.001)
    losses: list[float] = []
    probe = with_finetune(config, SHIPPED, recipe="linear-probe")
    outcome = Session(probe, on_step=lambda _step, loss: losses.append(loss.item())).run()
    _, before, training = checkpoint.load(SHIPPED)
    after = checkpoint.load(outcome.folder.last)[1]
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert set(after) - set(before) == {"fc4.weight", "fc4.bias"}
    assert training["best_accuracy"] > 0.98
    assert outcome.report.accuracy > 0.97
    assert losses[0] > 1.5  # the new head knew nothing


def draw_shapes(root: Path, train: int, test: int) -> None:
    """Write colour images of discs, squares and triangles of any colour, place and size."""
    chance = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        for name in ("disc", "square", "triangle"):
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                colour, ground = (tuple(int(v) for v in chance.integers(0, 256, 3)) for _ in range(2))
                image = Image.new("RGB", (32, 32), ground)
                x, y, size = (int(v) for v in chance.integers([2, 2, 14], [10, 10, 20]))
                brush = ImageDraw.Draw(image)
                box = (x, y, x + size, y + size)
                if name == "disc":
                    brush.ellipse(box, fill=colour)
                elif name == "square":
                    brush.rectangle(box, fill=colour)
                else:
                    brush.polygon([(x, y + size), (x + size, y + size), (x + size // 2, y)], fill=colour)
                image.save(folder / f"{index}.png")


def test_resnet_18_on_colour_shapes_with_all_but_the_head_frozen(tmp_path: Path, make_config, recorder) -> None:
    draw_shapes(tmp_path / "shapes", 150, 40)
    data = DataConfig(name=str(tmp_path / "shapes"))
    config = msgspec.structs.replace(make_config(lr=0.05, batch_size=50), data=data, model=ModelConfig(name="resnet18"))
    base = Session(config, sinks=[recorder]).run()
    prepared = recorder.of(events.RunPrepared)[0]
    assert [group.name for group in prepared.layers] == ["conv1", "layer1", "layer2", "layer3", "layer4", "fc"]
    before = checkpoint.load(base.folder.last)[1]

    # A state dict of itself, saved by anyone: the same weights, and the head as well, since the classes are the same.
    torch.save(before, tmp_path / "mine.pt")
    warm = msgspec.structs.replace(config, model=ModelConfig(name="resnet18", weights=str(tmp_path / "mine.pt")))
    session = Session(warm, autostart=False)
    session.run()
    assert all(torch.equal(before[name], tensor) for name, tensor in session.active.trainer.model.state_dict().items())

    tuned = Session(with_finetune(config, base.folder.last, recipe="linear-probe")).run()
    after = checkpoint.load(tuned.folder.last)[1]
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"fc.weight", "fc.bias"}
    assert any(name.endswith("running_mean") for name in before)


@pytest.mark.parametrize("recipe", ["linear-probe", "lp-ft", "gradual", "full", "fastai"])
def test_from_digits_to_clothes(make_config, shared_data: Path, recipe: str) -> None:
    """benchmarks/recipes.py prints the whole table; here each recipe has to learn clothes in two epochs."""
    config = make_config("fashion-mnist", shared_data, epochs=2, batch_size=64, lr=0.01)
    outcome = Session(with_finetune(config, SHIPPED, recipe=recipe)).run()
    assert outcome.report.accuracy > (0.7 if recipe == "linear-probe" else 0.75)
