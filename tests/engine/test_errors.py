"""Errors of torch's in one sentence that says what can be done."""

import pytest

from finetui.engine.errors import describe


class OutOfMemoryError(RuntimeError):
    """Named as torch's own."""


class AcceleratorError(RuntimeError):
    """Named as torch's own."""


CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.18 GiB"
NO_MEMORY = {
    "a GPU's": OutOfMemoryError(CUDA),
    "the driver's": AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    "cuBLAS's": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "cuDNN's": RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "MPS's": RuntimeError("MPS backend out of memory (MPS allocated: 17.87 GB, other allocations: 236.63 MB)"),
    "the machine's": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1"),
    "Python's": MemoryError(),
}


@pytest.mark.parametrize("name", NO_MEMORY)
def test_memory_that_runs_out_is_said_with_the_remedy(name: str) -> None:
    said = describe(NO_MEMORY[name])
    assert said.startswith("out of memory (")
    assert said.endswith("; use a smaller --batch-size, smaller images or a smaller model")


FAILED = {
    "an assertion": AcceleratorError(
        "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported at some other "
        "API call\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1"
    ),
    "a lost device": RuntimeError("CUDA error: unspecified launch failure\nCompile with `TORCH_USE_CUDA_DSA`"),
    "cuDNN": RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
}


@pytest.mark.parametrize("name", FAILED)
def test_a_gpu_that_fails_is_said_in_one_line(name: str) -> None:
    said = describe(FAILED[name])
    assert said.startswith(
        f"the GPU failed ({str(FAILED[name]).splitlines()[0]}), and this process cannot use it again"
    )
    assert "asynchronously" not in said and "\n" not in said


def test_other_errors_keep_their_words() -> None:
    assert describe(ZeroDivisionError("boom")) == "ZeroDivisionError: boom"
    assert describe(RuntimeError("my code met a CUDA error")) == "RuntimeError: my code met a CUDA error"
