"""Layer-wise decay of the learning rate, beside a plain loop, timm's own, and through what a run goes through."""

import itertools

import msgspec
import pytest
import torch
from steered import at
from torch import nn
from torch.nn import functional as F

from finetui.engine.checkpoints import checkpoint
from finetui.engine.errors import BadInput
from finetui.engine.models import LeNet, build, find_head, module_groups
from finetui.engine.protocol.commands import Stop
from finetui.engine.protocol.config import FinetuneConfig, RunConfig, TrainingConfig
from finetui.engine.protocol.events import TrainPoint
from finetui.engine.runs.resume import resumable
from finetui.engine.session.replay import replay_run
from finetui.engine.session.session import Session
from finetui.engine.setup.prepare import prepare
from finetui.engine.training.layer_decay import decayed, layer_factors
from finetui.engine.training.recipes import Stage, build_plan
from finetui.engine.training.trainer import Trainer


def lenet() -> tuple[nn.Module, tuple]:
    torch.manual_seed(0)
    model = LeNet(10, 1)
    return model, module_groups(model, [find_head(model, torch.zeros(2, 1, 28, 28))])


def test_each_group_has_that_share_of_the_one_above() -> None:
    _, groups = lenet()
    used = [group for group in groups if group.in_use]
    factors = layer_factors(groups, 0.5)
    assert [factors[group.layers[0].name] for group in used] == [0.5**depth for depth in reversed(range(len(used)))]
    assert factors[used[-1].layers[0].name] == 1
    assert layer_factors(groups, 1.0) == {}


def test_a_stages_own_factors_are_decayed_as_well() -> None:
    _, groups = lenet()
    first = groups[0].layers[0].name
    plan = decayed((Stage(name="all", epochs=1, factors={first: 0.1}),), groups, 0.5)
    assert plan[0].factors[first] == pytest.approx(0.1 * layer_factors(groups, 0.5)[first])
    assert decayed(plan, groups, 1.0) == plan
    recipe = build_plan("lp-ft", groups, 3)
    assert all(stage.factors == layer_factors(groups, 0.5) for stage in decayed(recipe, groups, 0.5))


def test_a_run_takes_the_steps_of_a_plain_loop_with_these_rates(make_config, recorder) -> None:
    decay, rate = 0.6, 0.05
    config = make_config(name="decayed", lr=rate, momentum=0.9, layer_decay=decay, fast="off")
    outcome = Session(config, sinks=[recorder], script=at((4, Stop()))).run()
    assert outcome.folder is not None
    about, weights, training = checkpoint.load(outcome.folder.last)
    assert training["step"] == 4
    # The same steps by hand, from the weights and on the batches that the run had.
    prepared = prepare(config, lambda *_: None, lambda: False)
    reader = Trainer(prepared.model, prepared.groups, prepared.data.train, config.training).batches(0, 0)
    model = build(about.architecture, config.training.seed)
    groups = module_groups(model, [find_head(model, torch.zeros(2, 1, 28, 28))])
    used = [group for group in groups if group.in_use]
    optimizer = torch.optim.SGD(
        [
            {"params": list(group.parameters.values()), "lr": rate * decay**depth}
            for depth, group in enumerate(reversed(used))
        ],
        momentum=0.9,
    )
    model.train()
    for images, labels in itertools.islice(reader, 4):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-5, atol=1e-6)
    shown = next(event for event in recorder.events if isinstance(event, TrainPoint)).group_rate_factors
    assert [shown[index] for index, group in enumerate(groups) if group.in_use] == pytest.approx(
        [decay**depth for depth in reversed(range(len(used)))], rel=1e-3
    )


def test_it_goes_on_and_is_replayed_to_the_same_bits(make_config) -> None:
    settings = {"layer_decay": 0.7, "epochs": 2, "schedule": "cosine", "momentum": 0.8}
    whole = Session(make_config(name="whole", **settings)).run().folder
    cut = Session(make_config(name="cut", **settings), script=at((7, Stop()))).run().folder
    assert whole is not None
    assert cut is not None
    assert Session(resumable(cut), resume=cut).run().state == "finished"
    digests = {checkpoint.digest(checkpoint.load(folder.last)[1]) for folder in (whole, cut)}
    assert len(digests) == 1
    plain = Session(make_config(name="plain", **{**settings, "layer_decay": 1.0})).run().folder
    assert checkpoint.digest(checkpoint.load(plain.last)[1]) not in digests
    replayed = replay_run(whole)
    assert (replayed.complete, replayed.different_at) == (True, None)


def test_what_cannot_be_is_said() -> None:
    for value in (0.0, -0.5, 1.1):
        with pytest.raises(BadInput, match=r"layer_decay \(--layer-decay\)"):
            TrainingConfig(layer_decay=value)
    with pytest.raises(BadInput, match="the recipe fastai sets its own rate"):
        RunConfig(training=TrainingConfig(layer_decay=0.5), finetune=FinetuneConfig(parent="x", recipe="fastai"))


def test_settings_of_before_mean_no_decay() -> None:
    old = {key: value for key, value in msgspec.to_builtins(TrainingConfig()).items() if key != "layer_decay"}
    assert msgspec.convert(old, TrainingConfig).layer_decay == 1.0


@pytest.mark.peers
def test_of_a_vision_transformer_the_rates_are_timms() -> None:
    timm = pytest.importorskip("timm")
    from timm.optim import param_groups_layer_decay

    model = timm.create_model("vit_tiny_patch16_224", num_classes=5, img_size=32)
    groups = module_groups(model, [find_head(model, torch.zeros(2, 3, 32, 32))])
    factors = layer_factors(groups, 0.75)
    ours = {p: factors[layer.name] for group in groups for layer in group.layers for p in layer.parameters.values()}
    for group in param_groups_layer_decay(model, layer_decay=0.75):
        for parameter in group["params"]:
            assert ours[parameter] == pytest.approx(group["lr_scale"])
    assert len(set(ours.values())) == 14
