import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fork_server import FORKED
from hostile_files import Called, FakeStorage, checkpoint_of, fake_tensor, pickled, sealed, zipped
from torch import nn

from finetui.engine.checkpoints import checkpoint
from finetui.engine.checkpoints.seal import Sealer
from finetui.engine.checkpoints.state_dict import read_state_dict
from finetui.engine.errors import BadInput, FinetuiError
from finetui.engine.models import Architecture, build

ABOUT = checkpoint.About(
    architecture=Architecture(name="lenet", num_classes=10, in_channels=1, height=28, width=28),
    transform=checkpoint.Transform(mean=(0.1307,), std=(0.3081,)),
    classes=tuple("0123456789"),
    data="mnist",
    run="a-run",
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    checkpoint.save(path, ABOUT, build(ABOUT.architecture, 0).state_dict(), {"step": 3})
    return path


def test_round_trip_and_plain_torch(saved: Path) -> None:
    about, weights, training = checkpoint.load(saved)
    assert about == ABOUT
    assert training == {"step": 3}
    plain = torch.load(saved, weights_only=True)["model"]
    assert plain.keys() == weights.keys()
    build(ABOUT.architecture, 1).load_state_dict(plain)


def test_any_state_of_a_training_comes_back_as_it_was(saved: Path) -> None:
    momentum = torch.randn(4, 3, 3, 3).contiguous(memory_format=torch.channels_last)
    training = {
        "step": 2**40,
        "frozen": ["conv1", "ü"],
        "rates": {"user": 0.1, "thawed_at": {"conv1": 5}, "none": None, "on": True, "pair": (1, -2.5)},
        "optimizer": {"conv1.weight": {"momentum_buffer": momentum, "step": torch.tensor(7.0)}},
        "rng": torch.get_rng_state(),
    }
    checkpoint.save(saved, ABOUT, {}, training)
    found = checkpoint.load(saved)[2]
    buffer = found["optimizer"]["conv1.weight"].pop("momentum_buffer")
    assert torch.equal(buffer, training["optimizer"]["conv1.weight"].pop("momentum_buffer"))
    assert buffer.stride() == momentum.stride()
    assert torch.equal(found.pop("rng"), training.pop("rng"))
    assert found == training


def test_the_seal_is_a_sha256_of_all_before_the_archives_comment(saved: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        assert archive.testzip() is None
        seal = archive.comment
    data = saved.read_bytes().removesuffix(seal)
    assert seal == b"finetui sha256 " + hashlib.sha256(data).hexdigest().encode()


def test_only_the_checkpoint_is_left_in_the_folder(saved: Path) -> None:
    checkpoint.save(saved, ABOUT, {}, {})
    assert [path.name for path in saved.parent.iterdir()] == ["last.ckpt"]


def test_a_failed_write_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(saved, ABOUT, {"x": torch.ones(3)}, {})
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["last.ckpt"]


LIMITED = """
import errno, resource, signal, sys
sys.path[1:] = sys.argv[2:]
from pathlib import Path
import torch
from finetui.engine.checkpoints import checkpoint
from hostile_files import ABOUT
import msgspec
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
about = msgspec.convert(ABOUT, checkpoint.About)
path = Path(sys.argv[1])
for limit in range(0, 400_000, 20_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
    try:
        checkpoint.save(path, about, {str(i): torch.ones(10_000) for i in range(11)}, {})
    except OSError as error:
        assert error.errno == errno.EFBIG, error
    else:
        raise SystemExit(f"written with at most {limit} bytes")
"""


def test_whatever_the_disk_has_no_room_for_is_an_oserror_with_its_number(saved: Path) -> None:
    before = saved.read_bytes()
    command = [*FORKED, LIMITED, str(saved), *sys.path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["last.ckpt"]


def test_an_interrupt_while_torch_writes_ends_it_with_the_old_file_in_place(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()
    calls = 0
    put = Sealer._put

    def interrupted_once(sealer: Sealer, data: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        put(sealer, data)

    monkeypatch.setattr(Sealer, "_put", interrupted_once)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(saved, ABOUT, {"x": torch.ones(3)}, {})
    assert (calls, saved.read_bytes()) == (5, before)
    assert [path.name for path in saved.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.complex64])
def test_weights_that_are_not_finite_do_not_overwrite_good_ones(saved: Path, bad: float, dtype: torch.dtype) -> None:
    before = saved.read_bytes()
    weights = {"fine": torch.ones(2), "conv.weight": torch.ones(3, 4, dtype=dtype)}
    weights["conv.weight"][1, 2] = bad
    with pytest.raises(checkpoint.NotFinite, match=r"conv\.weight is not finite"):
        checkpoint.save(saved, ABOUT, weights, {})
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["last.ckpt"]


def test_the_largest_numbers_are_finite(saved: Path) -> None:
    weights = {
        str(dtype): torch.full((9,), torch.finfo(dtype).max, dtype=dtype) for dtype in (torch.float32, torch.half)
    }
    checkpoint.save(saved, ABOUT, weights, {})
    assert checkpoint.digest(checkpoint.load(saved)[1]) == checkpoint.digest(weights)


class Subclass(torch.Tensor):
    pass


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.ones(3).to(torch.float8_e4m3fn), "float8_e4m3fn, which torch does not train"),
        (torch.eye(3).to_sparse(), "not dense"),
        ("an extra state", "is a str"),
        (torch.ones(3).as_subclass(Subclass), "is a Subclass"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(saved: Path, tensor: Any, reason: str) -> None:
    before = saved.read_bytes()
    with pytest.raises(FinetuiError, match=rf"\bx .*{reason}"):
        checkpoint.save(saved, ABOUT, {"x": tensor}, {})
    assert saved.read_bytes() == before


def test_views_are_saved_alone_and_in_order(saved: Path) -> None:
    big = torch.arange(1_000_000.0)
    weights = {"part": big[7:11], "turned": torch.arange(6.0).view(2, 3).t(), "same": torch.ones(1).expand(3)}
    checkpoint.save(saved, ABOUT, weights, {"part": big[1:3], "same": torch.ones(1).expand(1000)})
    assert saved.stat().st_size < 12_000
    _, found, training = checkpoint.load(saved)
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())
    assert training["part"].tolist() == [1, 2]


def test_tied_weights_are_stored_once(saved: Path) -> None:
    tied = torch.randn(50_000)
    checkpoint.save(saved, ABOUT, {"a": tied, "b": tied}, {"c": tied})
    assert saved.stat().st_size < 210_000


class Custom(dict):
    pass


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Custom(), r"training\.a\.b\[1\] is a Custom"),
        (nn.Parameter(torch.ones(1)), r"training\.a\.b\[1\] is a Parameter"),
        (torch.eye(2).to_sparse(), r"training\.a\.b\[1\] is a torch.sparse_coo tensor"),
        (b"bytes", r"training\.a\.b\[1\] is a bytes"),
        ({1, 2}, r"training\.a\.b\[1\] is a set"),
        ({(1, 2): 3}, r"a key of training\.a\.b\[1\] is a tuple"),
        (torch.float32, r"training\.a\.b\[1\] is a dtype"),
    ],
)
def test_no_class_comes_into_the_state_of_a_training(saved: Path, value: Any, named: str) -> None:
    before = saved.read_bytes()
    with pytest.raises(TypeError, match=named):
        checkpoint.save(saved, ABOUT, {}, {"a": {"b": [0, value]}})
    assert saved.read_bytes() == before


