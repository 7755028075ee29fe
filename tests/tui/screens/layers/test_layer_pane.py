"""Looks into a layer on the Layers screen, and the screen at the edges, over canned events and answers."""

import pytest
from canned_layers import ALL, EngineLink, app_over, module, opened
from pilot import open_app, picture
from rich.cells import cell_len

from finetui.engine.protocol.commands import FetchImages, ViewLayer
from finetui.engine.protocol.events import Layer, LayerGroup, LayersChanged
from finetui.tui.screens.layers.module_tree import ModuleRows
from finetui.tui.screens.layers.screen import LayersScreen
from finetui.tui.widgets.thumbnail_grid import ThumbnailGrid

# -- looks into a layer ---------------------------------------------------------------------------------------------


async def test_each_view_is_asked_for_and_shown() -> None:
    app, link = app_over()
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot, "n5")  # the last of the filters
        assert "6×1×5×5  -0.312 to 0.5  mean 0.125  zeros 25.0%  0 not finite  step 1,234" in picture(app)
        await pilot.press("2")
        await pilot.until(lambda: bool(link.asked(FetchImages)))
        await pilot.press("3")
        await pilot.until(lambda: "┴" in picture(app))
        assert "█" in picture(app)
        assert "-1 " in picture(app)
        await pilot.click("#view-activations")
        await pilot.until(lambda: link.asked(ViewLayer)[-1].view == "activations")
        looks = [(look.layer, look.view, look.index, look.first) for look in link.asked(ViewLayer)]
        assert looks == [("conv1", view, 0, 0) for view in ALL]
        # The same key looks anew.
        await pilot.press("4")
        await pilot.until(lambda: len(link.asked(ViewLayer)) == 5)
        await pilot.press("z")
        assert not screen.query_one(ModuleRows).region
        await pilot.press("escape")
        assert screen.query_one(ModuleRows).region
        assert app.screen is screen


async def test_filters_are_as_large_as_all_of_them_fit_until_somebody_wants_another_size() -> None:
    app, _ = app_over()
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot, "n5")
        grid = screen.query_one(ThumbnailGrid)
        assert grid.size_name == "small"
        await pilot.resize_terminal(200, 60)
        await pilot.press("z")
        await pilot.until(lambda: grid.size_name == "medium" and grid.has_focus)
        assert grid.virtual_size.height <= grid.size.height
        await pilot.press("left_square_bracket")
        assert grid.size_name == "small"
        await pilot.resize_terminal(180, 58)
        await pilot.settle()
        assert grid.size_name == "small"


async def test_only_where_the_cursor_rests_is_the_engine_asked() -> None:
    app, link = app_over()
    async with open_app(app, size=(80, 40)) as pilot:
        await opened(pilot, "n5")
        await pilot.press("down", "down", "down", "down", "down", "down")
        await pilot.until(lambda: len(link.asked(ViewLayer)) == 2 or link.asked(ViewLayer)[-1].layer == "fc1")
        assert [look.layer for look in link.asked(ViewLayer)] == ["conv1", "fc1"]


async def test_views_that_a_module_lacks_say_why() -> None:
    app, link = app_over()
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot, "n5")
        await pilot.press("down")
        await pilot.until(lambda: "relu has no weights of its own" in picture(app))
        assert screen.query_one("#view-filters").has_class("-unavailable")
        assert not screen.query_one("#view-feature-maps").has_class("-unavailable")
        await pilot.press("down")
        await pilot.until(lambda: "layer1 has no weights of its own; choose a layer inside it" in picture(app))
        await pilot.press("down", "down", "down")
        await pilot.until(lambda: "are one-dimensional" in picture(app))
        assert len(link.asked(ViewLayer)) == 1


async def test_late_answers_to_another_look_are_dropped() -> None:
    app, link = app_over()
    async with open_app(app, size=(80, 40)) as pilot:
        await opened(pilot, "n5")
        link.silent = True
        await pilot.press("3")
        await pilot.until(lambda: len(link.asked(ViewLayer)) == 2)
        await pilot.press("4")
        await pilot.until(lambda: len(link.asked(ViewLayer)) == 3)
        assert "Loading" in picture(app)
        late, now = link.asked(ViewLayer)[1:]
        link.events.put(link.view(now, edges=(0.0, 7.5), counts=(3,)))
        await pilot.until(lambda: "7.5" in picture(app))
        link.events.put(link.view(late, edges=(0.0, 9.5), counts=(3,)))
        await pilot.wait(0.4)
        assert "9.5" not in picture(app)
        # So are those that come once the screen is closed.
        await pilot.press("down", "escape")
        link.answer(now)
        await pilot.wait(0.3)
        assert app.screen is app.train_screen


