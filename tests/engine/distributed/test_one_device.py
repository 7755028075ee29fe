"""Several ranks train as one device does: to the same weights but for the last digits, and the same predictions."""

import shutil
from typing import Any

import pytest
import torch
from forked_ranks import on_ranks
from normed_network import NormedNetwork
from ranked_runs import STEPS, RankedRuns

from finetui.engine.distributed.ranks import Ranks
from finetui.engine.protocol.commands import Evaluate, Stop
from finetui.engine.protocol.events import Evaluated, TrainPoint

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"accumulate": 3},
    "weighed": {"class_weights": "balanced", "label_smoothing": 0.1, "optimizer": "adamw", "lr": 0.002},
    "augmented": {"augment": "standard"},
    "synced": {"sync_bn": True},
    # The last batch has an image or two: too few for all ranks to have one.
    "lonely": {"batch_size": 103, "augment": "light"},
    "synced-lonely": {"batch_size": 77, "sync_bn": True},
}


@pytest.fixture(scope="module", autouse=True)
def trained(runs: RankedRuns) -> None:
    """Each setting with 1, 2 and 4 ranks, for an epoch and a step; one device computes batches in one part."""

    def work(ranks: Ranks) -> None:
        for name, settings in SETTINGS.items():
            one = {key: value for key, value in settings.items() if key not in ("accumulate", "sync_bn")}
            config = runs.config(f"{name}-{ranks.world}", epochs=2, **(settings if ranks.world > 1 else one))
            commands = [(0, Evaluate()), (STEPS + 1, Stop())]
            if "lonely" in name:
                commands = [(310 // settings["batch_size"] + 1, Stop())]

            def script(step: int, waiting: Any = commands, name: str = config.run.name) -> Any:
                if not waiting or step < waiting[0][0]:
                    return None
                if len(waiting) == 1 and name.startswith("plain"):
                    shutil.copy(runs.folder(name).best_predictions, runs.path / f"{name}.first")
                return waiting.pop(0)[1]

            model = NormedNetwork() if name.startswith("synced") else None
            runs.train(ranks, config, model=model, script=script if ranks.is_first else None)

    for world in (1, 2, 4):
        on_ranks(world, work, runs.path)


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("name", SETTINGS)
def test_an_epoch_ends_with_the_weights_of_one_device(runs: RankedRuns, name: str, world: int) -> None:
    alone, together = runs.weights(f"{name}-1"), runs.weights(f"{name}-{world}")
    assert alone.keys() == together.keys()
    for tensor in alone:
        torch.testing.assert_close(together[tensor], alone[tensor], rtol=1e-5, atol=1e-5)
    if name == "synced":  # what takes no part is not touched
        assert torch.equal(together["spare"], torch.ones(3))
        assert torch.equal(together["mixed.1.weight"], NormedNetwork().mixed[1].weight)


@pytest.mark.parametrize("world", [2, 4])
def test_the_same_weights_make_the_same_evaluation(runs: RankedRuns, world: int) -> None:
    first, of_several = (runs.told(f"plain-{number}", Evaluated)[0] for number in (1, world))
    same = {name: getattr(first, name) for name in ("loss", "accuracy", "n", "confusion", "per_class", "averages")}
    assert same == {name: getattr(of_several, name) for name in same}
    assert first.n == 90


@pytest.mark.parametrize("world", [2, 4])
def test_points_tell_of_all_ranks(runs: RankedRuns, world: int) -> None:
    def means(number: int) -> tuple[float, float]:
        points = runs.told(f"weighed-{number}", TrainPoint)
        steps = sum(point.steps for point in points)
        assert steps == STEPS + 1
        return sum(point.loss * point.steps for point in points) / steps, points[-1].grad_norm

    assert means(world) == pytest.approx(means(1), rel=1e-4)
