"""ONNX files, written by torch's exporter and run by ONNX Runtime."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_runs import NETWORKS, train, warmed, write_photos

import finetui
from finetui.engine.data import InputTransform
from finetui.engine.errors import BadInput
from finetui.engine.export import onnx_file
from finetui.engine.export.certificate import json_path
from finetui.engine.export.export import export_checkpoint
from finetui.engine.export.opened import open_export
from finetui.engine.inspection.opened_checkpoint import load_network
from finetui.engine.models.outputs import logits as forward
from finetui.engine.runs.folder import RunFolder

onnx: Any = pytest.importorskip("onnx")
ort: Any = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LeNet on the bundled digits, with a temperature, as an ONNX file without its certificate."""
    folder = tmp_path_factory.mktemp("lenet")
    run = train(folder, "small")
    found = export_checkpoint(warmed(run.best, run.checkpoint("warm")), "onnx", folder / "net.onnx")
    assert found.clean and found.n == 1000
    assert found.largest_probability_difference < 1e-5
    assert {"onnx", "onnxscript", "onnxruntime"} <= found.versions.keys()
    assert f"onnx, opset {onnx_file.OPSET}" in found.text() and "calibrated: " in found.text()
    json_path(folder / "net.onnx").unlink()
    return folder / "net.onnx"


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """ResNet-18 from photographs of three classes, with a new head for those of two."""
    folder = tmp_path_factory.mktemp("probe")
    photos, others = write_photos(folder / "photos"), write_photos(folder / "others", ("ant", "bee"))
    first = train(folder / "runs", "first", str(photos), "resnet18", batch_size=8, image_size=32)
    return train(folder / "runs", "probe", str(others), "resnet18", first.best, batch_size=8, image_size=32)


def test_the_graph_alone_classifies_pixels(lenet: Path) -> None:
    """As somebody does who has nothing but ONNX Runtime and Pillow."""
    session = ort.InferenceSession(str(lenet))
    (pixels,) = session.get_inputs()
    assert (pixels.name, pixels.type, pixels.shape) == ("pixels", "tensor(uint8)", ["batch", 1, 28, 28])
    assert [(out.name, out.shape) for out in session.get_outputs()] == [
        ("logits", ["batch", 10]),
        ("probabilities", ["batch", 10]),
    ]
    about, network = load_network(lenet.parent / "small" / "warm.ckpt", device="cpu")
    random = np.random.default_rng(0)
    for batch in (1, 7, 64):
        images = random.integers(0, 256, (batch, 1, 28, 28)).astype(np.uint8)
        logits, probabilities = session.run(None, {"pixels": images})
        values = torch.from_numpy(images).float().div_(255)
        with torch.inference_mode():
            want = forward(network, (values - about.transform.mean[0]) / about.transform.std[0])
        np.testing.assert_allclose(logits, want.numpy(), atol=2e-5)
        np.testing.assert_allclose(probabilities, want.div(1.7).softmax(1).numpy(), atol=1e-5)


def test_the_normalisation_in_the_graph_is_exact(lenet: Path) -> None:
    """Of all 256 values, what reaches the first convolution is what InputTransform gives, to the last bit."""
    model = onnx.load(str(lenet))
    before = next(node for node in model.graph.node if node.op_type == "Conv").input[0]
    model.graph.output.append(onnx.helper.make_tensor_value_info(before, onnx.TensorProto.FLOAT, None))
    session = ort.InferenceSession(model.SerializeToString())
    images = np.resize(np.arange(256, dtype=np.uint8), (1, 1, 28, 28))
    about = finetui.read_about(lenet.parent / "small" / "warm.ckpt")
    want = InputTransform(about.transform, torch.device("cpu"))(torch.from_numpy(images), None)
    assert np.array_equal(session.run([before], {"pixels": images})[0], want.numpy())


def edit(path: Path, to: Path, change: Callable[[Any], None]) -> Path:
    """Change an ONNX file as a tool does, with onnx itself."""
    model = onnx.load(str(path))
    change(model)
    onnx.save(model, str(to))
    return to


