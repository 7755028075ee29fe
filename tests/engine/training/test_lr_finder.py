import copy
import itertools
import math
from functools import partial

import pytest
import torch
from small_trainer import make_trainer, take

from finetui.engine.training.lr_finder import HIGHEST, LOWEST, find_learning_rate, suggest


def everything(trainer) -> dict[str, torch.Tensor]:
    """Return copies of all that a search must not change, the random generator included."""
    state = {f"model.{name}": tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    for name, values in trainer.state_dict()["optimizer"].items():
        state |= {f"{name}.{key}": torch.as_tensor(value).clone() for key, value in values.items() if value is not None}
    gradients = {f"grad.{n}": p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
    return state | gradients | {"rng": torch.get_rng_state()}


def search(trainer, stopped=lambda: False) -> tuple[list[float], list[float]]:
    return find_learning_rate(trainer, progress=lambda _done, _total: None, stopped=stopped)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_search_leaves_no_trace(optimizer: str) -> None:
    trainer = make_trainer(optimizer=optimizer)
    take(trainer, 3)
    trainer.set_frozen(["stem"], frozen=True)
    take(trainer, 1)
    before = everything(trainer)
    position = (trainer.step, trainer.epoch, trainer.position)
    modes = [module.training for module in trainer.model.modules()]
    rates, losses = search(trainer)
    assert len(rates) == len(losses) > 20
    after = everything(trainer)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (trainer.step, trainer.epoch, trainer.position) == position
    assert [module.training for module in trainer.model.modules()] == modes


def test_a_searched_run_goes_on_as_if_it_had_not_been() -> None:
    searched, plain = make_trainer(), make_trainer()
    for trainer in (searched, plain):
        torch.manual_seed(7)  # dropout draws from the global generator
        take(trainer, 3)
        if trainer is searched:
            search(trainer)
            trainer.restart_batches()
        take(trainer, 6)
    ours, theirs = searched.model.state_dict(), plain.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_rates_rise_geometrically_and_the_losses_are_finite() -> None:
    rates, losses = search(make_trainer())
    assert rates[0] == LOWEST
    assert rates[-1] <= HIGHEST * 1.001
    assert all(math.isclose(b / a, rates[1] / rates[0], rel_tol=1e-6) for a, b in itertools.pairwise(rates))
    assert all(math.isfinite(loss) for loss in losses)


def test_a_search_can_be_stopped() -> None:
    asked = iter([False] * 5 + [True] * 100)
    rates, _ = search(make_trainer(), stopped=lambda: next(asked))
    assert len(rates) == 5


def test_the_suggestion_is_where_the_loss_falls_most_steeply() -> None:
    rates = [10 ** (-7 + 8 * i / 99) for i in range(100)]
    losses = [2.3 - 2 / (1 + math.exp(-4 * (math.log10(rate) + 2.5))) + (rate if rate > 0.5 else 0) for rate in rates]
    assert suggest(rates, losses) == pytest.approx(10**-2.5, rel=0.2)


def test_the_noise_of_the_first_batches_does_not_count() -> None:
    rates = [10 ** (-7 + 8 * i / 99) for i in range(100)]
    losses = [2.3 - 2 / (1 + math.exp(-4 * (math.log10(rate) + 2.5))) for rate in rates]
    losses[:3] = [0.1, 0.8, 1.5]
    assert suggest(rates, losses) == pytest.approx(10**-2.5, rel=0.2)


def test_there_is_no_suggestion_where_the_loss_never_falls() -> None:
    assert suggest([10.0**n for n in range(-7, 1)] * 3, [float(n) for n in range(24)]) is None
    assert suggest([], []) is None


def smoothed(batches: torch.Tensor) -> list[float]:
    """Return the losses of single batches as a search smooths them."""
    mean, found = 0.0, []
    for index, loss in enumerate(batches.tolist(), start=1):
        mean = 0.9 * mean + 0.1 * loss
        found.append(mean / (1 - 0.9**index))
    return found


def test_a_flat_curve_has_noise_and_no_suggestion() -> None:
    rates = [10 ** (-7 + 8 * i / 99) for i in range(100)]
    draws = torch.Generator().manual_seed(1)
    flat = [1 + 0.1 * torch.randn(100, generator=draws) for _ in range(200)]
    assert sum(suggest(rates, smoothed(batches)) is None for batches in flat) > 190
    falls = 0.5 / (1 + 10 ** (-2 * (torch.tensor(rates).log10() + 2.5)))
    assert all(suggest(rates, smoothed(batches - falls)) for batches in flat)


@pytest.mark.peers
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_rates_and_losses_are_those_of_torch_lr_finder(optimizer: str) -> None:
    """Step by step, before smoothing: theirs weighs the past otherwise, and starts from the first loss."""
    peer = pytest.importorskip("torch_lr_finder", reason="needs the extra `peers`")
    trainer = make_trainer(optimizer=optimizer, weight_decay=0.0)
    trainer.model.stem[3].p = 0.0  # the two draw other random numbers
    model = copy.deepcopy(trainer.model)
    batches = [(x.clone(), y.clone()) for x, y in trainer.batches(0, 0)]
    rates, smooth = search(trainer)
    count = len(rates)
    assert count > 60
    given = torch.utils.data.DataLoader([batches[i % len(batches)] for i in range(100)], batch_size=None)
    kind = {"sgd": partial(torch.optim.SGD, momentum=0.9), "adamw": partial(torch.optim.AdamW, weight_decay=0.0)}
    finder = peer.LRFinder(model, kind[optimizer](model.parameters(), lr=LOWEST), torch.nn.CrossEntropyLoss())
    finder.range_test(given, start_lr=LOWEST, end_lr=HIGHEST, num_iter=100, smooth_f=0, diverge_th=1e9)
    assert rates == pytest.approx(finder.history["lr"][:count])
    means = [value * (1 - 0.9 ** (i + 1)) for i, value in enumerate(smooth)]
    losses = [(now - 0.9 * before) / 0.1 for before, now in itertools.pairwise([0.0, *means])]
    calm = count - 20  # where the loss explodes, so do the last digits
    assert losses[:calm] == pytest.approx(finder.history["loss"][:calm], rel=1e-4)
