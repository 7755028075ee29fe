"""What is refused before anything is loaded, and that all that torch writes is not."""

import io
import os
import pickle
import struct
import zipfile
from _codecs import encode
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile_files import Called, FakeStorage, fake_tensor, instructions, pickled, zipped
from torch import nn
from torch._utils import _rebuild_parameter, _rebuild_tensor_v2, _rebuild_tensor_v3

from finetui.engine.checkpoints import checkpoint
from finetui.engine.checkpoints.archive import ArchiveError, MoreThanTensors, OldFormat, audit, find_damage
from finetui.engine.checkpoints.pickle_audit import CHECKPOINT, STATE_DICT, Dtype, SymbolicTensor
from finetui.engine.checkpoints.state_dict import read_state_dict
from finetui.engine.errors import BadInput

DATA = {"0": b"\0\0\x80\x3f" * 6}  # six float32


def archive(*arguments: Any, **options: Any) -> bytes:
    """Return an archive with one tensor over six numbers, made as `fake_tensor` is told."""
    return zipped(pickled({"model": {"x": fake_tensor(FakeStorage(6), *arguments, **options)}}), DATA)


def stored(**options: Any) -> bytes:
    """Return an archive with a tensor of one number in a storage that says this of itself."""
    return zipped(pickled({"model": {"x": fake_tensor(FakeStorage(**options))}}), DATA)


def untyped(*more: Any, dtype: Any = torch.uint16, requires_grad: Any = False) -> bytes:
    """Return an archive with a tensor as torch writes those of dtypes that are newer than its storages."""
    storage = FakeStorage(24, kind=torch.UntypedStorage)
    called = Called(_rebuild_tensor_v3, storage, 0, (2,), (1,), requires_grad, OrderedDict(), dtype, *more)
    return zipped(pickled(called), DATA)


def changed(data: bytes, old: bytes, new: bytes, occurrence: int = 0) -> bytes:
    at = -1
    for _ in range(occurrence + 1):
        at = data.index(old, at + 1)
    return data[:at] + new + data[at + len(old) :]


def listed_as(offset: int, value: bytes) -> bytes:
    """Return the whole archive with one byte changed in the list of parts, in what it says of the first."""
    at = GOOD.index(b"PK\1\2") + offset
    return GOOD[:at] + value + GOOD[at + 1 :]


def overlapping() -> bytes:
    """Return an archive whose last storages are the first one's bytes."""
    content = {str(key): fake_tensor(FakeStorage(6, str(key))) for key in range(3)}
    data = zipped(pickled(content), dict.fromkeys(content, DATA["0"]))
    names = [b"archive/data/0", b"archive/data/2"]
    headers = [data.index(b"PK\3\4" + data[data.index(name) - 26 : data.index(name)]) for name in names]
    listed = data.index(names[1], data.index(b"PK\1\2"))
    return data[: listed - 4] + struct.pack("<I", headers[0]) + data[listed:]


def with_storages(*names: str) -> bytes:
    return zipped(pickled({"x": fake_tensor(FakeStorage(6))}), DATA | dict.fromkeys(names, b"1234"))


def sparse() -> bytes:
    buffer = io.BytesIO()
    torch.save({"x": torch.eye(3).to_sparse()}, buffer)
    return buffer.getvalue()


def many_parts() -> bytes:
    return zipped(pickled({}), {str(index): b"" for index in range(50_001)})


def long_list() -> bytes:
    return zipped(pickled({}), {"x" * 60_000 + str(index): b"" for index in range(150)})


def scripted() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("archive/data.pkl", pickled({}))
        made.writestr("archive/constants.pkl", pickled(()))
    return buffer.getvalue()


