"""The Hugging Face hub, on this machine: what is downloaded, kept, cut off, forbidden and not there."""

import hashlib
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from finetui.engine.errors import BadInput, Cancelled
from finetui.engine.models import Architecture, apply_transplant, build, plan_transplant
from finetui.engine.protocol.config import DataConfig, ModelConfig, RunConfig
from finetui.engine.setup.hub import Repository
from finetui.engine.setup.start_weights import StartWeights, start_weights

pytestmark = pytest.mark.peers
huggingface_hub: Any = pytest.importorskip("huggingface_hub")
timm: Any = pytest.importorskip("timm")
pytest.importorskip("transformers")

import hub_folders  # noqa: E402

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """A server that answers as the hub does for the repositories in `folder`; `asked` has the paths asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.silent = threading.Event()
        self.over = threading.Event()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        self.asked.append(f"{request.command} {request.path}")
        if self.silent.is_set():
            self.over.wait(20)
            return
        repository, _, rest = request.path.strip("/").partition("/resolve/")
        file = self.folder / repository / rest.partition("/")[2]
        if not file.is_file():
            code = "EntryNotFound" if (self.folder / repository).is_dir() else "RepoNotFound"
            self._head(request, 404, {"X-Error-Code": code, "Content-Length": "0", "X-Repo-Commit": COMMIT})
            return
        content = file.read_bytes()
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        self._head(request, 200, {"ETag": etag, "X-Repo-Commit": COMMIT, "Content-Length": str(len(content))})
        if request.command == "GET":
            request.wfile.write(content)

    @staticmethod
    def _head(request: http.server.BaseHTTPRequestHandler, code: int, fields: dict[str, str]) -> None:
        request.send_response(code)
        for field, value in fields.items():
            request.send_header(field, value)
        request.end_headers()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    found = Hub(tmp_path / "served")
    found.folder.mkdir()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.answer(self)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        yield found
        found.over.set()
        server.shutdown()


def start(
    model: str, weights: str = "default", seen: Callable[..., None] = lambda *_: None, **data: Any
) -> StartWeights:
    config = RunConfig(model=ModelConfig(name=model, weights=weights), data=DataConfig(**data))
    return start_weights(config, seen, lambda: False)


def test_a_network_is_downloaded_once_in_sight_and_then_used_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_folders.save_vit(hub.folder / "org" / "vit")
    seen: list[tuple[str, int, int]] = []
    found = start("hf:org/vit", seen=lambda *what: seen.append(what))
    size = (hub.folder / "org" / "vit" / "model.safetensors").stat().st_size
    assert seen[-1] == ("Downloading model.safetensors", size, size)
    assert found.stated is not None
    assert (found.stated.mean, found.stated.std) == ((0.4,) * 3, (0.2,) * 3)
    assert (found.stated.height, found.stated.resize, found.stated.interpolation) == (32, 0, "bilinear")
    model = build(
        Architecture(name="hf:org/vit", num_classes=7, in_channels=3, height=32, width=32, definition=found.definition),
        0,
    )
    moved = plan_transplant(model, found.weights)
    assert (moved.fresh, moved.dropped) == ((), ())
    apply_transplant(model, found.weights, moved)
    before = list(hub.asked)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    again = start("hf:org/vit")
    assert hub.asked == before, "nobody was asked"
    assert again.weights.keys() == found.weights.keys()
    assert again.definition == found.definition


def test_a_checkpoint_of_timm_on_the_hub_is_built_by_timm(hub: Hub) -> None:
    hub_folders.save_timm(hub.folder / "timm" / "small.mine")
    found = start("hf:timm/small.mine")
    assert found.weights.keys() == timm.create_model("test_resnet").state_dict().keys()
    assert json.loads(found.definition)["config"]["architecture"] == "test_resnet"
    assert found.stated is not None
    assert found.stated.height == 160


def test_timms_own_weights_come_from_the_hub(hub: Hub) -> None:
    repository = timm.get_pretrained_cfg("test_resnet").hf_hub_id
    hub_folders.save_timm(hub.folder / repository, labels=1000)
    found = start("timm:test_resnet")
    assert any(f"/{repository}/resolve/" in path for path in hub.asked)
    assert found.weights["fc.weight"].shape[0] == 1000
    assert found.stated is not None
    assert found.stated.mean == (0.5, 0.5, 0.5) or len(found.stated.mean) == 3


def test_what_is_not_there_is_said_in_a_sentence(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="the Hugging Face hub has no model org/none"):
        start("hf:org/none")
    (hub.folder / "org" / "empty").mkdir(parents=True)
    (hub.folder / "org" / "empty" / "README.md").write_text("nothing")
    with pytest.raises(BadInput, match=r"org/empty has no config\.json"):
        start("hf:org/empty")
    hub_folders.save_vit(hub.folder / "org" / "bare")
    (hub.folder / "org" / "bare" / "model.safetensors").unlink()
    with pytest.raises(BadInput, match=r"org/bare has no model\.safetensors .*--weights"):
        start("hf:org/bare")
    assert start("hf:org/bare", "none").weights == {}
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BadInput, match=r"is not on this machine .*HF_HUB_OFFLINE forbids"):
        start("hf:org/other")


def test_without_a_network_it_is_said_where_it_was_looked_for(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    hurried = SimpleNamespace(**vars(time) | {"sleep": lambda _seconds: None})  # between its tries: 23 seconds in all
    monkeypatch.setattr(huggingface_hub.utils._http, "time", hurried)
    with pytest.raises(
        BadInput, match=r"is not on this machine \(looked in .*cache\), and http://127.*: ?hf:\./FOLDER"
    ):
        start("hf:org/vit")


def test_a_silent_hub_is_given_up_and_a_person_can_stop_waiting(hub: Hub) -> None:
    hub.silent.set()
    with pytest.raises(BadInput, match="no answer for 0 seconds"):
        Repository("hf:org/vit", "org/vit", lambda *_: None, lambda: False, patience=0.3).file("config.json")
    with pytest.raises(Cancelled):
        Repository("hf:org/vit", "org/vit", lambda *_: None, lambda: True).file("config.json")


def test_a_folder_needs_no_hub_and_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no folder"):
        start(f"hf:{tmp_path}/none")
    folder = hub_folders.save_resnet(tmp_path / "resnet")
    found = start(f"hf:{folder}")
    assert found.stated is not None
    assert (found.stated.height, found.stated.resize, found.stated.interpolation) == (32, 36, "bicubic")
    (folder / "config.json").write_text('{"model_type": "of-somebody", "auto_map": {"AutoConfig": "code.Config"}}')
    ready = start(f"hf:{folder}", "none")
    with pytest.raises(BadInput, match="cannot build an image classifier from this configuration"):
        build(
            Architecture(
                name=f"hf:{folder}", num_classes=3, in_channels=3, height=32, width=32, definition=ready.definition
            ),
            0,
        )


def test_a_file_of_weights_says_its_input_or_the_network_does(tmp_path: Path) -> None:
    import torch

    torch.save(timm.create_model("test_resnet", num_classes=3).state_dict(), tmp_path / "weights.pt")
    found = start("timm:test_resnet", str(tmp_path / "weights.pt"))
    assert found.source == "the configuration of timm:test_resnet"
    assert found.stated is not None
    assert found.stated.height == 160
    # Without weights the size is free, and a person may choose it.
    assert start("timm:test_resnet", "none", image_size=32).stated.height == 0
