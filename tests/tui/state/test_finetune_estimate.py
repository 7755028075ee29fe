"""How long a finetune is said to take."""

import msgspec
from canned import evaluated, layers, point, running

from finetui.engine.protocol.commands import PreviewFinetune
from finetui.engine.protocol.events import FeaturesChanged, FinetunePreview, LayersChanged, StagePreview
from finetui.tui.state.finetune_estimate import duration, estimate
from finetui.tui.state.store import Store

ALL = ("conv1", "conv2", "fc1", "fc2", "fc3")
HEAD = StagePreview(
    name="head only", first_epoch=1, last_epoch=2, trains=("fc3",), parameters=850, learning_rates=(1.0, 1.0),
    frozen=ALL[:-1], work=0.25,
)  # fmt: skip
WHOLE = StagePreview(
    name="all layers", first_epoch=3, last_epoch=5, trains=ALL, parameters=44426, learning_rates=(0.1, 0.1), work=1.0
)
PREVIEW = FinetunePreview(command=PreviewFinetune(), stages=(HEAD, WHOLE))


def view_after(*events: object):
    store = Store()
    store.fold(running(point(50), evaluated(1, 0.9), *events))
    return store.view


def test_it_takes_as_long_as_the_run_it_starts_from_by_the_work_of_each_stage() -> None:
    view = view_after()  # 6400 images a second, an evaluation in 0.1 s
    found = estimate(PREVIEW, view, 6400)
    assert found is not None
    assert [round(seconds, 3) for seconds in found.stages] == [0.7, 3.3]
    assert found.words == "up to about 4 s"
    augmented = msgspec.structs.replace(view.config, data=msgspec.structs.replace(view.config.data, augment="light"))
    found = estimate(PREVIEW, msgspec.structs.replace(view, config=augmented), 6400)
    assert found is not None
    assert found.words == "about 4 s"  # nothing frozen is computed only once


def test_a_run_that_trains_a_part_is_known_by_the_stage_that_trains_the_same() -> None:
    view = view_after(LayersChanged(layers=layers(*ALL[:-1])))
    found = estimate(PREVIEW, view, 6400)
    assert found is not None
    assert [round(seconds, 3) for seconds in found.stages] == [2.2, 12.3]
    assert estimate(PREVIEW, view_after(LayersChanged(layers=layers("conv1"))), 6400) is None


def test_what_cannot_be_told_is_not() -> None:
    view = view_after()
    assert estimate(PREVIEW, view, None) is None
    assert estimate(PREVIEW, msgspec.structs.replace(view, speed=0.0), 6400) is None
    unknown = msgspec.structs.replace(PREVIEW, stages=(msgspec.structs.replace(HEAD, work=None),))
    assert estimate(unknown, view, 6400) is None
    held = view_after(FeaturesChanged(state="held", layers=("conv1",)))
    assert estimate(PREVIEW, held, 6400) is None


def test_durations_have_two_digits() -> None:
    assert [duration(seconds) for seconds in (0.2, 59.7, 150, 5990, 7200, 40000)] == [
        "1 s", "60 s", "2 min", "100 min", "2.0 h", "11 h",
    ]  # fmt: skip