def replace_about(before: str, after: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        (prop,) = model.metadata_props
        assert before in prop.value
        prop.value = prop.value.replace(before, after, 1)

    return change


def change_weight(model: Any) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.raw_data)
    tensor.raw_data = bytes([tensor.raw_data[0] ^ 1]) + tensor.raw_data[1:]


def drop_softmax(model: Any) -> None:
    next(node for node in model.graph.node if node.op_type == "Softmax").op_type = "LogSoftmax"


@pytest.mark.parametrize(
    "change",
    [
        replace_about('"0","1"', '"1","0"'),
        replace_about('"mean":[0.1', '"mean":[0.2'),
        replace_about('"std":[0.3', '"std":[0.4'),
        replace_about('"height":28', '"height":29'),
        replace_about('"temperature":1.7', '"temperature":1.0'),
        change_weight,
        drop_softmax,
    ],
    ids=["classes", "mean", "std", "size", "temperature", "weight", "operation"],
)
def test_what_was_changed_is_refused(lenet: Path, tmp_path: Path, change: Callable[[Any], None]) -> None:
    with pytest.raises(BadInput, match="has changed since it was exported"):
        open_export(edit(lenet, tmp_path / "net.onnx", change))


def test_a_file_that_says_nothing_is_refused(lenet: Path, tmp_path: Path) -> None:
    bare = edit(lenet, tmp_path / "net.onnx", lambda model: model.ClearField("metadata_props"))
    with pytest.raises(BadInput, match="it was not written by finetui export"):
        open_export(bare)


def test_the_same_network_is_the_same_file_and_tells_nothing_of_this_machine(lenet: Path, tmp_path: Path) -> None:
    export_checkpoint(lenet.parent / "small" / "warm.ckpt", "onnx", tmp_path / "net.onnx")
    data = lenet.read_bytes()
    assert (tmp_path / "net.onnx").read_bytes() == data
    assert str(lenet.parent).encode() not in data and b"site-packages" not in data and b".py" not in data


def test_photographs_that_are_not_square_and_a_new_head(probe: RunFolder, tmp_path: Path) -> None:
    found = export_checkpoint(probe.best, "onnx", tmp_path / "net.onnx", part="val")
    assert found.clean and found.description.classes == ("ant", "bee")
    assert found.exported_accuracy == finetui.evaluate_checkpoint(probe.best, device="cpu", part="val").scores.accuracy
    files = sorted((probe.path.parents[1] / "others" / "val").rglob("*.jpg"))
    want = [dict(one.top) for one in finetui.classify(probe.best, files, device="cpu")]
    for one, other in zip(finetui.classify(tmp_path / "net.onnx", files), want, strict=True):
        assert dict(one.top) == pytest.approx(other, abs=1e-4)


def test_a_network_that_needs_larger_images_resizes_them_in_the_graph(tmp_path: Path) -> None:
    name = f"{NETWORKS.parent / 'large.py'}:Large"
    run = train(tmp_path / "runs", "large", model=name)
    found = export_checkpoint(run.best, "onnx", tmp_path / "net.onnx", model=name)
    assert found.clean and found.largest_logit_difference < 1e-4
    assert "resized to 32x32, bilinear (in the file's graph)" in found.steps


def test_what_onnx_lacks_is_said_in_a_sentence(tmp_path: Path) -> None:
    name = f"{NETWORKS.parent / 'large.py'}:NoOnnx"
    run = train(tmp_path / "runs", "odd", model=name)
    with pytest.raises(BadInput) as raised:
        export_checkpoint(run.best, "onnx", tmp_path / "net.onnx", model=name)
    assert str(raised.value).startswith("the network cannot be written as ONNX: ")
    assert str(raised.value).endswith("; export to pt2") and "\n" not in str(raised.value)
    assert not list(tmp_path.glob("net.onnx*"))
    assert export_checkpoint(run.best, "pt2", tmp_path / "net.pt2", model=name).clean


def test_without_the_libraries_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, lenet: Path) -> None:
    monkeypatch.setattr(onnx_file, "find_spec", lambda _name: None)
    with pytest.raises(BadInput, match=r"need onnxruntime: pip install 'finetui\[onnx\]'"):
        open_export(lenet)
