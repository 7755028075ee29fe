"""The two lines on every screen: what they say, and that they cut nothing."""

import re

import msgspec
import pytest
from canned import CannedLink, evaluated, point, running
from canned_machine import gpu, sample
from pilot import open_app, picture

from finetui.engine.protocol.events import AnyEvent, FeaturesChanged, Phase, RunStarted, StageStarted, StateChanged
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.status_lines import figures_line, run_line
from finetui.tui.state.store import Store

NAME = "2026-11-27-mnist-sample-lenet-probe"
PHASE = Phase(name="Evaluating", done=430, total=1000)
STAGE = StageStarted(index=2, count=3, name="all layers", epochs=3, learning_rate=0.01)
HELD = FeaturesChanged(state="held", layers=("conv1",), last="conv1", bytes=61_440_000, seconds=4.1)


def run(*more: AnyEvent, gpus: int = 1) -> Store:
    store = Store()
    began, ready, started, _ = running()
    store.fold([began, ready, msgspec.structs.replace(started, name=NAME), StateChanged(state="running", time=1.0)])
    seen = msgspec.structs.replace(evaluated(1, 0.9843), time=62.0)
    store.fold([point(100, time=60.0), seen, point(150, lr=0.0028799, time=155.0), *more])
    store.machine.hear(sample(0, tuple(map(gpu, range(gpus)))))
    return store


@pytest.mark.parametrize("more", [(), (PHASE, STAGE), (HELD,), (StateChanged(state="finished"),)])
def test_nothing_is_cut_at_any_width(more: tuple[AnyEvent, ...]) -> None:
    store = run(*more)
    widest = {*re.split(" {2,}", run_line(store, 400).plain), *re.split(" {2,}", figures_line(store, 400).plain)}
    words = {word for part in widest for word in part.split()}
    for width in range(60, 201):
        for line in (run_line(store, width), figures_line(store, width)):
            assert line.cell_length == width
            for word in line.plain.split():
                bar = set(word) <= set("━─")
                name = word.startswith("…") and f"-{NAME}".endswith(f"-{word[1:]}")
                brief = word in ("cached",)
                assert word in words or bar or name or brief, (width, word)
        assert re.search("running|finished", run_line(store, width).plain)
        assert "best 98.43% @1" in figures_line(store, width).plain


def test_what_is_said_first() -> None:
    narrow, figures = run_line(run(), 60).plain, figures_line(run(), 80).plain
    assert re.fullmatch(r" ● running  …\S*-probe +epoch  2/10 .* 15%  ETA  0:09 ", narrow)
    assert re.fullmatch(r" best 98.43% @1   lr 0.00288   6.4k img/s   2:34 elapsed +GPU 0  97% ", figures)
    busy = run_line(run(PHASE, STAGE), 120).plain
    assert "2/3 all layers" in busy and "epoch  2/10  Evaluating" in busy and "43%" in busy and "ETA" in busy
    assert "s starts" in run_line(run(StateChanged(state="ready")), 80, "s starts").plain
    assert "ETA" not in run_line(run(StateChanged(state="finished")), 200).plain
    assert "CPU" not in figures_line(run(StateChanged(state="finished")), 200).plain
    # A run that was rolled back to where only the accuracy of its best is known does not make an epoch up.
    assert "best 93.00%   lr" in figures_line(unknown_best(), 100).plain


def unknown_best() -> Store:
    store = run()
    store.view = msgspec.structs.replace(store.view, best=None, best_accuracy=0.93)
    return store


async def test_they_are_on_every_screen_and_move_on_there() -> None:
    link = CannedLink(*running(point(50), evaluated(1, 0.9)), RunStarted(name="live1", path="/runs/live1"))
    app = FinetuiApp(link)
    async with open_app(app, size=(100, 30)) as pilot:
        await pilot.settle()
        step = 50
        for key in ("", "m", "g", "o", "M"):
            await pilot.press(*[key] * bool(key))
            step += 60
            link.events.put(point(step))
            await pilot.settle()
            top, second = picture(app).splitlines()[:2]
            assert "● running  live1" in top and f"epoch {int(step / 100) + 1:>2}/10" in top, (key, top)
            assert "best 90.00%" in second and "img/s" in second, (key, second)
        link.events.put(StateChanged(state="crashed", reason="it was killed"))
        await pilot.settle()
        assert "✗ crashed  live1" in picture(app).splitlines()[0], "running and dead look different"
