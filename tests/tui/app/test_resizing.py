"""A terminal of another size is painted whole: nothing is known of what it shows."""

import pytest
from canned import CannedLink
from pilot import open_app
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.geometry import Region, Size
from textual.screen import Screen

from finetui.tui.app.app import FinetuiApp
from finetui.tui.app.terminal_app import TerminalApp


@pytest.mark.parametrize("keys", [(), ("r",), ("g",), ("?",), ("ctrl+p",)])
async def test_each_screen_is_laid_out_and_painted_for_the_new_size(
    monkeypatch: pytest.MonkeyPatch, keys: tuple[str, ...]
) -> None:
    painted: list[LayoutUpdate | ChopsUpdate] = []
    display = TerminalApp._display

    def record(app: TerminalApp, screen: Screen[object], update: LayoutUpdate | ChopsUpdate) -> None:
        painted.append(update)
        display(app, screen, update)

    monkeypatch.setattr(TerminalApp, "_display", record)
    app = FinetuiApp(CannedLink())
    async with open_app(app, size=(120, 40)) as pilot:
        await pilot.press(*keys)
        await pilot.settle()
        for size in (Size(80, 24), Size(200, 60), Size(120, 40)):
            painted.clear()
            await pilot.resize_terminal(*size)
            await pilot.settle()
            whole = [update for update in painted if isinstance(update, LayoutUpdate)]
            assert whole and whole[0].region == Region(0, 0, *size)
            assert app.screen.outer_size == app.train_screen.outer_size == size


async def test_the_old_size_again_before_another_was_laid_out_is_painted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    painted: list[LayoutUpdate | ChopsUpdate] = []
    app = FinetuiApp(CannedLink())
    async with open_app(app) as pilot:
        await pilot.settle()
        monkeypatch.setattr(app, "_display", lambda _screen, update: painted.append(update))
        for size in (Size(60, 24), Size(80, 24)):
            app.screen._screen_resized(size)
        await pilot.settle()
        assert any(isinstance(update, LayoutUpdate) for update in painted)
