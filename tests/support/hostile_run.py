"""Runs and events that are full of hostile names, or of harmless ones to compare with."""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
from canned import evaluated, point, prepared
from canned_predictions import predictions, saved
from hostile_text import HOSTILE

from finetui.engine.protocol import commands, events
from finetui.engine.protocol.config import BranchConfig, DataConfig, FinetuneConfig, ModelConfig, RunConfig
from finetui.engine.protocol.events import AnyEvent, Layer, LayerGroup, RunPrepared, RunStarted, StateChanged
from finetui.engine.runs.journal import encode_line

HARMLESS = tuple(f"name {number}" for number in range(len(HOSTILE)))


def poisoned(value: Any, kind: Any, text: str) -> Any:
    """Return `value`, of the type `kind`, with `text` in every place that can hold any text."""
    if kind is str:
        return text
    if get_origin(kind) is tuple and isinstance(value, tuple):
        (item, *_) = get_args(kind)
        return (text,) * max(len(value), 1) if item is str else tuple(poisoned(v, item, text) for v in value)
    if isinstance(value, dict) and get_args(kind)[:1] == (str,):
        return dict.fromkeys([text][: len(value)], poisoned(next(iter(value.values()), None), get_args(kind)[1], text))
    if isinstance(value, RunConfig):
        return configured(text)
    if isinstance(value, msgspec.Struct):
        hints = get_type_hints(type(value))
        found = {name: poisoned(getattr(value, name), hints[name], text) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **found)
    if value is None and str in get_args(kind):
        return text
    return value


def configured(text: str) -> RunConfig:
    """Return a configuration with `text` where none is checked: a person's own code may have any path."""
    code = f"{text}/x.py:made"
    return RunConfig(
        data=DataConfig(name=code, dir=text),
        model=ModelConfig(name=code, weights=text or "none"),
        finetune=FinetuneConfig(parent=text, parent_run=text, freeze=(text,)),
        branch=BranchConfig(parent=text, parent_run=text),
    )


def file_names(names: Sequence[str]) -> list[bytes]:
    """Return those of `names` that a file can have, as the file system has them."""
    found = [name.replace("/", "∕").replace("\0", "").encode("utf-8", "surrogatepass") for name in names]
    return [name[:200] for name in found if name.strip(b". ")]


def a_run(folder: Path, names: Sequence[str]) -> list[AnyEvent]:
    """Make a run whose classes, files, layers and lines have `names`, beside others of these names; tell of it."""
    path = folder / "runs" / "a-run"
    files = tuple(f"/data/{os.fsdecode(name)}.png" for name in file_names(names)) * 4
    # No file of ours can hold lone surrogates: neither format allows them.
    writable = tuple(name.encode("utf-8", "replace").decode() for name in names)
    saved(path, predictions(len(files), writable, paths=files))
    (path / "journal.jsonl").write_bytes(b"".join(map(encode_line, _told(path, writable))))
    (path / "engine.log").write_bytes(b"\n".join(name.encode("utf-8", "surrogatepass") for name in names))
    for name, text in zip(file_names(names), writable, strict=False):
        other = path.parent / os.fsdecode(name)
        other.mkdir()
        shutil.copy(path / "last.predictions", other)
        described = poisoned(prepared(parent=text), RunPrepared, text)
        (other / "journal.jsonl").write_bytes(encode_line(described))
    return _told(path, names)


def _told(path: Path, names: Sequence[str]) -> list[AnyEvent]:
    layers = tuple(LayerGroup(name=n, summary=n, parameters=9, frozen=False, layers=(_layer(n),)) for n in names)
    kept = tuple(events.KeptCheckpoint(name=n, file=n, step=50, epoch=1, at=1) for n in names)
    return [
        prepared(classes=tuple(names), layers=layers, notices=tuple(names)),
        StateChanged(state="ready"),
        RunStarted(name="a-run", path=str(path)),
        StateChanged(state="running"),
        point(50),
        msgspec.structs.replace(evaluated(1, 0.9, tuple(names)), predictions="last.predictions"),
        events.CheckpointSaved(file="last.ckpt", kept=kept),
        events.Audience(names=tuple(names)),
        *(events.Log(level="warning", message=name) for name in names),
        *(events.CommandAccepted(command=commands.Pause(by=name)) for name in names),
        StateChanged(state="paused"),
    ]


def _layer(name: str) -> Layer:
    return Layer(name=name, summary=name, parameters=9, frozen=False)


def texts(value: Any) -> Iterator[str]:
    """Yield every text in `value`, made of dicts and sequences."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from (key, *texts(item))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts(item)
