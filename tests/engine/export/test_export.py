"""pt2 and safetensors files: the same as the checkpoint, whole or refused, and a certificate that tells the truth."""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_runs import NETWORKS, train, warmed, write_photos

import finetui
from finetui.engine.errors import BadInput
from finetui.engine.export import export as exporting, seal
from finetui.engine.export.certificate import json_path, predictions_path, text_path
from finetui.engine.export.description import Description
from finetui.engine.export.export import export_checkpoint
from finetui.engine.export.opened import kind_of, open_export
from finetui.engine.export.pt2_audit import audit
from finetui.engine.export.runner import Runner
from finetui.engine.predictions.comparison import compare
from finetui.engine.predictions.file import load_predictions
from finetui.engine.predictions.selection import changed
from finetui.engine.runs.folder import RunFolder

KINDS = ("pt2", "safetensors")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return train(tmp_path_factory.mktemp("runs"), "small")


@pytest.fixture(scope="module")
def files(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The run's network in each form, with a temperature."""
    folder = tmp_path_factory.mktemp("files")
    warm = warmed(run.best, run.checkpoint("warm"))
    found = {kind: folder / f"net.{kind}" for kind in KINDS}
    for kind, path in found.items():
        export_checkpoint(warm, kind, path)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_certificate_says_what_evaluate_says(run: RunFolder, tmp_path: Path, kind: Any) -> None:
    output = tmp_path / f"net.{kind}"
    found = export_checkpoint(run.best, kind, output, command=("finetui", "export", "small"))
    scored = finetui.evaluate_checkpoint(run.best, device="cpu")
    assert found.checkpoint_accuracy == found.exported_accuracy == scored.scores.accuracy
    assert (found.n, found.part, found.clean) == (1000, "test", True)
    assert found.largest_probability_difference == found.largest_logit_difference == 0
    assert "differences    none: all probabilities and logits are the same\n" in found.text()
    assert found.sha256 == hashlib.sha256(output.read_bytes()).hexdigest()
    assert found.checkpoint_sha256 == hashlib.sha256(run.best.read_bytes()).hexdigest()
    written = json.loads(json_path(output).read_bytes())
    assert written["command"] == "finetui export small"
    assert written["description"]["classes"] == list("0123456789")
    text = text_path(output).read_text()
    assert text == found.text()
    assert "the same class as the checkpoint on all 1,000 test images" in text
    assert "not calibrated" in text and "1,000)" in text and torch.__version__ in text
    kept = load_predictions(predictions_path(output))
    assert np.array_equal(kept.predicted, scored.report.columns["predicted"])
    assert np.array_equal(kept.loss, scored.report.columns["loss"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_any_number_of_images_at_once(files: dict[str, Path], run: RunFolder, kind: str, batch: int) -> None:
    runner = open_export(files[kind])
    pixels = np.random.default_rng(0).integers(0, 256, (batch, 1, 28, 28)).astype(np.uint8)
    logits, probabilities = runner(pixels)
    assert logits.shape == probabilities.shape == (batch, 10)
    alone = runner(pixels[:1])[0]
    np.testing.assert_allclose(logits[:1], alone, atol=1e-5)
    wanted = torch.from_numpy(logits).div(1.7).softmax(1).numpy()
    np.testing.assert_allclose(probabilities, wanted, atol=1e-6)
    assert "calibrated: " in runner.description.probability_words()


def test_one_seal_over_all_bytes() -> None:
    whole = seal.sealed(b"before " + seal.BLANK.encode() + b" after")
    assert seal.is_whole(whole)
    for place in range(len(whole)):
        assert not seal.is_whole(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(BadInput, match="cannot be sealed"):
        seal.sealed(2 * seal.BLANK.encode())


FIELDS = {
    "class": (b'"classes":["0","1"', b'"classes":["1","0"'),
    "mean": (b'"mean":[0.1', b'"mean":[0.2'),
    "deviation": (b'"std":[0.3', b'"std":[0.4'),
    "height": (b'"height":28', b'"height":32'),
    "filter": (b'"bilinear"', b'"bicubic" '),
    "temperature": (b'"temperature":1.7', b'"temperature":1.6'),
    "format": (b"finetui export 1", b"finetui export 2"),
    "in graph": (b'"in_graph":', b'"in_grapH":'),
    "network": (b'"name":"lenet"', b'"name":"leneT"'),
    "weights' digest": (b'"weights":"', b'"weightz":"'),
}


def escaped(data: bytes) -> bytes:
    return data.replace(b'"', rb"\"")


def tampered(data: bytes, before: bytes, after: bytes) -> bytes:
    """Change the description; within JSON its quotes are escaped."""
    for old, new in ((before, after), (escaped(before), escaped(after))):
        if old in data:
            assert len(old) == len(new)
            return data.replace(old, new, 1)
    raise AssertionError(f"{before!r} is not there")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", FIELDS)
def test_what_was_changed_is_refused(files: dict[str, Path], tmp_path: Path, kind: str, field: str) -> None:
    changed_file = tmp_path / f"net.{kind}"
    changed_file.write_bytes(tampered(files[kind].read_bytes(), *FIELDS[field]))
    with pytest.raises(BadInput, match="has changed since it was exported"):
        open_export(changed_file)


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_weight_is_refused(files: dict[str, Path], tmp_path: Path, kind: str) -> None:
    data = bytearray(files[kind].read_bytes())
    data[len(data) // 2] ^= 1  # among the weights, which are nearly all of the file
    changed_file = tmp_path / f"net.{kind}"
    changed_file.write_bytes(data)
    with pytest.raises(BadInput, match="has changed since it was exported"):
        next(finetui.classify(changed_file, [tmp_path / "x.png"]))


def test_another_file_than_the_certificate_is_about_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    for path in (files["pt2"], json_path(files["pt2"])):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    certificate = json_path(tmp_path / "net.pt2")
    open_export(tmp_path / "net.pt2")
    certificate.write_bytes(certificate.read_bytes().replace(b'"sha256": "', b'"sha256": "0', 1))
    with pytest.raises(BadInput, match="not the file that .* beside it describes"):
        open_export(tmp_path / "net.pt2")


def test_bare_weights_are_no_export(run: RunFolder, files: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"w": torch.ones(2)}, tmp_path / "bare.safetensors")
    assert kind_of(tmp_path / "bare.safetensors") is None
    assert kind_of(run.best) is None
    assert [kind_of(path) for path in files.values()] == list(KINDS)


def rewritten(path: Path, change: dict[str, bytes], to: Path) -> io.BytesIO:
    """Return the pt2 file `path` with other contents, as somebody would make it."""
    target = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change.get(name.removeprefix("archive/"), old.read(name)))
        for name in change.keys() - {name.removeprefix("archive/") for name in old.namelist()}:
            new.writestr(f"archive/{name}", change[name])
    return target


@pytest.mark.parametrize(
    ("part", "before", "after", "words"),
    [
        ("models/model.json", b"torch.ops.aten.relu.default", b"torch.load", "its graph calls 'torch.load'"),
        ("models/model.json", b"torch.ops.aten.relu.default", b"_operator.attrgetter.x", "its graph calls"),
        ("models/model.json", b"Symbol('s", b"__import__('os').system('s", "it has the expression"),
        ("data/weights/model_weights_config.json", b'"use_pickle": false', b'"use_pickle": true', "are pickled"),
        ("data/sample_inputs/model.pt", b"", b"pickle", "pickled inputs"),
        ("data/constants/opaque_obj_0", b"", b"pickle", "it holds archive/data/constants/opaque_obj_0"),
    ],
)
def test_a_pt2_file_runs_nothing_but_torchs_operations(
    files: dict[str, Path], tmp_path: Path, part: str, before: bytes, after: bytes, words: str
) -> None:
    with zipfile.ZipFile(files["pt2"]) as archive:
        content = archive.read(f"archive/{part}") if f"archive/{part}" in archive.namelist() else b""
    assert before in content
    change = content.replace(before, after, 1) if before else after
    with pytest.raises(BadInput, match=f"could run code: .*{words}"):
        audit(rewritten(files["pt2"], {part: change}, tmp_path))
    assert audit(rewritten(files["pt2"], {}, tmp_path))


def test_nothing_of_this_machine_is_in_a_file(files: dict[str, Path]) -> None:
    for path in files.values():
        data = path.read_bytes()
        assert str(Path(finetui.__file__).parent).encode() not in data
        assert b"site-packages" not in data


@pytest.fixture
def worse(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have an exported network take every tenth image for the next class."""

    def opened(path: Path, *, model: str = "lenet") -> Runner:
        found = open_export(path, model=model)

        def run(pixels: Any) -> Any:
            logits, probabilities = (values.copy() for values in found.run(pixels))
            logits[::10], probabilities[::10] = np.roll(logits[::10], 1, 1), np.roll(probabilities[::10], 1, 1)
            return logits, probabilities

        return Runner(found.description, run)

    monkeypatch.setattr(exporting, "open_export", opened)
    yield


@pytest.mark.usefixtures("worse")
def test_every_image_that_differs_is_listed_and_can_be_compared(run: RunFolder, tmp_path: Path) -> None:
    found = export_checkpoint(run.best, "safetensors", tmp_path / "net.safetensors")
    assert not found.clean
    assert sorted(one.index for one in found.differing) == list(range(0, 1000, 10))
    assert all(one.checkpoint != one.exported for one in found.differing)
    assert "ANOTHER CLASS than the checkpoint on 100 of 1,000 test images" in found.text()
    assert "and 80 more, in net.safetensors.certificate.json" in found.text()
    assert len(json.loads(json_path(tmp_path / "net.safetensors").read_bytes())["differing"]) == 100
    before, after = (
        load_predictions(run.best_predictions),
        load_predictions(predictions_path(tmp_path / "net.safetensors")),
    )
    other = changed(before, compare(before, after), "other-class")
    assert sorted(before.index[other].tolist()) == list(range(0, 1000, 10))


OWN = """
import torch
from torch import nn

class Own(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(4 * 13 * 13, num_classes)

    def forward(self, x):
        return {"logits": self.head(self.body(x))}

class ByData(Own):
    def forward(self, x):
        found = super().forward(x)["logits"]
        return found if float(found.sum()) > 0 else found * 2

class OneByOne(Own):
    def forward(self, x):
        return torch.cat([super(OneByOne, self).forward(image[None])["logits"] for image in x])
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "nets.py"
    path.write_text(OWN)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_persons_own_network(own: Path, tmp_path: Path, kind: Any) -> None:
    name = f"{own}:Own"
    run = train(tmp_path / "runs", "own", model=name)
    output = tmp_path / f"own.{kind}"
    assert export_checkpoint(run.best, kind, output, model=name).clean
    if kind == "pt2":  # its code is no longer needed
        own.unlink()
        assert open_export(output)(np.zeros((3, 1, 28, 28), np.uint8))[0].shape == (3, 10)
        return
    with pytest.raises(BadInput, match="if you trust it, pass it"):
        open_export(output)
    assert open_export(output, model=name)(np.zeros((3, 1, 28, 28), np.uint8))[0].shape == (3, 10)


FLOATS = """
import numpy as np, torch

class Items(list):
    classes = ["down", "up"]

def floats():
    random = np.random.default_rng(0)
    return tuple(
        Items((torch.tensor(random.normal(size=(1, 28, 28))).float(), n % 2) for n in range(60)) for _ in range(2)
    )
"""


@pytest.mark.parametrize("kind", KINDS)
def test_data_of_floats_is_taken_as_it_is(tmp_path: Path, kind: Any) -> None:
    (tmp_path / "items.py").write_text(FLOATS)
    data = f"{tmp_path / 'items.py'}:floats"
    run = train(tmp_path / "runs", "floats", data)
    found = export_checkpoint(run.best, kind, tmp_path / f"net.{kind}", data=data)
    assert found.clean and found.largest_logit_difference == 0 and found.description.is_float
    assert found.exported_accuracy == finetui.evaluate_checkpoint(run.best, data=data, device="cpu").scores.accuracy
    assert "floats 1x28x28, as the data gives them" in found.steps and "of float32" in found.text()
    logits, _ = open_export(tmp_path / f"net.{kind}")(np.zeros((2, 1, 28, 28), np.float32))
    assert logits.shape == (2, 2)


def test_a_network_that_cannot_be_exported_says_so_in_a_sentence(own: Path, tmp_path: Path) -> None:
    run = train(tmp_path / "runs", "own", model=f"{own}:ByData")
    with pytest.raises(BadInput) as raised:
        export_checkpoint(run.best, "pt2", tmp_path / "own.pt2", model=f"{own}:ByData")
    said = str(raised.value)
    assert said.startswith("torch.export cannot trace the network") and "--to safetensors" in said
    assert "\n" not in said
    assert not (tmp_path / "own.pt2").exists()
    scripted = f"{NETWORKS}:scripted"
    run = train(tmp_path / "runs", "script", model=scripted)
    with pytest.raises(BadInput, match="is TorchScript, which torch.export cannot trace"):
        export_checkpoint(run.best, "pt2", tmp_path / "script.pt2", model=scripted)


def test_a_network_for_one_image_at_a_time_is_run_so(own: Path, tmp_path: Path) -> None:
    name = f"{own}:OneByOne"
    run = train(tmp_path / "runs", "one", model=name)
    found = export_checkpoint(run.best, "pt2", tmp_path / "one.pt2", model=name)
    assert found.clean and not found.description.dynamic_batch
    assert "1 image at once" in found.text()
    assert open_export(tmp_path / "one.pt2")(np.zeros((3, 1, 28, 28), np.uint8))[0].shape == (3, 10)


@pytest.fixture(scope="module")
def of_photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunFolder]:
    """Photographs, and a run that was trained on them."""
    folder = tmp_path_factory.mktemp("photographs")
    photos = write_photos(folder / "photos")
    return photos, train(folder / "runs", "photos", str(photos), "resnet18", batch_size=8, image_size=32)


@pytest.mark.parametrize("kind", KINDS)
def test_photographs_that_are_not_square(of_photos: tuple[Path, RunFolder], tmp_path: Path, kind: Any) -> None:
    photos, run = of_photos
    found = export_checkpoint(run.best, kind, tmp_path / f"net.{kind}", part="val")
    assert found.clean and found.part == "val" and found.n == 24
    files = sorted((photos / "val").rglob("*.jpg"))
    want = list(finetui.classify(run.best, files, top=3, device="cpu"))
    got = list(finetui.classify(tmp_path / f"net.{kind}", files, top=3))
    assert [one.top[0][0] for one in got] == [one.top[0][0] for one in want]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(got, want, strict=True))
    for one, other in zip(got, want, strict=True):
        assert dict(one.top) == pytest.approx(dict(other.top), abs=1e-5)


def test_where_it_cannot_be_written(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(b"")
    for output, words in (("net.onnx", "ends in .pt2"), ("net.pt2", "--force"), ("none/net.pt2", "no folder")):
        with pytest.raises(BadInput, match=words):
            export_checkpoint(run.best, "pt2", tmp_path / output)
    assert export_checkpoint(run.best, "pt2", tmp_path / "net.pt2", overwrite=True).clean
    assert export_checkpoint(run.best, "pt2", tmp_path / "net.pt2", overwrite=True).clean  # beside a certificate


def test_a_file_of_unknown_description_is_refused(files: dict[str, Path]) -> None:
    description = open_export(files["pt2"]).description
    assert isinstance(description, Description)
    with pytest.raises(ValueError, match="not name as many classes"):
        Description(
            **{name: getattr(description, name) for name in description.__struct_fields__} | {"classes": ("a",)}
        )
