"""Networks as people write them, through every door; or one sentence that says why not."""

import gzip
import os
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import odd_networks
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from finetui.engine.data.mnist import SAMPLE_FOLDER
from finetui.engine.errors import BadInput
from finetui.engine.inspection.explain import explain
from finetui.engine.inspection.opened_checkpoint import evaluate_checkpoint, load_network
from finetui.engine.models import Architecture, build, find_head, module_groups
from finetui.engine.models.outputs import logits, outputs
from finetui.engine.models.summary import summarise
from finetui.engine.protocol.commands import SetFrozen
from finetui.engine.protocol.config import FinetuneConfig, RunConfig
from finetui.engine.protocol.events import LayersChanged, RunPrepared
from finetui.engine.session.session import Session

OWN = Path(odd_networks.__file__)
SHARED = Path(os.environ.get("FINETUI_TEST_DATA", Path(__file__).parents[4] / "shared" / "data")).parent
CASES = SHARED / "cases" / "models" / "nets.py"
REFUSED = {
    "OneLogit": "returns 1 output for an image where the data has 3 classes",
    "TenCosine": "returns 10 outputs for an image where the data has 3 classes, and its head cannot be replaced",
    "Empty": "has no parameters, so there is nothing to train",
    "NoWeights": "has no parameters, so there is nothing to train",
    "Double": "its weights are float64, and images are float32",
    "FrozenAltogether": "nothing would train: the network's own code freezes",
    "Unsavable": "extra state cannot be saved: _extra_state is a set",
    "Features": "returns dict with features",
}
NOT_FACTORIES = {"body", "Result", "CosineHead"}
MINUTES = {"Compiled"}  # by torch.compile, for every kind of batch anew


def factories(file: Path) -> list[str]:
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    names = re.findall(r"^(?:class|def) (\w+)", text, re.MULTILINE)
    return [f"{file}:{name}" for name in names if name not in NOT_FACTORIES | MINUTES]


