"""What is said of features: what frozen layers make of each image, computed once and kept."""

from finetui.engine.protocol.events import FeaturesChanged
from finetui.tui.state.numbers import scaled

_PLACES = {"device": "on the device", "memory": "in memory", "file": "in a file"}


def feature_line(event: FeaturesChanged) -> str:
    """Return a sentence for the log."""
    count = len(event.layers)
    layers = f"{count} frozen layer{'s' if count != 1 else ''}"
    if event.state == "filling":
        return f"features: computing the output of {layers} (up to {event.last}) once for {event.images:,} images"
    if event.state == "held" and event.epoch_seconds is not None:
        return f"features: the steps of an epoch with cached features took {event.epoch_seconds:.1f} s"
    if event.state == "held":
        where = f"{_size(event.bytes)} {_PLACES[event.place]}"
        return f"features of {layers} (up to {event.last}) are cached: {where}, computed in {event.seconds:.1f} s"
    if event.state == "dropped":
        return f"features dropped: {event.reason}"
    if event.state == "on":
        return f"features on: {event.reason}"
    return f"features off: {event.reason}; the frozen layers are computed at every step"


def feature_chip(event: FeaturesChanged, *, brief: bool = False) -> str:
    """Return a few words for the top of the screen, as few as there can be if `brief`."""
    if event.state == "held":
        return "features cached" if brief else f"features of {event.last}: {_size(event.bytes)} {_PLACES[event.place]}"
    return "features: caching" if event.state == "filling" else "features: off"


def _size(count: int) -> str:
    number, prefix = scaled(count)
    return f"{number} {prefix}B"
