"""What the dashboard says of features."""

import msgspec

from finetui.engine.protocol.events import FeaturesChanged, Rewound
from finetui.tui.screens.status_lines import figures_line
from finetui.tui.state.log_lines import log_line
from finetui.tui.state.store import Store, reduce
from finetui.tui.state.view import View

HELD = FeaturesChanged(
    state="held", layers=("conv1", "conv2"), last="conv2", bytes=61_440_000, images=60_000, seconds=4.1
)


def store_of(view: View) -> Store:
    store = Store()
    store.view = view
    return store


def test_the_second_line_has_them_while_they_are_held() -> None:
    view = reduce(View(state="running"), HELD)
    assert "features of conv2: 61.4 MB in memory" in figures_line(store_of(view), 120).plain
    measured = FeaturesChanged(state="held", last="conv2", bytes=61_440_000, seconds=4.1, epoch_seconds=0.5)
    assert "features of conv2: 61.4 MB in memory" in figures_line(store_of(reduce(view, measured)), 120).plain
    dropped = reduce(view, FeaturesChanged(state="dropped", reason="conv2 changed"))
    assert "features" not in figures_line(store_of(dropped), 120).plain
    back = Rewound(cause="rollback", file="last.ckpt", at=0, epoch=0, undone=0, learning_rate=0.1, layers=())
    assert reduce(view, back).features is None


def test_a_narrow_second_line_has_them_in_short_and_never_loses_the_rest_for_them() -> None:
    view = reduce(View(state="running", learning_rate=0.001, speed=3100.0, best_accuracy=0.9), HELD)
    assert "features cached" in figures_line(store_of(view), 80).plain
    crowded = figures_line(store_of(msgspec.structs.replace(view, audience=("ada", "bert"))), 60).plain
    assert "2 dashboards" in crowded and "features" not in crowded


def test_the_log_tells_what_became_of_them() -> None:
    said = []
    for event in (
        FeaturesChanged(state="filling", layers=("conv1",), last="conv1", images=60_000),
        HELD,
        FeaturesChanged(state="dropped", reason="conv2 changed"),
        FeaturesChanged(state="off", reason="they do not fit"),
        FeaturesChanged(state="on", reason="the run continues with --features cache"),
    ):
        line = log_line(event)
        assert line is not None
        said.append((line.level, line.text))
    assert [level for level, _ in said] == ["info", "info", "info", "warning", "info"]
    assert said[0][1] == "features: computing the output of 1 frozen layer (up to conv1) once for 60,000 images"
    assert said[1][1] == "features of 2 frozen layers (up to conv2) are cached: 61.4 MB in memory, computed in 4.1 s"
    assert said[2][1] == "features dropped: conv2 changed"
