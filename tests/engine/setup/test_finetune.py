"""Finetuning on real digits, from the tutorial's probe to other data, other models and single layers."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from steered import Replies, accepted, state

from finetui.engine.checkpoints import checkpoint
from finetui.engine.data import ImageData, from_datasets
from finetui.engine.errors import BadInput
from finetui.engine.protocol import events
from finetui.engine.protocol.commands import (
    FindLearningRate,
    FinetunePlan,
    PreviewFinetune,
    Save,
    SetFrozen,
    SetFrozenNorm,
    StartFinetune,
)
from finetui.engine.protocol.config import DataConfig, FinetuneConfig, ModelConfig, RunConfig
from finetui.engine.protocol.config_file import to_toml
from finetui.engine.runs.folder import RunFolder
from finetui.engine.session.session import Outcome, Session
from finetui.engine.setup.prepare import prepare

CONVOLUTIONS = ("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the parent of these tests is kept, once it is trained."""
    return tmp_path_factory.mktemp("trained") / "base"


@pytest.fixture
def parent(make_config, trained: Path) -> RunFolder:
    """A copy of a trained run, in the test's own folder."""
    config = make_config(name="base", lr=0.02, epochs=2)
    folder = RunFolder(Path(config.run.runs_dir) / "base")
    if trained.exists():
        shutil.copytree(trained, folder.path)
        folder.config.write_text(to_toml(config))
    else:
        Session(config).run()
        shutil.copytree(folder.path, trained)
    return folder


def finetune(make_config, parent: RunFolder, recorder, name: str = "", data: str = "", **changes) -> Outcome:
    settings = {key: changes.pop(key) for key in ("epochs", "lr", "batch_size") if key in changes}
    config = make_config(name=name, **settings)
    plan = FinetuneConfig(parent=str(parent.last), parent_run=parent.name, **changes)
    config = msgspec.structs.replace(config, finetune=plan)
    if data:
        config = msgspec.structs.replace(config, data=DataConfig(name=data))
    return Session(config, sinks=[recorder]).run()


def weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    return checkpoint.load(folder.last)[1]


def test_the_tutorials_probe_changes_fc4_alone(make_config, parent, recorder) -> None:
    kept = parent.last.read_bytes()
    outcome = finetune(make_config, parent, recorder, recipe="linear-probe", lr=0.02)
    before, after = weights(parent), weights(outcome.folder)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert set(after) - set(before) == {"fc4.weight", "fc4.bias"}
    assert outcome.report.accuracy > 0.7
    assert parent.last.read_bytes() == kept
    # A finetune of the finetune keeps its head, or makes it anew.
    again = finetune(make_config, outcome.folder, recorder, recipe="full", head="keep", lr=1e-9)
    assert torch.allclose(weights(again.folder)["fc4.weight"], after["fc4.weight"], atol=1e-6)
    anew = finetune(make_config, outcome.folder, recorder, recipe="full", head="replace", lr=1e-9)
    assert not torch.allclose(weights(anew.folder)["fc4.weight"], after["fc4.weight"], atol=1e-2)


def test_lp_ft_trains_the_head_and_then_all(make_config, parent, recorder) -> None:
    outcome = finetune(make_config, parent, recorder, epochs=3, lr=0.02)
    assert outcome.state == "finished"
    stages = recorder.of(events.StageStarted)
    assert [(stage.index, stage.name, stage.step) for stage in stages] == [(1, "head only", 0), (2, "all layers", 40)]
    assert stages[1].learning_rate == pytest.approx(0.002)
    (thawed,) = recorder.of(events.LayersChanged)
    assert thawed.step == 40
    assert not any(group.frozen for group in thawed.layers)
    before, after = weights(parent), weights(outcome.folder)
    assert not any(torch.equal(before[name], after[name]) for name in before)
    assert outcome.report.accuracy > 0.85


def test_named_groups_and_layers_stay_frozen_throughout(make_config, parent, recorder) -> None:
    outcome = finetune(make_config, parent, recorder, recipe="full", freeze=("conv1", "conv2"))
    before, after = weights(parent), weights(outcome.folder)
    assert {name for name in before if torch.equal(before[name], after[name])} == set(CONVOLUTIONS)
    with pytest.raises(BadInput, match="no layer group or layer 'nose'"):
        finetune(make_config, parent, recorder, freeze=("nose",), epochs=2)
    with pytest.raises(BadInput, match="at least one layer"):
        finetune(make_config, parent, recorder, recipe="linear-probe", head="replace", freeze=("fc3",))


