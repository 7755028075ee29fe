from canned import point

from finetui.engine.training.freezing_effect import EffectMeter


def feed(meter: EffectMeter, speed: float, seconds: float) -> list[object]:
    """Let `seconds` pass at `speed` images per second, ten points a second of 50 images each step."""
    import msgspec

    found = []
    for _ in range(round(seconds * 10)):
        images = round(speed / 10)
        event = msgspec.structs.replace(point(1), steps=10, samples_per_second=speed)
        found.append(meter.add(event, images))
    return [event for event in found if event is not None]


def test_the_speed_before_and_after_a_change() -> None:
    meter = EffectMeter(1000)
    assert feed(meter, 5000, 5) == []
    meter.changed(100)
    assert feed(meter, 8000, 0.9) == []
    (effect,) = feed(meter, 8000, 3)
    assert (effect.trainable_before, effect.trainable_after) == (1000, 100)
    assert (round(effect.speed_before), round(effect.speed_after)) == (5000, 8000)
    assert feed(meter, 8000, 3) == []


def test_two_changes_at_once_are_compared_with_what_was_before_both() -> None:
    meter = EffectMeter(1000)
    feed(meter, 5000, 5)
    meter.changed(500)
    feed(meter, 6000, 0.3)
    meter.changed(100)
    (effect,) = feed(meter, 9000, 2)
    assert (effect.trainable_before, effect.trainable_after) == (1000, 100)
    assert round(effect.speed_before) == 5000


def test_nothing_is_said_where_nothing_was_measured_before() -> None:
    meter = EffectMeter(1000)
    feed(meter, 5000, 0.2)
    meter.changed(100)
    assert feed(meter, 9000, 5) == []
