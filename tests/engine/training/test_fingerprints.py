"""Fingerprints of tensors: every change of a bit is seen, whatever the dtype, the size and the layout in memory."""

import pytest
import torch

from finetui.engine.training.fingerprints import fingerprint, read

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool, torch.cfloat)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 7, 65_536, 65_537, 5_000_000])
def test_one_changed_element_is_seen(dtype: torch.dtype, size: int) -> None:
    tensor = torch.randint(0, 2, (size,)).to(dtype)
    same, before = fingerprint(tensor.clone()), fingerprint(tensor)
    assert same.item() == before.item()
    for place in (0, size // 2, size - 1):
        changed = tensor.clone()
        changed[place] = 0 if tensor[place] else 1
        assert fingerprint(changed).item() != before.item()


def test_changes_that_a_sum_would_not_see() -> None:
    tensor = torch.tensor([0.5, 0.75])
    swapped = torch.tensor([0.75, 0.5])
    up_and_down = torch.nextafter(tensor, torch.tensor([1.0, 0.0]))
    as_bits = [found.view(torch.int32).sum().item() for found in (tensor, swapped, up_and_down)]
    assert len(set(as_bits)) == 1
    assert len({fingerprint(found).item() for found in (tensor, swapped, up_and_down)}) == 3
    assert fingerprint(torch.tensor([0.0])).item() != fingerprint(torch.tensor([-0.0])).item()


def test_any_layout_and_no_random_number_is_drawn() -> None:
    tensor = torch.randn(4, 3, 8, 8)
    state = torch.get_rng_state()
    assert fingerprint(tensor.to(memory_format=torch.channels_last)).item() == fingerprint(tensor).item()
    assert fingerprint(tensor.transpose(0, 3)).item() != fingerprint(tensor).item()
    assert fingerprint(torch.zeros(0)).item() == 0
    assert torch.equal(state, torch.get_rng_state())


def test_numbers_are_read_whole() -> None:
    large = torch.tensor(2**62 + 1)
    assert read([large, torch.tensor(0.5), torch.tensor(True), large]) == [2**62 + 1, 0.5, True, 2**62 + 1]
    assert read([]) == []
