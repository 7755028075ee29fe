"""Whole runs on a GPU: the same bits again, in pieces, streamed, between devices, out of memory."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from steered import assert_resumed_and_replayed_to_the_same_bits, at

from finetui.engine.checkpoints import checkpoint
from finetui.engine.data import load, streaming
from finetui.engine.data.reader_threads import ReaderThreads
from finetui.engine.errors import BadInput
from finetui.engine.protocol.commands import SetFrozen, SetLearningRate, Stop
from finetui.engine.protocol.config import DataConfig, FinetuneConfig, ModelConfig, RunConfig, TrainingConfig
from finetui.engine.protocol.config_file import load as load_config, to_toml
from finetui.engine.protocol.events import Evaluated, Log, StateChanged
from finetui.engine.runs.folder import RunFolder
from finetui.engine.session.session import Session

pytestmark = pytest.mark.gpu
ROOT = Path(__file__).parents[2]


def on(config: RunConfig, *, data: dict | None = None, model: dict | None = None) -> RunConfig:
    """Return `config` with other settings of its data and its network."""
    changed = msgspec.structs.replace(config.data, **(data or {}))
    return msgspec.structs.replace(config, data=changed, model=msgspec.structs.replace(config.model, **(model or {})))


def run(config: RunConfig, *lines: tuple, **options: object) -> RunFolder:
    folder = Session(config, script=at(*lines), **options).run().folder
    assert folder is not None
    return folder


def digest(folder: RunFolder) -> str:
    return checkpoint.digest(checkpoint.load(folder.last)[1])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 120 coloured images of 40x48 pixels."""
    chance = np.random.default_rng(0)
    for part, count in (("train", 24), ("test", 6)):
        for index, name in enumerate(("a", "b", "c", "d")):
            path = tmp_path / "photos" / part / name
            path.mkdir(parents=True)
            for number in range(count):
                pixels = chance.integers(0, 120, (40, 48, 3)) + 30 * index
                Image.fromarray(pixels.astype(np.uint8)).save(path / f"{number:02}.png")
    return tmp_path / "photos"


STEERED = (9, SetFrozen(groups=("conv1",), frozen=True)), (14, SetLearningRate(value=0.02)), (
    24, SetFrozen(groups=("conv1",), frozen=False),
)  # fmt: skip


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_is_the_same_bits_again_resumed_and_replayed(gpu: str, precision: str, make_config: Callable) -> None:
    settings = {"device": gpu, "batch_size": 90, "precision": precision, "fast": "auto", "optimizer": "adamw"}

    def config(name: str) -> RunConfig:
        return on(make_config(name=name, **settings), data={"augment": "standard"})

    whole, again = run(config("whole"), *STEERED), run(config("again"), *STEERED)
    assert digest(whole) == digest(again)
    cut = run(config("cut"), *STEERED, (31, Stop()))
    assert_resumed_and_replayed_to_the_same_bits(whole, cut)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("name", "side"), [("resnet18", 64), ("mobilenet_v3_small", 64), ("vit_b_16", 224)])
def test_torchvisions_networks_are_the_same_bits_again(
    cuda: torch.device, name: str, side: int, make_config: Callable, photos: Path
) -> None:
    settings = {"device": "cuda", "batch_size": 20, "precision": "bf16", "fast": "auto", "lr": 1e-3}
    data = {"name": str(photos), "image_size": side, "augment": "light"}
    runs = [run(on(make_config(name=which, **settings), data=data, model={"name": name})) for which in ("one", "two")]
    assert digest(runs[0]) == digest(runs[1])


@pytest.mark.timeout(240)
def test_a_compiled_run_is_resumed_and_replayed_to_the_same_bits(cuda: torch.device, make_config: Callable) -> None:
    settings = {"device": "cuda", "batch_size": 100, "compile": "default"}
    try:
        whole = run(make_config(name="whole", **settings))
    except BadInput as error:
        pytest.skip(str(error))
    cut = run(make_config(name="cut", **settings), (17, Stop()))
    assert_resumed_and_replayed_to_the_same_bits(whole, cut)


