"""Where features are kept, and what comes back."""

import errno
from pathlib import Path

import pytest
import torch

from finetui.engine.training.features import store as stores
from finetui.engine.training.features.store import FeatureStore, NoRoom, Spec, choose_place, is_full, remove_stale

CPU = torch.device("cpu")


@pytest.mark.parametrize("place", ["memory", "file"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_what_was_added_in_blocks_comes_back_in_any_order(place, dtype, tmp_path: Path) -> None:
    wide = torch.randn(10, 3, 4, 5).to(dtype).contiguous(memory_format=torch.channels_last)
    flat = torch.randn(10, 7).to(dtype)
    kept = FeatureStore([Spec.of(wide), Spec.of(flat)], 10, place, CPU, tmp_path)
    kept.add([wide[:6], flat[:6]], range(6), 6)
    kept.add([wide[[6, 9]], flat[[6, 9]]], [6, 9], 10)
    assert kept.done == 10
    assert kept.missing.nonzero().flatten().tolist() == [7, 8]
    order = torch.tensor([9, 0, 3, 6])
    found = kept.gather(order)
    assert torch.equal(found[0], wide[order])
    assert torch.equal(found[1], flat[order])
    assert found[0].is_contiguous(memory_format=torch.channels_last)
    found[0].zero_()
    assert torch.equal(kept.gather(order)[0], wide[order])
    assert len(list(tmp_path.iterdir())) == (2 if place == "file" else 0)
    kept.close()
    assert not list(tmp_path.iterdir())


def test_memory_comes_first_then_a_file_then_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "free_memory", lambda _device: 4000)
    assert choose_place(1000, 10, 100, CPU, tmp_path) == "memory"
    assert choose_place(1001, 10, 100, CPU, tmp_path) == "file"
    for size, image, folder in ((1001, 100, None), (5000, 100, tmp_path), (100_000, 100, tmp_path)):
        with pytest.raises(NoRoom):
            choose_place(size, 10, image, CPU, folder)
    monkeypatch.setattr(stores, "_MOST_ON_DISK", 1000)
    with pytest.raises(NoRoom, match="32 GB"):
        choose_place(1001, 10, 100, CPU, tmp_path)


def test_what_a_killed_engine_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "features-0.bin").write_bytes(b"old")
    (tmp_path / "last.ckpt").write_bytes(b"kept")
    remove_stale(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_block_of_which_nothing_could_be_read_has_no_tensors() -> None:
    kept = FeatureStore([Spec.of(torch.zeros(1, 3))], 6, "memory", CPU, None)
    kept.add((), [], 2)
    kept.add([torch.ones(4, 3)], range(2, 6), 6)
    assert kept.done == 6
    assert kept.missing.tolist() == [True, True, False, False, False, False]
    assert torch.equal(kept.gather(torch.arange(2, 6))[0], torch.ones(4, 3))


def test_of_a_device_less_is_taken_since_activations_are_to_fit_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "free_memory", lambda _device: 4000)
    cuda = torch.device("cuda")
    assert [choose_place(size, 10, 100, cuda, None) for size in (400, 401, 1000)] == ["device", "memory", "memory"]


def test_only_what_tells_of_too_little_room_is_full() -> None:
    for error in (OSError(errno.ENOSPC, ""), OSError(errno.EDQUOT, ""), OSError(errno.EFBIG, ""), MemoryError()):
        assert is_full(error)
    assert is_full(torch.OutOfMemoryError())
    assert is_full(RuntimeError("can't allocate memory"))
    for error in (OSError(errno.EIO, ""), PermissionError(errno.EACCES, ""), RuntimeError("another"), ValueError()):
        assert not is_full(error)
