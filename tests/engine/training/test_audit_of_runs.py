"""The freeze audit of finetui's own trainings: clean by every recipe, and not where something tampers with them."""

from collections.abc import Callable, Iterator

import msgspec
import pytest
import torch
from small_trainer import Small, make_trainer, take
from torch import nn
from torch.nn import functional as F
from torchvision.models.vision_transformer import VisionTransformer

from finetui.engine.models import Architecture, build, module_groups
from finetui.engine.protocol.audit import Audit
from finetui.engine.training.freeze_audit import FreezeAudit
from finetui.engine.training.freezing import Freezer
from finetui.engine.training.recipes import build_plan
from finetui.engine.training.trainer import Trainer

RECIPES = ("full", "linear-probe", "lp-ft", "gradual", "fastai")


def observe(trainer: Trainer, steps: int) -> FreezeAudit:
    audit = FreezeAudit(trainer.model, lambda: (trainer.optimizer,), steps, lambda: trainer.freezer.claims())
    trainer.observers.append(audit)
    return audit


def audits(trainer: Trainer, steps: int, whole: int) -> Iterator[Audit]:
    """Yield audits of `steps` steps, one after the other, over `whole` steps of `trainer`."""
    audit = observe(trainer, steps)
    for _ in range(whole):
        take(trainer, 1)
        if audit.done:
            trainer.observers.remove(audit)
            yield audit.result()
            audit = observe(trainer, steps)
    assert audit.taken <= steps


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_clean(recipe: str, optimizer: str) -> None:
    model = Small()
    plan = build_plan(recipe, module_groups(model), 4)
    trainer = make_trainer(plan, model=model, optimizer=optimizer, epochs=4, schedule="cosine", lr=0.01)
    found = list(audits(trainer, 4, 4 * trainer.steps_per_epoch))
    assert len(found) >= 6
    assert [finding for audit in found for finding in audit.wrong] == []
    assert {sum(tensor.frozen for tensor in audit.tensors) > 0 for audit in found} == (
        {False} if recipe == "full" else {True} if recipe == "linear-probe" else {False, True}
    )


def small_transformer() -> nn.Module:
    return VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=3
    )


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v3_small", "vit", pytest.param("vit_b_16", marks=pytest.mark.slow)]
)
def test_networks_of_torchvision_are_clean(name: str) -> None:
    side = 224 if name == "vit_b_16" else 32
    architecture = Architecture(name=name, num_classes=3, in_channels=3, height=side, width=side)
    model = small_transformer() if name == "vit" else build(architecture, 0)
    groups = module_groups(model)
    for frozen in (False, True):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        freezer = Freezer(model, groups, optimizer)
        if frozen:
            freezer.set({layer.name for group in groups[:-1] for layer in group.layers}, frozen=True)
        audit = FreezeAudit(model, lambda optimizer=optimizer: (optimizer,), 3, freezer.claims)
        for _ in range(3):  # the head of a vision transformer begins with zeros, so that nothing gets through it
            optimizer.zero_grad()
            F.cross_entropy(model(torch.randn(2, 3, side, side)), torch.tensor([0, 1])).backward()
            audit.before()
            optimizer.step()
            audit.after()
        assert audit.result().wrong == ()


def test_norms_of_frozen_layers_may_collect_where_they_are_told_to() -> None:
    trainer = make_trainer(epochs=9)
    trainer.set_frozen(["stem", "body"], frozen=True)
    trainer.freezer.set_norm_trains(True)
    audit = observe(trainer, 3)
    take(trainer, 3)
    found = audit.result()
    assert found.wrong == ()
    assert {tensor.name for tensor in found.tensors if tensor.buffer and tensor.moved} >= {"stem.1.running_mean"}


def test_dropout_of_a_group_that_is_frozen_in_part_goes_on() -> None:
    trainer = make_trainer(epochs=9)
    trainer.set_frozen((), frozen=True, layers=("stem.0",))
    audit = observe(trainer, 3)
    take(trainer, 3)
    assert audit.result().wrong == ()


TAMPERING: dict[str, tuple[Callable[[Trainer], object], str, str]] = {
    "train mode": (lambda trainer: trainer.model.train(), "stem.1.running_var", "drift"),
    "dropout": (lambda trainer: trainer.model.stem[3].train(), "stem.3", "drops"),
    "requires_grad": (
        lambda trainer: trainer.model.stem[0].requires_grad_(True), "stem.0.weight", "marked as frozen"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TAMPERING)
def test_what_tampers_with_a_frozen_layer_is_found(kind: str) -> None:
    tamper, name, why = TAMPERING[kind]
    trainer = make_trainer(epochs=9)
    trainer.set_frozen(["stem"], frozen=True)
    tamper(trainer)
    audit = observe(trainer, 3)
    take(trainer, 3)
    reasons = {finding.name: finding.reason for finding in audit.result().wrong}
    assert why in reasons[name]


def roll_back(trainer: Trainer, state: dict, weights: dict) -> None:
    trainer.model.load_state_dict(weights)
    trainer.load_state_dict(state)


CHANGES: dict[str, Callable[[Trainer, dict, dict], object]] = {
    "freezing": lambda trainer, *_: trainer.set_frozen(["stem"], frozen=True),
    "thawing": lambda trainer, *_: trainer.set_frozen(["neck"], frozen=False),
    "rolling back": roll_back,
    "other settings": lambda trainer, *_: trainer.change(
        msgspec.structs.replace(trainer.training, optimizer="adamw"), trainer.plan
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_an_audit_begins_anew_where_something_else_than_a_step_changes_the_network(kind: str) -> None:
    trainer = make_trainer(epochs=9)
    trainer.set_frozen(["neck"], frozen=True)
    take(trainer, 2)
    state = trainer.state_dict()
    weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    take(trainer, 2)
    audit = observe(trainer, 4)
    take(trainer, 2)
    CHANGES[kind](trainer, state, weights)
    take(trainer, 3)
    assert audit.taken == 3
    assert not audit.done
    take(trainer, 1)
    assert audit.done
    assert audit.result().wrong == ()
    assert audit.result().steps == 4