async def test_pages_are_fetched_as_they_come_into_sight() -> None:
    link = EngineLink()
    link.total = 4096
    app, _ = app_over(link=link)
    async with open_app(app, size=(80, 24)) as pilot:
        screen = await opened(pilot, "n3")
        firsts = [look.first for look in link.asked(ViewLayer)]
        assert firsts == [0]
        await pilot.press("z", "end")
        await pilot.until(lambda: "n4095" in picture(app))
        firsts = [look.first for look in link.asked(ViewLayer)]
        assert firsts[-1] == 4064
        assert len(firsts) == len(set(firsts)) < 8
        assert screen.query_one(ThumbnailGrid).cursor == 4095
        link.refuse = {ViewLayer: "the page is not there"}
        await pilot.press("home")
        await pilot.wait(0.3)
        for _ in range(12):
            await pilot.press("pagedown")
        await pilot.until(lambda: "the page is not there" in picture(app) and "not there" in picture(app))


async def test_the_test_image_is_chosen_for_maps_and_activations() -> None:
    app, link = app_over()
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot, "n5")
        await pilot.press("full_stop", "number_sign")
        assert "the same for every test image" in picture(app)
        await pilot.press("2", "full_stop", "full_stop", "comma")
        await pilot.until(lambda: link.asked(ViewLayer)[-1].index == 1)
        assert link.asked(FetchImages)[-1].indices == (1,)
        await pilot.press("number_sign", "1", "2", "enter")
        await pilot.until(lambda: link.asked(ViewLayer)[-1].index == 12)
        assert isinstance(app.focused, ModuleRows)
        # Escape leaves the field, not the screen, and a number that was not submitted is gone.
        await pilot.press("number_sign", "7", "escape")
        assert app.screen is screen
        assert "test  12" in picture(app)
        await pilot.press("number_sign", *"1000", "enter")
        await pilot.wait(0.3)
        assert "there are 1,000 test images, numbered from 0" in picture(app)
        assert link.asked(ViewLayer)[-1].index == 12
        await pilot.click("ImageChooser ActionButton")
        await pilot.until(lambda: link.asked(ViewLayer)[-1].index == 11)
        await pilot.press("4")
        await pilot.until(lambda: link.asked(ViewLayer)[-1].view == "activations")
        assert link.asked(ViewLayer)[-1].index == 11


async def test_a_look_that_is_refused_says_why() -> None:
    link = EngineLink()
    link.refuse = {ViewLayer: "conv1 is not reached by the forward pass"}
    app, _ = app_over(link=link)
    async with open_app(app, size=(80, 24)) as pilot:
        await opened(pilot, "is not reached by")


# -- at the edges ---------------------------------------------------------------------------------------------------


async def test_hostile_names_are_shown_and_keep_the_columns_straight() -> None:
    names = ("[red]x[/]" * 3, "\x1b[31mred", "漢字" * 30, "a\u202eb", "e\u0301\u200b")
    link = EngineLink()
    link.modules = (module(""), *(module(name, 156) for name in names))
    table = tuple(
        LayerGroup(name=name, summary="[/]", parameters=156, frozen=False,
                   layers=(Layer(name=name, summary="[/]", parameters=156, frozen=False),))
        for name in names
    )  # fmt: skip
    app, _ = app_over(LayersChanged(layers=table), link=link)
    async with open_app(app, size=(120, 40)) as pilot:
        await opened(pilot, "0.31 ms")
        await pilot.press("home", "down", "down", "down", "3")
        await pilot.wait(0.4)
        text = picture(app)
        assert "[red]x[/]" in text
        assert not {"\x1b", "\u202e", "\u200b"} & set(text)
        ends = {cell_len(line[: line.index(" 156 ")]) for line in text.splitlines() if " 156 " in line}
        assert len(ends) == 1


@pytest.mark.parametrize("size", [(60, 15), (40, 10), (20, 5)])
async def test_small_terminals_show_less_and_survive(size: tuple[int, int]) -> None:
    app, _ = app_over()
    async with open_app(app, size=size) as pilot:
        await pilot.settle()
        await pilot.press("g")
        for key in ("1", "2", "3", "4", "z", "escape", "down", "Z", "space"):
            await pilot.press(key)
            await pilot.wait(0.2)
        assert isinstance(app.screen, LayersScreen)
        assert "Layers" in picture(app)


async def test_without_colours_everything_can_still_be_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app, _ = app_over()
    app.image_mode = "ascii"
    async with open_app(app, size=(120, 40)) as pilot:
        await opened(pilot, "n5")
        await pilot.press("3")
        await pilot.until(lambda: "+--" in picture(app))
        text = picture(app)
        assert "##" in text
        for sign in ("■ frozen", "□ trains", "› "):
            assert sign in text
        assert not set("▁▂▃▄▅▆▇█") & set(text)


async def test_it_follows_a_light_theme() -> None:
    app, _ = app_over()
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot, "n5")
        rows = screen.query_one(ModuleRows)
        dark = rows.render_line(3)
        app.theme = "finetui-light"
        await pilot.drawn()
        light = rows.render_line(3)
        assert [segment.style.color for segment in dark] != [segment.style.color for segment in light]
        assert dark.text == light.text
