import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from benchmarks import scaling, scaling_model as model

NETWORK = model.Network(within=10e-6, between=30e-6, send=2e-6, per_node=8)


@pytest.mark.parametrize("world", [1, 2, 3, 8, 64, 513, 4096])
@pytest.mark.parametrize("images", [4097, 20_000])
def test_an_epoch_sees_every_image_once_whatever_the_ranks(world, images):
    order = np.random.default_rng(0).permutation(images)
    found = model.count_dealt(model.dealt(order, 4 * world, world), images)
    assert (found.fewest_times, found.most_times) == (1, 1)
    assert found.steps == math.ceil(images / (4 * world))


def test_what_is_dealt_twice_or_never_is_counted():
    found = model.count_dealt(iter([[np.array([0, 1])], [np.array([1, 3])]]), 4)
    assert (found.fewest_times, found.most_times) == (0, 2)


def test_a_last_batch_smaller_than_the_ranks_leaves_some_without_an_image():
    found = model.count_dealt(model.dealt(np.arange(21), 16, 8), 21)
    assert (found.steps, found.last, found.idle, found.least, found.most) == (2, 5, 3, 0, 2)


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=60)
def test_each_step_has_the_images_of_a_single_device_and_a_resume_with_other_ranks_goes_on_there(n, batch, one, other):
    order = np.random.default_rng(n).permutation(n)
    alone = [sorted(shards[0]) for shards in model.dealt(order, batch, 1)]
    half = len(alone) // 2
    before = list(model.dealt(order, batch, one))[:half]
    after = model.dealt(order, batch, other, start=half * batch)
    assert [sorted(np.concatenate(shards)) for shards in [*before, *after]] == alone


@pytest.mark.parametrize(("world", "sends", "ways"), [(2, 1, 1), (3, 2, 1), (4, 2, 2), (5, 2, 2), (8, 3, 3)])
def test_a_broadcast_within_a_node_takes_as_long_as_its_longest_way(world, sends, ways):
    assert model.broadcast(world, NETWORK) == pytest.approx(sends * NETWORK.send + ways * NETWORK.within)


def test_a_broadcast_grows_with_the_logarithm_of_the_ranks_and_a_ring_with_their_number():
    nine_doublings = 9 * (NETWORK.between + NETWORK.send)
    assert model.broadcast(4096, NETWORK) - model.broadcast(8, NETWORK) == pytest.approx(nine_doublings)
    assert model.ring(4096, NETWORK) / model.ring(512, NETWORK) == pytest.approx(8, rel=0.02)
    assert model.broadcast(1, NETWORK) == model.ring(1, NETWORK) == model.gather(1, NETWORK) == 0


def test_a_ring_goes_from_node_to_node_once_a_node():
    two_nodes = 2 * 15 / 16 * (14 * NETWORK.within + 2 * NETWORK.between + 16 * NETWORK.send)
    assert model.ring(16, NETWORK) == pytest.approx(two_nodes)


@pytest.mark.parametrize(("cost", "every"), [(0.0, 1), (0.9e-3, 1), (1.1e-3, 2), (95e-3, 95)])
def test_so_rarely_is_agreed_that_it_costs_a_hundredth(cost, every):
    assert model.agree_every(cost, 0.1, 0.01) == every


def test_gradients_cross_the_links_twice_less_what_is_there_already():
    assert model.all_reduce(8e9, 1, 1e9, 1e9) == 0
    assert model.all_reduce(8e9, 8, 1e9, 1e9) == pytest.approx(14)
    assert model.all_reduce(8e9, 16, 1e9, 1e9) == pytest.approx(14 + 1)


@given(st.integers(1, 500), st.integers(1, 20), st.integers(1, 64))
@settings(max_examples=60)
def test_an_evaluation_has_each_image_once_in_the_batches_of_one_device_and_in_order(images, size, world):
    shards = model.evaluation_shards(images, size, world)
    assert model.put_in_order(shards) == list(range(images))
    alone = model.evaluation_shards(images, size, 1)[0]
    assert sorted((batch for shard in shards for batch in shard), key=lambda batch: batch.start) == alone
    assert 0 < model.evaluation_speed(shards) <= min(world, len(alone))


def test_more_ranks_than_batches_are_no_faster():
    assert model.evaluation_speed(model.evaluation_shards(100, 10, 10)) == 10
    assert model.evaluation_speed(model.evaluation_shards(100, 10, 4096)) == 10


def test_rows_are_journaled_each_10_seconds_and_more_rarely_in_long_runs():
    assert model.rows_bytes(100, 8, 0.0) == 800
    assert model.rows_bytes(100, 8, 600.0) == 61 * 800
    day, week = model.rows_bytes(100, 64, 86_400.0), model.rows_bytes(100, 64, 7 * 86_400.0)
    assert day < week < 2 * day


def test_a_replica_is_weight_gradient_and_what_the_optimizer_keeps():
    assert [model.replica_bytes(name) for name in ("sgd", "momentum", "adamw")] == [8, 12, 16]
    assert model.replica_bytes("adamw", bf16=True) == 18
    assert model.most_parameters(80e9, 0.4, 16) == pytest.approx(3e9)


def test_a_checkpoint_is_read_by_each_node_or_by_one_rank():
    assert model.read_by_all(1e9, 17, 1e9) == 3
    assert model.read_by_one(1e9, 1, 1e9, NETWORK, 1e9) == 1
    assert model.read_by_one(1e9, 8, 1e9, NETWORK, 1e9) == pytest.approx(4, abs=1e-3)


def test_the_messages_that_are_measured_arrive():
    found = scaling.measure(2, rounds=20)
    assert set(found) == {"broadcast", "object", "gather", "all_reduce"}
    assert all(value > 0 for value in found.values())
