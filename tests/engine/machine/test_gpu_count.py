"""What --gpus means on this machine."""

import sys
from collections.abc import Callable

import pytest
from fake_nvml import FakeNvml

from finetui.engine.errors import BadInput
from finetui.engine.machine.gpu_count import chosen_gpus


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda count: monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(count))


def test_all_are_those_that_a_process_may_use(gpus: Callable[[int], None]) -> None:
    gpus(4)
    assert chosen_gpus("all", {}) == 4
    assert chosen_gpus("3", {}) == 3
    assert chosen_gpus("all", {"CUDA_VISIBLE_DEVICES": "1,3"}) == 2


@pytest.mark.parametrize(("wanted", "said"), [("5", "only 4"), ("0", "a number of GPUs, or all"), ("two", "or all")])
def test_what_cannot_be_is_said(gpus: Callable[[int], None], wanted: str, said: str) -> None:
    gpus(4)
    with pytest.raises(BadInput, match=said):
        chosen_gpus(wanted, {})


def test_without_any_it_says_what_to_do(gpus: Callable[[int], None]) -> None:
    gpus(0)
    with pytest.raises(BadInput, match="--nproc N"):
        chosen_gpus("all", {})
    gpus(2)
    with pytest.raises(BadInput, match="CUDA_VISIBLE_DEVICES leaves none"):
        chosen_gpus("1", {"CUDA_VISIBLE_DEVICES": ""})
