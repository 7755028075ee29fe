import os
import pickle
import random
from pathlib import Path

import pytest
import torch

from engine import checkpoint
from engine.errors import BadInput
from engine.models import Architecture, build

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


def test_flipped_bits_in_the_weights_are_found(saved: Path) -> None:
    good = saved.read_bytes()
    chooser = random.Random(0)
    weights = build(ABOUT.architecture, 0).state_dict()
    accepted_wrong = 0
    for _ in range(60):
        bad = bytearray(good)
        bit = chooser.randrange(len(bad) * 8)
        bad[bit // 8] ^= 1 << bit % 8
        saved.write_bytes(bad)
        try:
            _, loaded, _ = checkpoint.load(saved)
        except BadInput:
            continue
        accepted_wrong += any(not torch.equal(loaded[name], tensor) for name, tensor in weights.items())
    assert accepted_wrong == 0


class Malicious:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("content", [b"", b"just text", random.Random(1).randbytes(3000)])
def test_what_is_no_checkpoint_is_bad_input_with_its_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.ckpt").write_bytes(content)
    with pytest.raises(BadInput, match=r"x\.ckpt"):
        checkpoint.load(tmp_path / "x.ckpt")


def test_truncation_anywhere_is_bad_input(saved: Path) -> None:
    good = saved.read_bytes()
    for percent in range(0, 100, 7):
        saved.write_bytes(good[: len(good) * percent // 100])
        with pytest.raises(BadInput, match=r"last\.ckpt"):
            checkpoint.load(saved)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Malicious()}, tmp_path / "evil.ckpt")
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Malicious()))
    for name in ("evil.ckpt", "plain.ckpt"):
        with pytest.raises(BadInput):
            checkpoint.load(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_another_torch_file_is_told_apart(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(BadInput, match="not a checkpoint of finetui's"):
        checkpoint.load(tmp_path / "other.pt")
