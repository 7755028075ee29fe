import pytest
import torch

from finetui.engine.distributed.checksums import checksums, combined, differing


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool, torch.complex64]
)
def test_a_checksum_is_of_all_bits_whatever_the_type(dtype: torch.dtype) -> None:
    tensor = torch.arange(-50, 50).to(dtype)
    other = tensor.clone()
    assert checksums({"a": tensor}) == checksums({"a": other})
    other[70] = 0
    assert checksums({"a": tensor}) != checksums({"a": other})


def test_the_last_bit_of_one_weight_in_a_million_is_noticed() -> None:
    tensor = torch.randn(1_000_000)
    other = tensor.clone()
    other[123_456] = torch.nextafter(other[123_456], torch.tensor(torch.inf))
    found, different = checksums({"w": tensor}), checksums({"w": other})
    assert found != different and combined(found) != combined(different)


def test_it_does_not_depend_on_how_a_tensor_lies_in_memory() -> None:
    tensor = torch.randn(2, 8, 5, 5)
    assert checksums({"w": tensor}) == checksums({"w": tensor.to(memory_format=torch.channels_last)})
    assert checksums({"w": tensor}) == checksums({"w": tensor.transpose(0, 1)})


def test_nan_and_infinity_have_checksums_and_empty_networks_none() -> None:
    assert checksums({"w": torch.tensor([torch.nan, torch.inf])}) == checksums(
        {"w": torch.tensor([torch.nan, torch.inf])}
    )
    assert checksums({"w": torch.tensor(1.0), "empty": torch.empty(0)})[1] == 0
    assert checksums({}) == [] and combined([]) > 0


def test_a_combined_checksum_is_a_whole_number_that_a_float_holds() -> None:
    for sums in ([1, 2], [2, 1], [-(2**63)], list(range(1000))):
        assert 0 < combined(sums) <= 2**48 and float(combined(sums)) == combined(sums)
    assert combined([1, 2]) != combined([2, 1])


def test_the_ranks_that_differ_from_most_are_named_with_the_tensor() -> None:
    assert differing(["a", "b"], [[1, 2], [1, 2], [1, 2]]) == {}
    assert differing(["a", "b"], [[1, 2], [1, 9], [1, 2]]) == {"b": [1]}
    assert differing(["a", "b"], [[7, 2], [1, 2], [1, 8]]) == {"a": [0], "b": [2]}
    assert differing(["a"], [[1], [2]]) == {"a": [1]}
