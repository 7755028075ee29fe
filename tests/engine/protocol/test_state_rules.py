"""What is refused in which state, and by a source that cannot do it."""

from finetui.engine.protocol.capabilities import Capabilities
from finetui.engine.protocol.commands import Pause, SetLearningRate
from finetui.engine.protocol.state_rules import refusal


def test_what_a_source_cannot_do_is_refused_in_every_state_with_its_reason() -> None:
    some = Capabilities(("Pause",), "this loop has no optimizer")
    assert refusal(Pause, "running", some) is None
    assert refusal(Pause, "paused", some) == "training is paused"
    assert refusal(SetLearningRate, "running", some) == refusal(SetLearningRate, "paused", some) == some.why_no_others
    assert refusal(SetLearningRate, "running") is None