GOOD = archive((2, 3), (3, 1))
END = GOOD.rindex(b"PK\5\6")
Cases = dict[str, tuple[Callable[[], bytes], str]]
ARCHIVES: Cases = {
    "compressed": (lambda: zipped(pickled({}), DATA, method=zipfile.ZIP_DEFLATED), "compressed"),
    "compressed to the same length": (lambda: listed_as(10, b"\x08"), "compressed"),
    "compressed without a method": (lambda: listed_as(20, b"\x07"), "compressed"),
    "on another disk": (lambda: listed_as(34, b"\1"), "compressed"),
    "encrypted": (lambda: changed(GOOD, b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1"), "encrypted"),
    "parts over each other": (overlapping, "overlap"),
    "names that differ in case": (lambda: with_storages("a", "A"), "not named as torch names them"),
    "another root": (lambda: changed(GOOD, b"archive/version", b"brchive/version", 1), "not named as torch names them"),
    "no root": (lambda: GOOD.replace(b"archive/version", b"archive-version"), "not named as torch names them"),
    "names out of ASCII": (lambda: with_storages("é"), "not named as torch names them"),
    "names with zeros": (
        lambda: GOOD.replace(b"archive/version", b"archive/vers\0on"),
        "not named as torch names them",
    ),
    "names of its own": (lambda: changed(GOOD, b"archive/data/0", b"archive/data/1", 1), "not where it should be"),
    "a longer name of its own": (
        lambda: changed(GOOD, b"\x0e\0\0\0archive/d", b"\x0f\0\0\0archive/d"),
        "where it should",
    ),
    "parts on other disks": (lambda: GOOD[: END + 8] + b"\3" + GOOD[END + 9 :], "its end is damaged"),
    "no list": (lambda: listed_as(2, b"\3"), "list of entries"),
    "no header": (lambda: changed(GOOD, b"PK\3\4", b"PK\3\5", 2), "not where it should be"),
    "part longer than the file": (
        lambda: GOOD.replace(struct.pack("<II", 24, 24), struct.pack("<II", 900, 900)),
        "longer than the file",
    ),
    "many parts": (many_parts, "far too many entries"),
    "a long list of parts": (long_list, "far too many entries"),
    "no pickle": (lambda: GOOD.replace(b"data.pkl", b"data.pki"), r"no data\.pkl"),
    "TorchScript": (scripted, "TorchScript"),
    "another disk": (lambda: changed(GOOD, b"PK\5\6\0\0", b"PK\5\6\1\0"), "its end is damaged"),
    "list elsewhere": (lambda: GOOD[: END + 16] + struct.pack("<I", 7) + GOOD[END + 20 :], "its end is damaged"),
    "wrong number of parts": (lambda: GOOD[: END + 8] + struct.pack("<HH", 3, 3) + GOOD[END + 12 :], "list of entries"),
    "more parts than listed": (
        lambda: GOOD[: END + 8] + struct.pack("<HH", 5, 5) + GOOD[END + 12 :],
        "list of entries",
    ),
    "something behind it": (lambda: GOOD + b"PK", "its end is damaged"),
    "two ends": (lambda: GOOD[:-2] + b"\x04\0PK\5\6", "truncated"),
    "cut short": (lambda: GOOD[:-30], "truncated"),
}
TENSORS: Cases = {
    "a storage that lies": (lambda: stored(numel=2**30), "not as long as stated"),
    "a storage that lies a little": (lambda: stored(numel=7), "not as long as stated"),
    "a storage too long": (lambda: stored(numel=5), "not as long as stated"),
    "a storage that is not there": (lambda: stored(numel=6, key="1"), "not as long as stated"),
    "a key that is a number": (lambda: stored(numel=6, key=0), "pickle is damaged"),
    "a number that is a truth": (lambda: stored(numel=True), "pickle is damaged"),
    "a storage of two dtypes": (
        lambda: zipped(pickled([FakeStorage(6), FakeStorage(3, kind=torch.DoubleStorage)]), DATA),
        "two dtypes",
    ),
    "an expanded tensor": (lambda: archive((2**20, 2**20), (0, 0)), "larger than its storage"),
    "windows": (lambda: archive((3, 3), (1, 1)), "larger than its storage"),
    "beyond the storage": (lambda: archive((2, 3), (3, 1), 1), "beyond its storage"),
    "strides beyond the storage": (lambda: archive((2,), (6,)), "beyond its storage"),
    "an empty tensor beyond": (lambda: archive((0,), (1,), 7), "beyond its storage"),
    "a negative stride": (lambda: archive((2,), (-1,), 1), "pickle is damaged"),
    "a negative size": (lambda: archive((-1,), (1,)), "pickle is damaged"),
    "a size that is a truth": (lambda: archive((True,), (1,)), "pickle is damaged"),
    "more sizes than strides": (lambda: archive((2, 3), (1,)), "pickle is damaged"),
    "65 dimensions": (lambda: archive((1,) * 65, (1,) * 65), "pickle is damaged"),
    "a number as a storage": (lambda: zipped(pickled(fake_tensor(5))), "pickle is damaged"),
    "a storage as a dtype": (lambda: untyped(dtype=FakeStorage(24, kind=torch.UntypedStorage)), "pickle is damaged"),
}
PICKLES: Cases = {
    "a memo far out": (lambda: zipped(instructions(b"]r\0\0\0\x7f")), "beyond its own length"),
    "objects from one byte each": (lambda: zipped(b"\x80\x02" + b"}" * 3_000_000 + b"."), "far more objects"),
    "a pickle of megabytes": (lambda: zipped(pickled("x" * (10 << 20))), "far too large"),
    "copies of copies": (
        lambda: zipped(pickled([Called(set, *shared) for shared in [(list(range(5000)),)] * 300])),
        "far more objects",
    ),
    "copies of texts": (
        lambda: zipped(pickled([Called(encode, text, "latin1") for text in ["x" * 900_000] * 80])),
        "far more objects",
    ),
    "a copy of a dictionary": (lambda: zipped(pickled(Called(OrderedDict, {"ab": 1}))), "pickle is damaged"),
    "keys of keys of keys": (
        lambda: zipped(b"\x80\x02})" + b"q\0h\0\x86" * 60 + b"Ns."),
        "a key that is neither",
    ),
    "no end": (lambda: zipped(b"\x80\x02}"), "pickle is damaged"),
    "nothing left": (lambda: zipped(b"\x80\x02."), "pickle is damaged"),
    "an odd dictionary": (lambda: zipped(b"\x80\x02}(K\1u."), "pickle is damaged"),
    "items into a tensor": (lambda: zipped(b"\x80\x02)K\1a."), "pickle is damaged"),
    "a pair of one": (lambda: zipped(b"\x80\x02K\1\x86."), "pickle is damaged"),
    "items under names in a list": (lambda: zipped(b"\x80\x02]K\0K\1s."), "pickle is damaged"),
    "a mark too few": (lambda: zipped(b"\x80\x02e."), "pickle is damaged"),
}
CODE: Cases = {
    "a function": (lambda: zipped(pickled(Called(os.mkdir, "executed"))), r"posix\.mkdir"),
    "a huge bytearray": (lambda: zipped(pickled(Called(bytearray, 10**9))), r"__builtin__\.bytearray"),
    "a class": (lambda: zipped(pickled(Called(nn.Linear, 2, 2))), r"torch\.nn\.modules\.linear\.Linear"),
    "a module as a name": (lambda: zipped(b"\x80\x02ctorch._utils _rebuild_tensor_v2\n\n."), "_rebuild_tensor_v2"),
    "a call of a storage": (
        lambda: zipped(b"\x80\x02ctorch\nFloatStorage\nK\x09\x85R."),
        "a call of something that is not a function",
    ),
    "a new object of a number": (lambda: zipped(b"\x80\x02K\1)\x81."), "a call of something that is not a function"),
    "a state for a dictionary": (lambda: zipped(b"\x80\x02}}b."), "an object with a state"),
    "an instruction of protocol 4": (lambda: zipped(pickle.dumps({"x": {1, 2}}, 4)), "instruction"),
    "an instance of old": (lambda: zipped(b"(i__main__\nX\n."), "instruction INST"),
    "something kept outside": (lambda: zipped(b"\x80\x02X\6\0\0\0moduleK\1\x86Q."), "stored outside"),
    "hooks": (lambda: archive(hooks={1: torch.Size}), "tensor hooks"),
    "hooks of a parameter": (
        lambda: zipped(pickled(Called(_rebuild_parameter, fake_tensor(FakeStorage(6)), True, {1: 2})), DATA),
        "tensor hooks",
    ),
    "a tensor with attributes": (lambda: archive(more=({"conj": True},)), "more than numbers"),
    "an untyped tensor with attributes": (lambda: untyped({"conj": True}), "more than numbers"),
    "an untyped tensor with a gradient of sorts": (lambda: untyped(requires_grad=1), "more than numbers"),
    "a tensor with a gradient of sorts": (
        lambda: zipped(pickled(Called(_rebuild_tensor_v2, FakeStorage(6), 0, (1,), (1,), 1, OrderedDict())), DATA),
        "more than numbers",
    ),
    "a sparse tensor": (sparse, "_rebuild_sparse_tensor"),
    "sets of tuples": (lambda: zipped(pickled({(1, 2)})), "a set with more than strings"),
    "an encoded string": (lambda: zipped(pickled(Called(encode, "x", "zlib"))), "an encoded string"),
}


@pytest.mark.parametrize("name", [*ARCHIVES, *TENSORS, *PICKLES, *CODE])
def test_what_is_made_to_harm_is_refused_with_the_reason(name: str) -> None:
    make, reason = (ARCHIVES | TENSORS | PICKLES | CODE)[name]
    with pytest.raises(MoreThanTensors if name in CODE else ArchiveError, match=reason):
        audit(io.BytesIO(make()), STATE_DICT)


@pytest.mark.parametrize(
    "call",
    [
        Called(_rebuild_parameter, 5, True, OrderedDict()),
        Called(_rebuild_parameter, fake_tensor(FakeStorage(6)), 1, OrderedDict()),
        Called(torch.Size, {1: 2}),
        Called(torch.Size, [True]),
        Called(set, {1: 2}),
        Called(encode, 5, "latin1"),
        Called(torch.device, 5),
        Called(torch.device, "cuda", "0"),
    ],
    ids=lambda call: f"{call.reduced[0].__name__}",
)
def test_calls_with_arguments_that_torch_does_not_write_are_refused(call: Called) -> None:
    with pytest.raises(ArchiveError):
        audit(io.BytesIO(zipped(pickled(call), DATA)), STATE_DICT)


def test_the_archive_that_the_harmful_ones_are_made_from_is_whole() -> None:
    float32 = Dtype("Float", 4)
    assert audit(io.BytesIO(GOOD), CHECKPOINT) == {"model": {"x": SymbolicTensor(float32, (2, 3))}}
    assert torch.equal(torch.load(io.BytesIO(GOOD), weights_only=True)["model"]["x"], torch.ones(2, 3))


def test_an_untyped_storage_is_counted_in_bytes() -> None:
    assert audit(io.BytesIO(untyped()), CHECKPOINT) == SymbolicTensor(Dtype("uint16", 2), (2,))


def test_only_the_names_that_are_allowed_are() -> None:
    content = {"size": torch.Size((2, 3)), "parameter": nn.Parameter(torch.ones(2))}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    assert audit(buffer, STATE_DICT)["size"] == (2, 3)
    with pytest.raises(MoreThanTensors, match=r"torch\.Size"):
        audit(buffer, CHECKPOINT)


def test_all_that_networks_are_saved_with_passes() -> None:
    big = torch.arange(24.0)
    content: dict[str, Any] = {
        "network": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).state_dict(),
        "shared": (big, big[4:], big.view(4, 6).t(), big[::2]),
        "none": torch.zeros(0, 3),
        "one": torch.tensor(3.5),
        "plain": [
            None,
            True,
            False,
            -1,
            2**80,
            1.5,
            "ü",
            (1, 2, 3, 4),
            {1: "a", None: 2, (1, "x"): 3},
            {"s", 2},
            b"ab",
        ],
        "kinds": (torch.float16, torch.device("cpu"), torch.device("cuda", 1), torch.Size([])),
        "parameter": nn.Parameter(torch.ones(2), requires_grad=False),
    }
    dtypes = ["float64", "float16", "bfloat16", "int64", "int16", "int8", "uint8", "bool", "complex64"]
    content |= {name: torch.zeros(3, dtype=getattr(torch, name)) for name in dtypes}
    dtypes = ["uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"]
    content |= {name: torch.zeros(3, dtype=torch.uint8).to(getattr(torch, name)) for name in dtypes}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    found = audit(buffer, STATE_DICT)
    assert found["plain"] == content["plain"]
    assert found.pop("kinds")[3] == content.pop("kinds")[3] == ()
    assert _shapes(found) == _shapes(content)


def _shapes(value: Any) -> Any:
    match value:
        case SymbolicTensor() | torch.Tensor():
            return tuple(value.shape)
        case dict():
            return {key: _shapes(item) for key, item in value.items()}
        case list() | tuple():
            return [_shapes(item) for item in value]
    return None


def test_parts_beyond_four_gigabytes_are_found_in_the_wide_records() -> None:
    # zipfile writes them where it is told that a file may become so long.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, data in (("data.pkl", pickled({"x": fake_tensor(FakeStorage(6))})), ("data/0", DATA["0"])):
            with made.open(f"archive/{name}", "w", force_zip64=True) as part:
                part.write(data)
    assert audit(buffer, CHECKPOINT)["x"].shape == (1,)


WIDE_END = struct.Struct("<4sQ2H2I4Q")
LOCATOR = struct.Struct("<4sIQI")


def wide(
    *,
    count: int = 4,
    here: int | None = None,
    disk: int = 0,
    start_off: int = 0,
    record_off: int = 0,
    length: int = 44,
    cut: bool = False,
) -> bytes:
    """Return the whole archive with the records for more than 4 GB at its end, changed as told."""
    start, size = GOOD.index(b"PK\1\2"), END - GOOD.index(b"PK\1\2")
    here = count if here is None else here
    record = WIDE_END.pack(b"PK\6\6", length, 45, 45, disk, disk, here, count, size, start + start_off)
    locator = LOCATOR.pack(b"PK\6\7", 0, END + record_off, 1)
    return GOOD[:END] + (b"" if cut else record) + locator + GOOD[END:]


def test_the_two_ends_of_an_archive_must_agree() -> None:
    assert audit(io.BytesIO(wide()), CHECKPOINT)["model"]["x"].shape == (2, 3)
    wrong = [{"count": 3}, {"here": 3}, {"disk": 1}, {"start_off": 1}, {"record_off": 1}, {"length": 45}, {"cut": True}]
    for bad in (wide(**options) for options in wrong):
        with pytest.raises(ArchiveError, match="its end is damaged"):
            audit(io.BytesIO(bad), CHECKPOINT)


def test_checksums_of_an_archive() -> None:
    assert find_damage(io.BytesIO(GOOD)) is None
    at = GOOD.index(DATA["0"])
    assert find_damage(io.BytesIO(GOOD[:at] + b"\1" + GOOD[at + 1 :])) == "data/0"


def test_a_file_of_torch_before_1_6_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save({"x": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    said = "it is in the format of torch before 1.6; load it with torch and save it again"
    with path.open("rb") as file, pytest.raises(OldFormat, match=said):
        audit(file, STATE_DICT)
    with pytest.raises(BadInput, match=rf"the weights file .*old\.pth cannot be read: {said}"):
        read_state_dict(path)
    with pytest.raises(BadInput, match=rf"the checkpoint .*old\.pth is not a checkpoint.*: {said}; use another"):
        checkpoint.load(path)
    torch.save(torch.load(path), path)
    assert torch.equal(read_state_dict(path)["x"], torch.ones(2))


@pytest.mark.parametrize("content", [b"", b"\x80\x02", pickle.dumps({}, 2), b"\x80\x02" + b"]" * 3_000_000 + b"."])
def test_what_is_no_file_of_torchs_is_refused(content: bytes) -> None:
    with pytest.raises(ArchiveError, match="it is not a torch file"):
        audit(io.BytesIO(content), STATE_DICT)
