"""Published weights, from a cache or a server on this machine."""

import contextlib
import functools
import hashlib
import http.server
import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
from torch import nn
from torchvision import models

from finetui.engine.errors import BadInput, Cancelled
from finetui.engine.models import Architecture, apply_transplant, build, plan_transplant
from finetui.engine.setup.pretrained import pretrained

QUIET = {"progress": lambda *_: None, "cancelled": lambda: False}
Publish = Callable[[str], Path]


class Server(http.server.SimpleHTTPRequestHandler):
    def copyfile(self, *files: object) -> None:
        with contextlib.suppress(ConnectionError):  # the client has cancelled
            super().copyfile(*files)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A file of weights, named as torchvision names its own."""
    folder = tmp_path / "server"
    folder.mkdir()
    torch.manual_seed(0)
    torch.save(models.squeezenet1_1().state_dict(), folder / "new.pth")
    digest = hashlib.sha256((folder / "new.pth").read_bytes()).hexdigest()
    return (folder / "new.pth").rename(folder / f"squeezenet-{digest[:8]}.pth")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def url(published: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve the file, and have torchvision point to it."""
    handler = functools.partial(Server, directory=str(published.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/{published.name}"
        point_to(address, monkeypatch)
        yield address
        server.shutdown()


def point_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def weights(name: str) -> SimpleNamespace:
        real = real_weights(name).DEFAULT
        return SimpleNamespace(DEFAULT=SimpleNamespace(url=address, transforms=real.transforms, meta=real.meta))

    real_weights = torchvision.models.get_model_weights
    monkeypatch.setattr(torchvision.models, "get_model_weights", weights)


def test_weights_are_downloaded_once_and_fit(url: str, cache: Path, published: Path) -> None:
    seen = []
    found = pretrained("squeezenet1_1", progress=lambda *what: seen.append(what), cancelled=lambda: False)
    size = published.stat().st_size
    assert seen[-1] == (f"Downloading {published.name}", size, size)
    assert [path.name for path in cache.iterdir()] == [published.name]
    assert (found.height, found.width, found.resize) == (224, 224, 256)
    assert found.mean == (0.485, 0.456, 0.406)
    assert (len(found.classes), found.classes[0]) == (1000, "tench")
    model = build(Architecture(name="squeezenet1_1", num_classes=1000, in_channels=3, height=224, width=224), 0)
    moved = plan_transplant(model, found.weights)
    apply_transplant(model, found.weights, moved)
    assert not moved.fresh
    seen.clear()
    pretrained("squeezenet1_1", progress=lambda *what: seen.append(what), cancelled=lambda: False)
    assert not seen


def test_files_that_were_published_before_torch_wrote_archives_are_read(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many of torchvision's are: VGG's, DenseNet's and GoogLeNet's among them."""
    content = io.BytesIO()
    torch.save({"x": nn.Parameter(torch.ones(2))}, content, _use_new_zipfile_serialization=False)
    name = f"squeezenet-{hashlib.sha256(content.getvalue()).hexdigest()[:8]}.pth"
    cache.mkdir(parents=True)
    (cache / name).write_bytes(content.getvalue())
    point_to(f"http://127.0.0.1:9/{name}", monkeypatch)
    assert torch.equal(pretrained("squeezenet1_1", **QUIET).weights["x"], torch.ones(2))
    (cache / "squeezenet.pth").write_bytes(content.getvalue())
    point_to("http://127.0.0.1:9/squeezenet.pth", monkeypatch)
    with pytest.raises(BadInput, match=r"before 1\.6"):  # nothing tells that it is torchvision's
        pretrained("squeezenet1_1", **QUIET)


def test_a_damaged_file_in_the_cache_is_fetched_again(url: str, cache: Path, published: Path) -> None:
    cache.mkdir(parents=True)
    (cache / published.name).write_bytes(b"half of it")
    pretrained("squeezenet1_1", **QUIET)
    assert (cache / published.name).read_bytes() == published.read_bytes()


def test_another_file_than_expected_is_refused(url: str, cache: Path, published: Path) -> None:
    published.write_bytes(b"something else")
    with pytest.raises(BadInput, match="served an unexpected file"):
        pretrained("squeezenet1_1", **QUIET)
    assert not list(cache.iterdir())


def test_a_download_can_be_cancelled(url: str, cache: Path) -> None:
    with pytest.raises(Cancelled):
        pretrained("squeezenet1_1", progress=lambda *_: None, cancelled=lambda: True)
    assert not list(cache.iterdir())


def test_offline_the_message_says_what_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_to("http://127.0.0.1:9/squeezenet-00000000.pth", monkeypatch)
    with pytest.raises(BadInput) as problem:
        pretrained("squeezenet1_1", **QUIET)
    said = str(problem.value)
    assert "the weights of squeezenet1_1 are not on this machine" in said
    assert str(cache) in said
    assert said.endswith("name a file with --weights or use --weights none")


@pytest.mark.parametrize("name", ["lenet", "torch.nn:Linear"])
def test_what_has_no_published_weights_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match=f"no published weights for {name}"):
        pretrained(name, **QUIET)


def test_inception_is_given_what_its_own_input_transform_would_make(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetui.engine.setup.pretrained.torch_hub_file", lambda *_: Path("here"))
    monkeypatch.setattr("finetui.engine.setup.pretrained.read_state_dict", lambda *_, **__: {})
    found = pretrained("googlenet", **QUIET)
    theirs = models.googlenet(weights=None, transform_input=True, init_weights=False, aux_logits=False)
    pixels = torch.rand(1, 3, 4, 4)
    preset = models.GoogLeNet_Weights.DEFAULT.transforms()
    mean, std = torch.tensor(preset.mean).view(3, 1, 1), torch.tensor(preset.std).view(3, 1, 1)
    expected = theirs._transform_input((pixels - mean) / std)
    ours = (pixels - torch.tensor(found.mean).view(3, 1, 1)) / torch.tensor(found.std).view(3, 1, 1)
    assert torch.allclose(ours, expected, atol=1e-6)
