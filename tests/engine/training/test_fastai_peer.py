"""The recipe `fastai` beside fastai itself: the same rates, momenta, trained tensors, cleared state, and weights."""

import copy

import pytest
import torch
from small_trainer import make_trainer, take

from finetui.engine.models import module_groups
from finetui.engine.protocol.config import TrainingConfig
from finetui.engine.training.fastai_groups import layer_group
from finetui.engine.training.recipes import build_plan

vision = pytest.importorskip("fastai.vision.all", reason="needs fastai (pip install finetui[bench])")
EPOCHS = 3  # of fine_tune; finetui counts the frozen one as well


def fine_tuned(model: torch.nn.Module, trainer, seen: list) -> None:
    """Have fastai finetune `model`, on the batches of `trainer` and with torch's kind of SGD; note each step."""
    epochs = [list(trainer.batches(epoch, 0)) for epoch in range(EPOCHS + 1)]
    valid = [epochs[0][0]]

    class Epochs:
        """The batches of the next epoch, each time that they are asked for."""

        n_inp, device = 1, torch.device("cpu")
        number = -1

        def __len__(self) -> int:
            return len(epochs[0])

        def __iter__(self):
            Epochs.number += 1
            return iter(epochs[Epochs.number])

    class Note(vision.Callback):
        order = 100  # after the schedule

        def before_step(self) -> None:
            trained = [p.grad is not None and bool(p.requires_grad) for p in self.model.parameters()]
            known = sum("grad_avg" in self.opt.state[p] for p in self.model.parameters())
            rates = {p: h["lr"] for ps, h in zip(self.opt.param_lists, self.opt.hypers, strict=True) for p in ps}
            seen.append(([rates[p] for p in self.model.parameters()], self.opt.hypers[-1]["mom"], trained, known))

    loaders = vision.DataLoaders(Epochs(), valid)
    body = [p for name, p in model.named_parameters() if not name.startswith("head.")]
    learner = vision.Learner(
        loaders, model, loss_func=torch.nn.CrossEntropyLoss(), opt_func=vision.partial(vision.SGD, mom=0.9),
        splitter=lambda m: [body, list(m.head.parameters())], cbs=[Note()], wd=0.0,
    )  # fmt: skip
    torch.manual_seed(7)
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(EPOCHS, 0.05)


def test_every_step_is_fastais() -> None:
    trainer = make_trainer(epochs=EPOCHS + 1, lr=0.05, weight_decay=0.0)
    plan = build_plan("fastai", trainer.groups, EPOCHS + 1)
    trainer = make_trainer(plan, epochs=EPOCHS + 1, lr=0.05, weight_decay=0.0)
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    theirs = copy.deepcopy(trainer.model)
    for parameter in theirs.parameters():
        parameter.requires_grad_(True)
    seen: list = []
    fine_tuned(theirs, trainer, seen)
    parameters = list(trainer.model.parameters())
    for rates, momentum, trained, known in seen:
        ours_known = sum(bool(trainer.optimizer.state.get(p)) for p in parameters)
        take(trainer, 1)
        assert [p.requires_grad for p in parameters] == trained
        groups = trainer.optimizer.param_groups
        own = {p: group["lr"] for group in groups for p in group["params"]}
        assert [own[p] for p in parameters if p.requires_grad] == pytest.approx(
            [rate for rate, trains in zip(rates, trained, strict=True) if trains], rel=1e-5
        )
        assert groups[0]["momentum"] == pytest.approx(momentum, rel=1e-6)
        assert ours_known == known
    assert len(seen) == trainer.step == (EPOCHS + 1) * trainer.steps_per_epoch
    assert trainer.done
    for (name, ours), their in zip(trainer.model.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, their, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "squeezenet1_1", "densenet121", "vgg11_bn", "alexnet"])
def test_the_layer_groups_are_those_of_fastais_splitter(name: str) -> None:
    import torchvision

    with torch.device("meta"):
        model = getattr(torchvision.models, name)(weights=None)
    meta = vision.model_meta[getattr(torchvision.models, name)]
    names = {p: path for path, p in model.named_parameters()}
    body = vision.cut_model(model, meta["cut"])
    split = meta["split"](torch.nn.Sequential(body, torch.nn.Linear(1, 1, device="meta")))
    head = {"alexnet": "classifier.6", "vgg11_bn": "classifier.6", "densenet121": "classifier"}.get(
        name, "classifier.1" if name.startswith("squeeze") else "fc"
    )
    count, places = layer_group(name, module_groups(model, [head]))
    assert count == 3
    for place, parameters in enumerate(split[:2]):
        assert {places[names[p].rpartition(".")[0]] for p in parameters} == {place}, (name, place)
    assert places[head] == 2


def test_the_defaults_of_fine_tune_are_what_the_recipe_has() -> None:
    import inspect

    fine_tune = inspect.signature(vision.Learner.fine_tune).parameters
    assert [fine_tune[name].default for name in ("freeze_epochs", "lr_mult", "pct_start", "div")] == [1, 100, 0.3, 5.0]
    assert TrainingConfig().epochs  # whatever it is: the frozen epoch comes beside it
