"""What the network's own code froze stays frozen, until a person thaws it."""

import pytest
import torch
from small_trainer import Small, make_trainer, take

from finetui.engine.errors import BadInput
from finetui.engine.models import module_groups
from finetui.engine.training.freezing import owner_notice
from finetui.engine.training.recipes import Stage
from finetui.engine.training.trainer import Trainer


def frozen_stem() -> Small:
    model = Small()
    model.stem.requires_grad_(False)
    return model


def state(trainer: Trainer, prefix: str) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in trainer.model.state_dict().items() if name.startswith(prefix)}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_part_that_the_owner_froze_keeps_its_bits_and_is_shown_frozen() -> None:
    trainer = make_trainer(model=frozen_stem())
    stem, body = state(trainer, "stem"), state(trainer, "body")
    take(trainer, 10)
    assert equal(stem, state(trainer, "stem"))  # running statistics included
    assert not equal(body, state(trainer, "body"))
    assert [group.frozen for group in trainer.freezer.table()] == [True, False, False, False]


def test_no_stage_thaws_it_and_a_person_does() -> None:
    plan = (Stage(name="head only", epochs=1, frozen=("stem", "body")), Stage(name="all layers", epochs=2))
    trainer = make_trainer(plan=plan, epochs=3, model=frozen_stem())
    take(trainer, 10)
    assert trainer.freezer.frozen == {"stem.0", "stem.1"}
    stem = state(trainer, "stem")
    trainer.set_frozen(["stem"], frozen=False)
    take(trainer, 5)
    assert not equal(stem, state(trainer, "stem"))


def test_a_single_parameter_stays_frozen_also_when_its_layer_is_thawed() -> None:
    model = Small()
    model.neck.bias.requires_grad_(False)
    trainer = make_trainer(model=model)
    trainer.set_frozen(["neck"], frozen=True)
    trainer.set_frozen(["neck"], frozen=False)
    before = state(trainer, "neck")
    take(trainer, 5)
    after = state(trainer, "neck")
    assert torch.equal(before["neck.bias"], after["neck.bias"])
    assert not torch.equal(before["neck.weight"], after["neck.weight"])
    neck = next(group for group in trainer.freezer.table() if group.name == "neck")
    assert (neck.frozen, neck.parameters, neck.trainable) == (False, 20, 16)
    assert trainer.freezer.trainable() == sum(p.numel() for p in model.parameters()) - 4


def test_a_normalisation_without_weights_is_frozen_with_the_module_around_it() -> None:
    model = Small()
    model.stem[1] = torch.nn.BatchNorm2d(4, affine=False)
    model.stem.requires_grad_(False)
    trainer = make_trainer(model=model)
    stem = state(trainer, "stem")
    take(trainer, 5)
    assert equal(stem, state(trainer, "stem"))


def test_the_checkpoint_decides_what_is_frozen_on_resume() -> None:
    model = frozen_stem()
    model.neck.bias.requires_grad_(False)
    first = make_trainer(model=model)
    take(first, 3)
    kept = first.state_dict()
    first.set_frozen(["stem"], frozen=False)
    take(first, 1)
    thawed = first.state_dict()

    model = frozen_stem()
    model.neck.bias.requires_grad_(False)
    second = make_trainer(model=model)
    second.load_state_dict(thawed)
    assert not second.freezer.frozen
    assert model.stem[0].weight.requires_grad
    second.load_state_dict(kept)
    assert second.freezer.frozen == {"stem.0", "stem.1"}
    # An earlier version trained what the owner had frozen, and its checkpoints do not tell of single parameters.
    second.load_state_dict({name: value for name, value in thawed.items() if name != "held"})
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_nothing_left_to_train_is_refused_with_the_reason() -> None:
    model = Small()
    model.requires_grad_(False)
    with pytest.raises(BadInput, match="nothing would train: the network's own code freezes"):
        make_trainer(model=model)
    model = Small()
    model.head.requires_grad_(False)
    plan = (Stage(name="head only", epochs=1, frozen=("stem", "body", "neck")), Stage(name="all layers", epochs=1))
    with pytest.raises(BadInput, match="in the stage 'head only'"):
        make_trainer(plan=plan, epochs=2, model=model)


def test_the_notice_names_what_is_frozen_and_tells_of_the_statistics() -> None:
    model = frozen_stem()
    model.neck.bias.requires_grad_(False)
    (notice,) = owner_notice(model, module_groups(model))
    assert notice.startswith("frozen by the network's own code, and kept so: stem, neck.bias; its normalization keeps")
    model = Small()
    assert owner_notice(model, module_groups(model)) == []
    model.body[0].requires_grad_(False)
    assert owner_notice(model, module_groups(model)) == ["frozen by the network's own code, and kept so: body.0"]