def test_what_load_would_refuse_is_not_written(saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(FinetuiError, match=r"last\.ckpt cannot be written: .*far more objects"):
        checkpoint.save(saved, ABOUT, {}, {"losses": [0.5 + i for i in range(600_000)]})
    assert saved.read_bytes() == before


# -- what load refuses ----------------------------------------------------------------------------------------


def unsealed(data: bytes) -> bytes:
    """Return a checkpoint as it was before the archive's comment."""
    return data[: -len("finetui sha256 ") - 64 - 2] + b"\0\0"


def older(path: Path) -> bytes:
    """Return the checkpoint `path` as format 1 was written."""
    content = torch.load(path, weights_only=True) | {"format": 1}
    torch.save(content, path)
    return path.read_bytes()


def poisoned(storage: Any, bits: bytes) -> bytes:
    return checkpoint_of({"x": fake_tensor(FakeStorage(1, kind=storage))}, {"0": bits})


def flipped(data: bytes) -> bytes:
    """Return a checkpoint with a bit changed in the middle of its weights."""
    half = len(data) // 2
    return data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]


REFUSED: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "without its seal": (lambda path: unsealed(path.read_bytes()), "not a finetui checkpoint"),
    "with a changed weight": (lambda path: flipped(path.read_bytes()), "damaged: its checksum is wrong"),
    "older": (older, "older version of finetui, without a checksum"),
    "sealed, then lengthened": (lambda path: path.read_bytes() + b"\0", "is damaged"),
    "another torch file": (
        lambda _: zipped(pickled({"state_dict": {}})),
        "a torch file, but not a finetui checkpoint",
    ),
    "another torch file, sealed": (lambda _: sealed(zipped(pickled({"a": 1}))), "not a finetui checkpoint"),
    "a list, sealed": (lambda _: sealed(zipped(pickled([1]))), "not a finetui checkpoint"),
    "a later format": (lambda _: checkpoint_of({}, format=3), "format 3, which this version does not know"),
    "an about that is none": (lambda _: checkpoint_of({}, about={"x": 1}), "not a finetui checkpoint"),
    "a list of weights": (lambda _: checkpoint_of([]), "its weights have no names"),
    "a list of states": (lambda _: checkpoint_of({}, training=[]), "its weights have no names"),
    "a number as a weight": (lambda _: checkpoint_of({"x": 1}), "its x is not a tensor"),
    "a seal alone": (lambda _: b"finetui sha256 " + hashlib.sha256(b"").hexdigest().encode(), "it is not an archive"),
    "not a number": (lambda _: poisoned(torch.FloatStorage, b"\0\0\xc0\x7f"), "its x is not finite"),
    "infinite": (lambda _: poisoned(torch.HalfStorage, b"\0\x7c"), "its x is not finite"),
    "transposed": (
        lambda _: checkpoint_of({"x": fake_tensor(FakeStorage(4), (2, 2), (1, 2))}, {"0": b"\0" * 16}),
        "its x is not dense and contiguous",
    ),
    "sealed code": (lambda _: sealed(zipped(pickled(Called(os.mkdir, "x")))), r"more than tensors \(posix\.mkdir\)"),
    "expanded": (
        lambda _: checkpoint_of({"x": fake_tensor(FakeStorage(1), (1000,), (0,))}),
        "larger than its storage",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_used_is_said_with_the_file_and_what_to_do(saved: Path, name: str) -> None:
    make, reason = REFUSED[name]
    saved.write_bytes(make(saved))
    with pytest.raises(BadInput, match=rf"last\.ckpt .*{reason}.*use another checkpoint of the run .*finetui resume"):
        checkpoint.load(saved)


def test_weights_of_a_dtype_that_torch_does_not_train_are_refused(saved: Path) -> None:
    content = torch.load(saved, weights_only=True)
    content["model"]["x"] = torch.ones(2).to(torch.float8_e5m2)
    torch.save(content, saved)
    saved.write_bytes(sealed(saved.read_bytes()))
    with pytest.raises(BadInput, match=r"last\.ckpt .*its x is of float8_e5m2, which torch does not train"):
        checkpoint.load(saved)


def test_a_file_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"gone\.ckpt cannot be read: No such file"):
        checkpoint.load(tmp_path / "gone.ckpt")
    os.mkfifo(tmp_path / "pipe.ckpt")
    for path in (tmp_path, tmp_path / "pipe.ckpt", Path("/dev/zero")):
        with pytest.raises(BadInput, match=f"{path} is not a file"):
            checkpoint.load(path)


