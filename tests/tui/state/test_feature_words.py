"""What the dashboard says of features."""

import msgspec

from finetui.engine.protocol.events import FeaturesChanged, Rewound
from finetui.tui.screens.train.status_lines import status
from finetui.tui.state.log_lines import log_line
from finetui.tui.state.store import View, reduce

HELD = FeaturesChanged(
    state="held", layers=("conv1", "conv2"), last="conv2", bytes=61_440_000, images=60_000, seconds=4.1
)


def test_the_first_line_has_them_while_they_are_held() -> None:
    view = reduce(View(state="running", device="cpu"), HELD)
    assert "features of conv2: 61.4 MB in memory" in status(view, 120).plain
    measured = FeaturesChanged(state="held", last="conv2", bytes=61_440_000, seconds=4.1, epoch_seconds=0.5)
    assert "features of conv2: 61.4 MB in memory  ·  cpu" in status(reduce(view, measured), 120).plain
    assert "features" not in status(reduce(view, FeaturesChanged(state="dropped", reason="conv2 changed")), 120).plain
    back = Rewound(cause="rollback", file="last.ckpt", at=0, epoch=0, undone=0, learning_rate=0.1, layers=())
    assert reduce(view, back).features is None


def test_a_narrow_first_line_has_them_in_short_and_never_loses_the_rest_for_them() -> None:
    view = reduce(View(state="running", name="a-probe", parent="a-long-name-of-a-run", device="cpu"), HELD)
    assert status(view, 80).plain.endswith("features cached  ·  cpu ")
    assert status(view, 60).plain.endswith("a-long-name-of-a-run   cpu ") or "cpu" in status(view, 60).plain
    many = msgspec.structs.replace(view, audience=("ada", "bert"))
    assert "2 dashboards" in status(many, 65).plain and "features" not in status(many, 65).plain


def test_the_log_tells_what_became_of_them() -> None:
    said = []
    for event in (
        FeaturesChanged(state="filling", layers=("conv1",), last="conv1", images=60_000),
        HELD,
        FeaturesChanged(state="dropped", reason="conv2 changed"),
        FeaturesChanged(state="off", reason="they do not fit"),
        FeaturesChanged(state="on", reason="the run goes on with --features cache"),
    ):
        line = log_line(event)
        assert line is not None
        said.append((line.level, line.text))
    assert [level for level, _ in said] == ["info", "info", "info", "warning", "info"]
    assert said[0][1] == "features: computing what 1 frozen layer (up to conv1) make of 60,000 images, once"
    assert said[1][1] == "features of 2 frozen layers (up to conv2) are held: 61.4 MB in memory, computed in 4.1 s"
    assert said[2][1] == "features dropped: conv2 changed"
