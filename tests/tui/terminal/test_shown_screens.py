"""What a terminal shows of the dashboard after any keys and toasts is what painting all of it anew would show."""

import random

import pyte
import pytest
from canned_layers import app_over, opened
from pilot import open_app
from sent import seen_cells, sent_by

KEYS = ("1", "2", "3", "4", "5", "up", "down", "home", "end", "tab", "space", "z", "escape", *"gmoMrc?f")
TOAST = "Evaluated at step 32: test loss 2.2649, accuracy 27.02%, the best so far (chosen on test). "


@pytest.mark.parametrize("size", [(80, 23), (120, 40)])
@pytest.mark.parametrize("seed", [0, 9])
async def test_nothing_stays_that_has_gone(size: tuple[int, int], seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    app, _ = app_over()
    async with open_app(app, size=size) as pilot:
        await opened(pilot, "0.31 ms")
        shown = pyte.Screen(*size)
        terminal = pyte.Stream(shown)
        sent = sent_by(app, monkeypatch)
        terminal.feed(app.screen._compositor.render_full_update().render_segments(app.console))
        done: list[str] = []
        for _ in range(40):
            done.append(chance.choice([*KEYS, "toast", "wait", "wait"]))
            if done[-1] == "toast":
                app.notify(TOAST * chance.choice([1, 1, 2]))
            elif done[-1] == "wait":
                await pilot.wait(chance.choice([0.1, 0.5, 2, 5]))
            else:
                await pilot.press(done[-1])
            await pilot.wait(0.1)
            for update in sent:
                terminal.feed(update)
            sent.clear()
            whole = pyte.Screen(*size)
            pyte.Stream(whole).feed(app.screen._compositor.render_full_update().render_segments(app.console))
            assert seen_cells(shown) == seen_cells(whole), done
