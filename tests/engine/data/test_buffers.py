"""Memory that is used again, and never while somebody looks at it."""

import torch

from finetui.engine.data.buffers import Buffers
from finetui.engine.data.transform import InputTransform, Transform

SHAPE = (4, 3, 5, 6)


def test_memory_is_used_again_once_nobody_has_a_part_of_it() -> None:
    buffers = Buffers()
    first = buffers.empty(SHAPE)
    assert (first.shape, first.dtype, first.is_contiguous()) == (SHAPE, torch.float32, True)
    place = first.data_ptr()
    part = first.detach()[1:, 0]
    del first
    second = buffers.empty(SHAPE)
    assert second.data_ptr() != place
    del part
    assert buffers.empty((2, *SHAPE[1:])).data_ptr() == place


def test_memory_is_not_used_again_while_a_backward_pass_needs_it() -> None:
    buffers = Buffers()
    batch = buffers.empty(SHAPE)
    weight = torch.ones(SHAPE, requires_grad=True)
    batch.fill_(3)
    product = (batch * weight).sum()
    del batch
    for _ in range(5):
        buffers.empty(SHAPE).fill_(7)
    product.backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.full(SHAPE, 3.0))


def test_many_batches_that_are_kept_and_larger_ones_have_memory_of_their_own() -> None:
    buffers = Buffers()
    kept = [buffers.empty(SHAPE).fill_(number) for number in range(6)]
    assert [float(each.max()) for each in kept] == [0, 1, 2, 3, 4, 5] == [float(each.min()) for each in kept]
    del kept
    assert buffers.empty((9, *SHAPE)).shape == (9, *SHAPE)


def test_a_batch_that_is_kept_does_not_change_with_the_next() -> None:
    finish = InputTransform(Transform(mean=(0.5,), std=(0.25,)), torch.device("cpu"), one_thread=True)
    kept = [finish(torch.full(SHAPE, number, dtype=torch.uint8), None) for number in range(5)]
    places = {each.data_ptr() for each in kept}
    assert [round(float(each[0, 0, 0, 0]) * 63.75 + 127.5) for each in kept] == [0, 1, 2, 3, 4]
    assert len(places) == len(kept)