def name_of(factory: str) -> str:
    return factory.rpartition(":")[2]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Folders of real digits, by their number of classes."""
    root = tmp_path_factory.mktemp("digits")
    images = np.frombuffer(gzip.decompress((SAMPLE_FOLDER / "t10k-images-idx3-ubyte.gz").read_bytes())[16:], np.uint8)
    labels = np.frombuffer(gzip.decompress((SAMPLE_FOLDER / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:], np.uint8)
    for classes in (3, 4):
        for digit in range(classes):
            for index, image in enumerate(images.reshape(-1, 28, 28)[labels == digit][:12]):
                path = root / str(classes) / ("train" if index < 8 else "test") / f"c{digit}" / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path)
    return {classes: root / str(classes) for classes in (3, 4)}


@pytest.fixture
def configured(make_config: Callable[..., RunConfig], folders: dict[int, Path]) -> Callable[..., RunConfig]:
    def configure(factory: str, classes: int = 3, finetune: FinetuneConfig | None = None, **training) -> RunConfig:
        config = make_config(data=str(folders[classes]), **({"batch_size": 8, "fast": "off"} | training))
        model = msgspec.structs.replace(config.model, name=factory)
        return msgspec.structs.replace(config, model=model, finetune=finetune)

    return configure


@pytest.mark.parametrize("factory", [*factories(OWN), *factories(CASES)], ids=name_of)
def test_a_network_as_a_person_writes_it_goes_through_every_door(factory, configured, recorder) -> None:
    config = configured(factory)
    if (why := REFUSED.get(name_of(factory))) is not None:
        with pytest.raises(BadInput, match=why):
            Session(config).run()
        return
    outcome = Session(config, sinks=[recorder]).run()
    folder = outcome.folder
    report = evaluate_checkpoint(folder.last, model=factory, device="cpu").report
    assert report.columns["predicted"].tolist() == outcome.report.columns["predicted"].tolist()
    assert np.array_equal(report.columns["loss"], outcome.report.columns["loss"])

    longer = msgspec.structs.replace(config, training=msgspec.structs.replace(config.training, epochs=2))
    first = recorder.of(RunPrepared)[0].layers[0].name
    changes = {3: SetFrozen(groups=(first,), frozen=True), 4: SetFrozen(groups=(first,), frozen=False)}
    resumed = Session(longer, resume=folder, script=lambda step: changes.pop(step, None), sinks=[recorder]).run()
    assert resumed.state == "finished"
    frozen = [event.layers[0].frozen for event in recorder.of(LayersChanged)]
    assert frozen == ([False] if "Frozen" in factory else [True, False])

    plan = FinetuneConfig(parent=str(folder.last), parent_run=folder.name, recipe="linear-probe")
    assert Session(configured(factory, 4, plan)).run().state == "finished"

    _, network = load_network(folder.last, model=factory, device="cpu")
    image = torch.randn(1, 1, 28, 28)
    assert explain(network, image, method="occlusion", target=0).values.shape == (28, 28)
    if not isinstance(network, torch.jit.ScriptModule) and name_of(factory) != "Squeezing":
        assert summarise(network, (1, 28, 28), torch.device("cpu")).modules[0].parameters > 0


@pytest.mark.parametrize("fast", ["on", "auto"])
@pytest.mark.parametrize(
    "name", ["Coloured", "Lazy", "Auxiliary", "Dictionary", "scripted", "Cosine", "Stateful", "Viewing", "Halved"]
)
def test_fast_paths_take_any_network(name: str, fast: str, configured) -> None:
    assert Session(configured(f"{OWN}:{name}", fast=fast)).run().state == "finished"


def built(name: str, classes: int = 3, channels: int = 1) -> tuple[nn.Module, list[str]]:
    notes: list[str] = []
    shape = {"in_channels": channels, "height": 28, "width": 28}
    return build(Architecture(name=f"{OWN}:{name}", num_classes=classes, **shape), 0, notes.append), notes


def test_a_network_that_takes_the_images_keeps_its_stem() -> None:
    network, notes = built("Coloured")
    assert network.body[0].in_channels == 3
    assert notes == []


def test_the_stem_is_found_by_running() -> None:
    for name, channels, change in (("for_rgb", 1, "summed over"), ("Shortcut", 3, "shared among")):
        network, notes = built(name, channels=channels)
        assert (network.stem.in_channels, network.shortcut.in_channels) == (channels, 4)
        assert network(torch.zeros(2, channels, 28, 28)).shape == (2, 3)
        assert [change in note for note in notes] == [True]


@pytest.mark.parametrize(
    ("name", "head"), [("Cosine", "head"), ("Prototypes", "prototypes"), ("scripted", "3"), ("traced", "2")]
)
def test_a_head_that_is_no_linear_layer_is_named(name: str, head: str) -> None:
    for classes in (3, 4):  # as many as the first convolution has filters
        network, notes = built(name, classes)
        assert find_head(network, torch.zeros(2, 1, 28, 28)) == head
        last = module_groups(network, [head])[-1]
        assert (last.name, last.head, notes) == (head, True, [])


def test_a_network_that_ignores_the_number_of_classes_gets_a_new_head_and_it_is_said() -> None:
    network, notes = built("Ten")
    assert network.fc.out_features == 3
    assert notes == ["Ten has 10 outputs whatever num_classes is: its head fc was replaced by a new one for 3 classes"]


def test_auxiliary_heads_count_in_the_loss(configured) -> None:
    losses: list[float] = []
    config = configured(f"{OWN}:Auxiliary")
    session = Session(config, on_step=lambda _step, loss: losses.append(float(loss)))
    session.run()
    trainer = session.active.trainer
    images, labels = next(trainer.batches(0, 0))
    network, notes = built("Auxiliary")
    assert "the first output plus 0.4 x theirs" in notes[0]
    main, auxiliary = network.train()(images)
    expected = F.cross_entropy(main, labels) + 0.4 * F.cross_entropy(auxiliary, labels)
    assert losses[0] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(("name", "count", "weight"), [("googlenet", 2, 0.3), ("inception_v3", 1, 0.4)])
def test_the_auxiliary_heads_of_torchvision(name: str, count: int, weight: float) -> None:
    import torchvision

    network = torchvision.models.get_model(name, num_classes=3, aux_logits=True, init_weights=False)
    with torch.no_grad():
        found = outputs(network.train(), torch.randn(2, 3, 299, 299))
        assert outputs(network.eval(), torch.randn(2, 3, 299, 299)).auxiliary == ()
    assert (found.logits.shape, len(found.auxiliary), found.auxiliary_weight()) == ((2, 3), count, weight)


def test_a_single_image_is_told_like_one_of_two() -> None:
    network, _ = built("Squeezing")
    images = torch.randn(2, 1, 28, 28)
    both = logits(network.eval(), images)
    assert torch.allclose(logits(network, images[:1]), both[:1], atol=1e-6)


def test_extra_state_comes_back_from_a_checkpoint(configured) -> None:
    factory = f"{OWN}:Stateful"
    session = Session(configured(factory))
    folder = session.run().folder
    _, network = load_network(folder.last, model=factory, device="cpu")
    assert network.calls == session.active.trainer.step == 3