def test_the_network_of_an_older_checkpoint_can_be_taken_over_as_its_refusal_says(saved: Path) -> None:
    weights = checkpoint.load(saved)[1]
    saved.write_bytes(older(saved))
    with pytest.raises(BadInput, match="load its weights alone with --weights"):
        checkpoint.load(saved)
    assert checkpoint.digest(read_state_dict(saved)) == checkpoint.digest(weights)


# -- the identity of weights ----------------------------------------------------------------------------------


def test_the_digest_is_of_names_dtypes_shapes_and_bytes() -> None:
    weights = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor(1, dtype=torch.int64)}
    same = {"a": weights["a"].clone(), "b": weights["b"].t().contiguous().t()}
    assert checkpoint.digest(weights) == checkpoint.digest(same)
    others = [
        weights | {"b": weights["b"].view(3, 2)},
        weights | {"b": weights["b"].view(torch.int32)},
        weights | {"b": weights["b"] + 1e-6},
        weights | {"a": weights["a"].view(1)},
        weights | {"c": torch.zeros(0)},
        {"c": weights["b"], "a": weights["a"]},
        {"a": weights["b"], "b": weights["a"]},
        {},
    ]
    assert len({checkpoint.digest(found) for found in (weights, *others)}) == len(others) + 1


def test_the_digest_of_every_dtype() -> None:
    dtypes = [torch.bfloat16, torch.float16, torch.float64, torch.bool, torch.int8, torch.complex64, torch.uint16]
    digests = {
        checkpoint.digest({"x": torch.zeros(shape).to(dtype)}) for dtype in dtypes for shape in ((), (2,), (0, 3))
    }
    assert len(digests) == 3 * len(dtypes)
    # The identity of weights is in journals: it must not change from one version to the next.
    head = b'["x","torch.float32",[2]]'
    expected = hashlib.sha256(len(head).to_bytes(8, "little") + head + b"\0\0\x80\x3f" * 2).hexdigest()
    assert checkpoint.digest({"x": nn.Parameter(torch.ones(2))}) == expected