@pytest.mark.parametrize("recipe", ["gradual", "fastai"])
def test_the_other_recipes_learn(make_config, parent, recorder, recipe: str) -> None:
    outcome = finetune(make_config, parent, recorder, recipe=recipe, epochs=3, lr=0.05)
    assert outcome.report.accuracy > 0.85
    factors = recorder.of(events.TrainPoint)[-1].group_rate_factors
    assert factors == (() if recipe == "gradual" else pytest.approx((0.01, 0.01, 0.01, 0.01, 1.0), rel=1e-2))


def test_a_head_for_other_classes(tmp_path: Path, make_config, parent, recorder, monkeypatch) -> None:
    (tmp_path / "other.py").write_text(
        "import torch\n"
        "class Digits(torch.utils.data.Dataset):\n"
        "    classes = ['even', 'odd', 'never']\n"
        "    def __len__(self): return 60\n"
        "    def __getitem__(self, i):\n"
        "        return torch.full((28, 28), i * 4, dtype=torch.uint8), i % 2\n"
        "def pair(): return Digits(), Digits()\n"
    )
    name = f"{tmp_path / 'other.py'}:pair"
    outcome = finetune(make_config, parent, recorder, recipe="full", data=name, batch_size=20)
    prepared = recorder.of(events.RunPrepared)[-1]
    assert prepared.data.classes == ("even", "odd", "never")
    assert any("New head fc3: 3 classes; old head dropped" in notice for notice in prepared.notices)
    after = weights(outcome.folder)
    assert after["fc3.weight"].shape == (3, 84)
    about = checkpoint.load(outcome.folder.last)[0]
    # The transform belongs to the weights: it is MNIST's, whatever these images look like.
    assert about.transform.mean == (0.1307,)
    with pytest.raises(BadInput, match="--head replace"):
        finetune(make_config, parent, recorder, recipe="full", data=name, head="keep")


def digits(names: list[str]) -> ImageData:
    """Return images of as many classes as there are names, ten of each."""
    images = np.random.default_rng(0).integers(0, 255, (10 * len(names), 28, 28), dtype=np.uint8)
    made = torch.utils.data.TensorDataset(torch.from_numpy(images), torch.arange(10 * len(names)) % len(names))
    made.classes = names  # type: ignore[attr-defined]
    return from_datasets(made, made, torch.device("cpu"))


def child(make_config, parent: RunFolder, names: list[str], **changes) -> tuple[dict[str, torch.Tensor], str]:
    """Return the weights with which a finetune on data with these classes begins, and what is said of it."""
    config = make_config(name="")
    config = msgspec.structs.replace(config, finetune=FinetuneConfig(parent=str(parent.last), **changes))
    prepared = prepare(config, lambda *_: None, lambda: False, data=digits(names))
    return prepared.model.state_dict(), "; ".join(prepared.notices)


def test_the_same_classes_in_another_order_keep_the_head(make_config, parent) -> None:
    before = weights(parent)
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    for head in ("auto", "keep"):
        after, said = child(make_config, parent, [str(place) for place in order], recipe="full", head=head)
        assert torch.equal(after["fc3.weight"], before["fc3.weight"][order])
        assert torch.equal(after["fc3.bias"], before["fc3.bias"][order])
        assert torch.equal(after["fc2.weight"], before["fc2.weight"])
        assert "the head, fc3, is kept: its rows are reordered to the data's classes, by name" in said


def test_a_new_head_begins_with_the_rows_of_the_classes_that_are_known(make_config, parent) -> None:
    before = weights(parent)
    after, said = child(make_config, parent, ["7", "ten", "1"], recipe="full")
    assert torch.equal(after["fc3.weight"][[0, 2]], before["fc3.weight"][[7, 1]])
    assert torch.equal(after["fc3.bias"][[0, 2]], before["fc3.bias"][[7, 1]])
    assert not (after["fc3.weight"][1] == before["fc3.weight"]).all(1).any()
    assert "New head fc3: 3 classes" in said
    assert "it begins with the old head's rows for 7 and 1" in said
    anew, said = child(make_config, parent, ["7", "ten", "1"], recipe="full", head="replace")
    assert not torch.equal(anew["fc3.weight"][0], before["fc3.weight"][7])
    assert "rows" not in said


