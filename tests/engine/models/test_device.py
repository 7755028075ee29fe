"""Devices: which there are, by which rule they compute, and what is put back afterwards."""

import os
from contextlib import contextmanager

import pytest
import torch
from torch.utils import deterministic

from finetui.engine.errors import BadInput
from finetui.engine.models import device as devices


@pytest.fixture
def cublas() -> list[str | None]:
    """How cuBLAS is configured at each first product."""
    return []


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch, cublas: list[str | None]) -> list[int]:
    """A machine with two CUDA devices, of which nothing is computed on; return which became the current one."""
    current: list[int] = []

    @contextmanager
    def become(index: int):
        current.append(index)
        yield
        current.append(-2)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device", become)
    monkeypatch.setattr(devices, "_first_product", lambda: cublas.append(os.environ.get("CUBLAS_WORKSPACE_CONFIG")))
    return current


def settings() -> tuple[object, ...]:
    cudnn = torch.backends.cudnn
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        deterministic.fill_uninitialized_memory,
        (cudnn.deterministic, cudnn.benchmark),
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        os.environ.get("TORCHINDUCTOR_DETERMINISTIC"),
    )


@pytest.mark.parametrize(("name", "index"), [("cuda", -1), ("cuda:1", 1), ("auto", -1)])
def test_a_run_on_cuda_computes_by_rule_and_leaves_no_trace(
    name: str, index: int, two_gpus: list[int], cublas: list[str | None]
) -> None:
    before = settings()
    with pytest.raises(ZeroDivisionError), devices.reproducible(name):
        assert settings() == (True, True, False, (True, False), None, "1")
        assert (two_gpus, cublas) == ([index], [":4096:8"])
        raise ZeroDivisionError
    assert settings() == before


@pytest.mark.parametrize("name", ["cpu", "mps", "cuda:2"])  # the last is not there, which `resolve` says
def test_other_devices_are_left_as_torch_has_them(name: str, two_gpus: list[int]) -> None:
    before = settings()
    with devices.reproducible(name):
        assert settings() == (*before[:3], (True, False), *before[4:])
    assert settings() == before
    assert not two_gpus


def test_without_cuda_auto_is_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with devices.reproducible("auto"):
        assert not torch.are_deterministic_algorithms_enabled()


def test_what_a_person_has_set_holds(
    two_gpus: list[int], cublas: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with devices.reproducible("cuda"):
        assert [os.environ["CUBLAS_WORKSPACE_CONFIG"]] == cublas == [":16:8"]
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_a_gpu_that_is_not_there_is_said(two_gpus: list[int]) -> None:
    assert devices.resolve("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(
        BadInput, match=r"--device\): cuda:2 is not available, torch sees 2 CUDA devices; use --device auto"
    ):
        devices.resolve("cuda:2")


@pytest.fixture
def generators(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """The states of the global generators of a CUDA device and of MPS, as torch would keep them."""
    states = {"cuda": torch.arange(4, dtype=torch.uint8), "mps": torch.arange(5, dtype=torch.uint8)}
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: states["cuda"])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: states.update(cuda=state))
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: states["mps"])
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda state: states.update(mps=state))
    return states


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_each_device_has_a_generator_and_gets_its_own_state(kind: str, generators: dict[str, torch.Tensor]) -> None:
    device = torch.device(kind)
    kept = devices.rng_states(device)
    assert set(kept) == {"cpu", kind}
    mine = generators[kind]
    others = {name: state for name, state in generators.items() if name != kind}
    generators[kind] = torch.zeros(1, dtype=torch.uint8)
    drawn = torch.rand(3)
    devices.set_rng_states(device, kept)
    assert generators[kind] is mine
    assert all(generators[name] is state for name, state in others.items())
    assert torch.equal(torch.rand(3), drawn)


def test_a_state_of_a_gpu_goes_on_elsewhere(generators: dict[str, torch.Tensor]) -> None:
    from_gpu, from_cpu = devices.rng_states(torch.device("cuda")), devices.rng_states(torch.device("cpu"))
    before = dict(generators)
    devices.set_rng_states(torch.device("cpu"), from_gpu)
    devices.set_rng_states(torch.device("cuda"), from_cpu)  # which has none for it: it stays as the seed left it
    devices.set_rng_states(torch.device("mps"), from_gpu)
    assert generators == before
