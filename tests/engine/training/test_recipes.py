import itertools

import pytest

from finetui.engine.errors import BadInput
from finetui.engine.models import LeNet, module_groups
from finetui.engine.protocol.config import RECIPES
from finetui.engine.training.recipes import Stage, build_plan, whole_run

GROUPS = module_groups(LeNet())
BODY = ("conv1", "conv2", "fc1", "fc2")


def test_a_linear_probe_trains_the_head_alone() -> None:
    assert build_plan("linear-probe", GROUPS, 4) == (Stage(name="head only", epochs=4, frozen=BODY),)


def test_the_probe_of_a_new_feature_head_leaves_bypassed_layers_out() -> None:
    model = LeNet()
    model.add_feature_head()
    (stage,) = build_plan("linear-probe", module_groups(model, ["fc4"]), 4)
    assert stage.frozen == ("conv1", "conv2")


def test_lp_ft_trains_the_head_and_then_everything_gently() -> None:
    head, everything = build_plan("lp-ft", GROUPS, 9)
    assert (head.epochs, head.frozen, head.lr_factor) == (3, BODY, 1.0)
    assert (everything.epochs, everything.frozen, everything.lr_factor) == (6, (), 0.1)


@pytest.mark.parametrize("epochs", [2, 3, 5, 12])
def test_gradual_thaws_from_the_top_until_all_train(epochs: int) -> None:
    plan = build_plan("gradual", GROUPS, epochs)
    assert plan[0].frozen == BODY
    assert plan[-1].frozen == ()
    for before, after in itertools.pairwise(plan):
        assert before.frozen[: len(after.frozen)] == after.frozen
        assert len(after.frozen) < len(before.frozen)


def test_fastai_is_fastais_fine_tune() -> None:
    head, everything = build_plan("fastai", GROUPS, 5)
    assert (head.epochs, head.frozen, head.norms_train, head.fresh) == (1, BODY, True, True)
    assert (head.cycle.rise, head.cycle.start_div, head.factors) == (0.99, 25.0, dict.fromkeys(BODY, 0.1))
    assert (everything.epochs, everything.frozen, everything.lr_factor, everything.fresh) == (4, (), 0.5, True)
    assert (everything.cycle.rise, everything.cycle.start_div) == (0.3, 5.0)
    assert everything.factors == pytest.approx(dict.fromkeys(BODY, 0.01) | {"fc3": 1.0})


def test_the_first_rules_had_a_fastai_of_their_own() -> None:
    head, everything = build_plan("fastai", GROUPS, 5, rules=1)
    assert not (head.norms_train or head.fresh or head.factors or everything.fresh)
    assert everything.factors == pytest.approx(
        {"conv1": 0.01, "conv2": 0.0316227766, "fc1": 0.1, "fc2": 0.316227766, "fc3": 1.0}
    )


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_uses_all_epochs_and_always_trains_the_head(recipe: str) -> None:
    for epochs in range(2, 15):
        plan = build_plan(recipe, GROUPS, epochs)
        assert sum(stage.epochs for stage in plan) == epochs
        assert all(stage.epochs >= 1 and "fc3" not in stage.frozen for stage in plan)


@pytest.mark.parametrize("recipe", ["lp-ft", "gradual", "fastai"])
def test_one_epoch_is_too_short_for_two_stages(recipe: str) -> None:
    with pytest.raises(BadInput, match="--epochs"):
        build_plan(recipe, GROUPS, 1)


def test_a_training_from_scratch_is_one_stage() -> None:
    assert whole_run(7) == (Stage(name="", epochs=7),)