def test_a_head_that_is_kept_for_some_other_classes_has_its_known_rows_in_place(make_config, parent) -> None:
    before = weights(parent)
    names = [str(place) for place in (1, 0, 2, 3, 4, 5, 6, 7, 8)] + ["ten"]
    after, said = child(make_config, parent, names, recipe="full", head="keep")
    assert torch.equal(after["fc3.weight"], before["fc3.weight"][[1, 0, 2, 3, 4, 5, 6, 7, 8, 9]])
    assert "ten begin with the rows of 9" in said


def test_too_few_epochs_for_a_recipe_is_bad_input_and_leaves_nothing(make_config, parent, recorder) -> None:
    with pytest.raises(BadInput, match="--epochs"):
        finetune(make_config, parent, recorder, name="short", epochs=1)
    assert not (parent.path.parent / "short").exists()


def preview_of(make_config, recorder, plan: FinetunePlan, **training) -> events.FinetunePreview:
    script = Replies((state("ready"), [PreviewFinetune(plan=plan)]))
    Session(
        make_config(**training), commands=script.commands, sinks=[recorder, script], autostart=False,
        stay=lambda state: not recorder.of(events.FinetunePreview),
    ).run()  # fmt: skip
    (found,) = recorder.of(events.FinetunePreview)
    assert found.seq == -1  # a question is no part of the run's history
    return found


def test_a_plan_can_be_looked_at_before(make_config, recorder) -> None:
    found = preview_of(make_config, recorder, FinetunePlan(recipe="linear-probe", epochs=4, lr=0.5))
    assert found.problem == ""
    assert (found.head, found.reused) == ("features", ("conv1", "conv2", "fc1", "fc2", "fc3"))
    assert found.fresh == ("fc4",)
    (stage,) = found.stages
    assert (stage.first_epoch, stage.last_epoch, stage.trains, stage.parameters) == (1, 4, ("fc4",), 2570)
    assert stage.learning_rates == (0.5, 0.5)
    assert stage.frozen == ("conv1", "conv2")
    # Of a step only the forward pass of the convolutions is left, of three passes as long.
    assert stage.work is not None
    assert 0.3 < stage.work < 0.4


def test_the_curve_of_a_plan_is_the_learning_rate_that_its_run_has(make_config, parent, recorder) -> None:
    training = {"epochs": 3, "lr": 0.02}
    finetune(make_config, parent, recorder, **training)
    steps = {point.step: point.learning_rate for point in recorder.of(events.TrainPoint)}
    found = preview_of(make_config, recorder, FinetunePlan(recipe="lp-ft", **training))
    assert [stage.work for stage in found.stages][1] == 1.0
    assert (found.curve[0][0], len(found.curve)) == (0.0, 240)
    for step, rate in steps.items():
        near = min(found.curve, key=lambda point: abs(point[0] * 40 - (step - 1)))
        assert near[1] == pytest.approx(rate, rel=0.2, abs=1e-4), step


def test_a_finetune_begins_with_the_checkpoint_that_it_names(make_config, recorder) -> None:
    plan = FinetunePlan(recipe="full", epochs=1, checkpoint="kept")
    script = Replies(
        (state("running"), [Save(name="kept")]),
        (state("finished"), [StartFinetune(plan=FinetunePlan(checkpoint="nose")), StartFinetune(plan=plan)]),
    )
    outcome = Session(make_config(), commands=script.commands, sinks=[recorder, script]).run()
    assert "there is no checkpoint 'nose'" in recorder.of(events.CommandRefused)[0].reason
    assert outcome.next is not None
    assert Path(outcome.next.finetune.parent).name == "kept.ckpt"


def test_a_plan_for_other_data_replaces_the_head(make_config, recorder) -> None:
    found = preview_of(make_config, recorder, FinetunePlan(data="fashion-mnist", recipe="fastai", epochs=3, lr=0.1))
    assert found.head == "replace"
    assert found.fresh == ("fc3",)
    assert [name for name in found.dropped if name.startswith("fc3.weight")]
    assert found.stages[1].learning_rates == pytest.approx((0.0005, 0.05))


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (FinetunePlan(recipe="lp-ft", epochs=1), "--epochs"),
        (FinetunePlan(freeze=("nose",)), "no layer group or layer 'nose'"),
        (FinetunePlan(lr=-1.0), "--lr"),
        (FinetunePlan(data="mnits"), "did you mean 'mnist'"),
        (FinetunePlan(recipe="magic"), "--recipe"),
    ],
)
def test_what_is_wrong_with_a_plan_is_said(make_config, recorder, plan: FinetunePlan, says: str) -> None:
    assert says in preview_of(make_config, recorder, plan, epochs=3).problem


