"""Torch files as nobody's torch writes them: made by hand, to harm."""

import hashlib
import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch

ABOUT = {
    "architecture": {"name": "lenet", "num_classes": 10, "in_channels": 1, "height": 28, "width": 28},
    "transform": {"mean": (0.1307,), "std": (0.3081,)},
    "classes": tuple("0123456789"),
    "data": "mnist",
    "run": "a-run",
}


class FakeStorage:
    """Pickled as torch pickles a storage: by a key, whatever is under it."""

    def __init__(self, numel: Any = 1, key: Any = "0", kind: Any = torch.FloatStorage, view: Any = ()) -> None:
        self.id = ("storage", kind, key, "cpu", numel, *view)


class Called:
    """Pickled as a call of `function`, which is found by its name."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


def fake_tensor(
    storage: FakeStorage,
    size: tuple[Any, ...] = (1,),
    stride: tuple[Any, ...] = (1,),
    offset: Any = 0,
    *,
    hooks: Any = None,
    more: tuple[Any, ...] = (),
) -> Called:
    hooks = OrderedDict() if hooks is None else hooks
    return Called(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, hooks, *more)


class _Pickler(pickle._Pickler):  # type: ignore[name-defined]  # the one in C cannot be told to leave names alone
    def persistent_id(self, thing: Any) -> Any:
        return thing.id if isinstance(thing, FakeStorage) else None


def pickled(content: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, 2).dump(content)
    return buffer.getvalue()


def instructions(body: bytes) -> bytes:
    """Return a pickle of a dictionary under whose name `model` is what `body` makes."""
    return b"\x80\x02}X\x05\x00\x00\x00model" + body + b"s."


def zipped(
    content: bytes,
    storages: Mapping[str, bytes] | None = None,
    *,
    method: int = zipfile.ZIP_STORED,
    root: str = "archive",
) -> bytes:
    """Return an archive as torch writes it, with the pickle `content`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(f"{root}/data.pkl", content)
        archive.writestr(f"{root}/byteorder", b"little")
        for key, data in (storages or {}).items():
            archive.writestr(f"{root}/data/{key}", data)
        archive.writestr(f"{root}/version", b"3\n")
    return buffer.getvalue()


def sealed(archive: bytes) -> bytes:
    """Return `archive` with a right seal: nothing keeps a malicious person from computing one."""
    seal_length = len("finetui sha256 ") + 64
    body = archive[:-2] + struct.pack("<H", seal_length)
    return body + b"finetui sha256 " + hashlib.sha256(body).hexdigest().encode()


def checkpoint_of(model: Any, storages: Mapping[str, bytes] | None = None, **more: Any) -> bytes:
    """Return a sealed checkpoint whose `model` is anything."""
    content = {"format": 2, "about": ABOUT, "model": model, "training": {}} | more
    return sealed(zipped(pickled(content), {"0": b"\0" * 4} if storages is None else storages))


def legacy(content: Any, storages: Mapping[str, bytes], *, itemsize: int = 4) -> bytes:
    """Return a file as torch before 1.6 wrote it."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    parts = [pickle.dumps(part, 2) for part in head]
    parts += [content if isinstance(content, bytes) else pickled(content), pickle.dumps(list(storages), 2)]
    for data in storages.values():
        parts += [struct.pack("<q", len(data) // itemsize), data]
    return b"".join(parts)