def test_pinned_copies_give_the_bits_of_resident_images(
    gpu: str, make_config: Callable, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = torch.device(gpu)
    pinned: list[bool] = []

    def threads(*arguments: object, **options: bool) -> ReaderThreads:
        pinned.append(options["pinned"])
        return ReaderThreads(*arguments, **options)

    monkeypatch.setattr(streaming, "ReaderThreads", threads)
    held, read = (load(DataConfig(name=str(photos), loader=loader, workers=2), device) for loader in
                  ("resident", "stream"))  # fmt: skip
    try:
        order = torch.randperm(96, generator=torch.Generator().manual_seed(1))
        for (images, labels), (expected, wanted) in zip(
            read.train.batches(order, 7), held.train.batches(order, 7), strict=True
        ):
            assert images.device.type == device.type
            assert torch.equal(images, expected) and torch.equal(labels, wanted)
        assert pinned == [device.type == "cuda"]
    finally:
        read.close()
    names = {}
    for loader in ("resident", "stream"):
        config = make_config(name=loader, device=gpu, batch_size=16, fast="auto")
        names[loader] = digest(run(on(config, data={"name": str(photos), "loader": loader, "workers": 2})))
    assert names["resident"] == names["stream"]


@pytest.mark.parametrize("there_and_back", [("gpu", "cpu"), ("cpu", "gpu")])
def test_a_run_goes_on_on_another_device(
    gpu: str, there_and_back: tuple[str, str], make_config: Callable, recorder
) -> None:
    first, second = (gpu if place == "gpu" else "cpu" for place in there_and_back)
    settings = {"optimizer": "adamw", "epochs": 2, "fast": "auto"}
    folder = run(make_config(name="run", device=first, **settings), (17, Stop()))
    assert {tensor.device.type for tensor in checkpoint.load(folder.last)[1].values()} == {"cpu"}
    text = folder.config.read_text()
    folder.config.write_text(text.replace(f'device = "{first}"', f'device = "{second}"'))
    session = Session(load_config(folder.config), resume=folder, sinks=[recorder])
    assert session.run().state == "finished"
    assert session.active.trainer.device.type == torch.device(second).type
    assert session.active.trainer.step == 80
    assert recorder.of(Evaluated)[-1].accuracy > 0.5
    if first != second:
        assert any("the last digits may differ" in event.message for event in recorder.of(Log))


def test_memory_that_runs_out_loses_nothing_that_was_saved(cuda: torch.device, make_config: Callable, recorder) -> None:
    folder = run(make_config(name="run", device="cuda", batch_size=50, fast="off"), (20, Stop()))
    saved = folder.last.read_bytes()
    config = load_config(folder.config)
    larger = msgspec.structs.replace(config, training=msgspec.structs.replace(config.training, batch_size=3000))
    torch.cuda.empty_cache()
    room = torch.cuda.memory_reserved() + 40 * 2**20  # 3000 images need 41 MB for what the first layer returns alone
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.mem_get_info()[1])
    try:
        with pytest.raises(torch.OutOfMemoryError):
            Session(larger, resume=folder, sinks=[recorder]).run()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    last = recorder.of(StateChanged)[-1]
    assert last.state == "failed"
    assert last.reason.startswith("out of memory (") and "use a smaller --batch-size" in last.reason
    assert "\n" not in last.reason and "the checkpoint of step 20 is intact" in last.reason
    folder.config.write_text(to_toml(config))
    assert folder.last.read_bytes() == saved
    assert Session(load_config(folder.config), resume=folder).run().state == "finished"


FAILS = """
import sys
import torch
from torch import nn
from finetui.engine.protocol.config import DataConfig, RunConfig, RunSection, TrainingConfig
from finetui.engine.session.session import Session

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.calls = nn.Linear(784, 10), 0
    def forward(self, images):
        self.calls += self.training
        logits = self.fc(images.flatten(1))
        if self.calls > 20:  # an index that is not there: the GPU's assertion, which ends its context
            logits = logits[:, torch.full((10,), 10**6, device=logits.device)]
        return logits

def tell(event):
    if type(event).__name__ == "StateChanged":
        print(event.state, event.reason, flush=True)

training = TrainingConfig(device="cuda", epochs=1, batch_size=50, fast="off")
where = RunSection(name="x", runs_dir=sys.argv[1])
config = RunConfig(data=DataConfig(name="mnist-sample"), training=training, run=where)
Session(config, model=Net(), sinks=[tell]).run()
"""


def test_a_gpu_that_fails_is_told_in_one_sentence(cuda: torch.device, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAILS, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    said = done.stdout.strip().splitlines()[-1]
    assert done.returncode
    assert said.startswith("failed the GPU failed (CUDA error: device-side assert triggered)"), (said, done.stderr)
    assert "the checkpoint of step 0 is intact: finetui resume" in said
    checkpoint.load(RunFolder(tmp_path / "x").last)


def test_a_gpu_that_is_not_there_is_said(make_config: Callable) -> None:
    with pytest.raises(
        BadInput, match=rf"cuda:97 is not available, torch sees {torch.cuda.device_count()} CUDA devices"
    ):
        Session(make_config(device="cuda:97")).run()


@pytest.mark.skipif("features" not in TrainingConfig.__struct_fields__, reason="frozen features are not kept yet")
def test_what_is_frozen_is_computed_once_to_the_same_losses(gpu: str, make_config: Callable, recorder) -> None:
    parent = run(make_config(name="parent", device=gpu))
    plan = FinetuneConfig(parent=str(parent.last), recipe="linear-probe")
    losses = {}
    for features in ("off", "cache"):
        config = make_config(name=features, device=gpu, epochs=3, features=features, fast="off")
        found: list[torch.Tensor] = []
        Session(msgspec.structs.replace(config, finetune=plan, model=ModelConfig(name="lenet")),
                on_step=lambda _step, loss, found=found: found.append(loss), sinks=[recorder]).run()  # fmt: skip
        losses[features] = torch.stack(found).tolist()
    assert losses["cache"] == pytest.approx(losses["off"], abs=1e-4)
    scores = recorder.of(Evaluated)
    assert scores[2].accuracy == pytest.approx(scores[5].accuracy, abs=0.002)