def test_a_plan_that_cannot_be_is_refused_and_the_run_goes_on(make_config, recorder) -> None:
    script = Replies((state("running"), [StartFinetune(plan=FinetunePlan(lr=-1.0))]))
    outcome = Session(make_config(), commands=script.commands, sinks=[recorder, script]).run()
    assert outcome.state == "finished"
    assert outcome.next is None
    assert "--lr" in recorder.of(events.CommandRefused)[0].reason


def test_the_learning_rate_finder_changes_nothing_and_suggests(make_config, recorder) -> None:
    plain = Session(make_config()).run()
    script = Replies((state("ready"), [FindLearningRate()]), (accepted(FindLearningRate), [FindLearningRate()]))
    searched = Session(make_config(), commands=script.commands, sinks=[recorder, script]).run()
    first, _ = recorder.of(events.LearningRateFound)
    assert first.suggestion is not None
    assert 1e-3 < first.suggestion < 1
    assert len(first.rates) == len(first.losses) > 30
    ours, theirs = weights(searched.folder), weights(plain.folder)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_layers_and_the_switch_for_normalisation_by_command(make_config, recorder) -> None:
    script = Replies(
        (
            state("ready"),
            [SetFrozen(groups=("conv1",), layers=("layer1.0.bn1",), frozen=True), SetFrozenNorm(trains=True)],
        )
    )
    config = msgspec.structs.replace(make_config(), model=ModelConfig(name="resnet18"))
    Session(
        config, commands=script.commands, sinks=[recorder, script], autostart=False,
        stay=lambda state: len(recorder.of(events.CommandAccepted)) < 2,
    ).run()  # fmt: skip
    (first, second) = recorder.of(events.LayersChanged)
    conv1, layer1 = first.layers[:2]
    assert (conv1.name, conv1.frozen, conv1.norm) == ("conv1", True, "running")
    assert not layer1.frozen
    assert [layer.name for layer in layer1.layers if layer.frozen] == ["layer1.0.bn1"]
    assert second.layers[0].norm == "batch"


def test_a_callers_own_module_and_data(tmp_path: Path, make_config, recorder) -> None:
    import finetui

    class Pair(torch.utils.data.Dataset):
        classes = ("dark", "light")

        def __len__(self) -> int:
            return 200

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            label = index % 2
            return torch.full((3, 8, 8), 60 + 120 * label, dtype=torch.uint8), label

    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    data = finetui.from_datasets(Pair(), Pair(), torch.device("cpu"))
    outcome = Session(make_config(batch_size=20, lr=0.05), sinks=[recorder], model=model, data=data).run()
    assert outcome.report.accuracy == 1.0
    groups = recorder.of(events.RunPrepared)[0].layers
    assert [group.name for group in groups] == ["1", "3"]
    assert groups[-1].head


def test_code_that_a_checkpoint_names_runs_only_when_it_is_named_again(tmp_path: Path, make_config, parent) -> None:
    import finetui

    about, tensors, training = checkpoint.load(parent.last)
    architecture = msgspec.structs.replace(about.architecture, name=f"{tmp_path / 'evil.py'}:make")
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\ndef make(num_classes): ...\n")
    stranger = tmp_path / "stranger.ckpt"
    checkpoint.save(stranger, msgspec.structs.replace(about, architecture=architecture), tensors, training)
    config = msgspec.structs.replace(make_config(), finetune=FinetuneConfig(parent=str(stranger)))
    with pytest.raises(BadInput, match="if you trust it, pass it"):
        Session(config).run()
    with pytest.raises(BadInput, match="if you trust it, pass it"):
        finetui.evaluate_checkpoint(stranger)
    assert not (tmp_path / "ran").exists()


def test_the_configuration_of_a_finetune_survives_the_run_folder(make_config, parent, recorder) -> None:
    from finetui.engine.protocol.config_file import load

    outcome = finetune(make_config, parent, recorder, recipe="full", freeze=("conv1",), head="keep")
    config = load(outcome.folder.config)
    assert isinstance(config, RunConfig)
    assert (config.finetune.recipe, config.finetune.head, config.finetune.freeze) == ("full", "keep", ("conv1",))
