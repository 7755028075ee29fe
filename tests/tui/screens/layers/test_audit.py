"""The audit on the Layers screen: asked for by its tab, red where something is wrong, with the reason."""

import msgspec
import pytest
from canned_layers import AUDIT, EngineLink, app_over, line_with, opened
from pilot import open_app, picture

from finetui.engine.protocol.audit import AuditedTensor, Finding
from finetui.engine.protocol.commands import AuditParameters
from finetui.engine.protocol.events import StateChanged
from finetui.tui.app.app import FinetuiApp
from finetui.tui.screens.layers.audit_rows import AuditRows, lines
from finetui.tui.screens.layers.module_tree import ModuleRows
from finetui.tui.state.audited import paths_of_wrong, within

SIZES = [(80, 24), (120, 40), (200, 60)]


def red(app: FinetuiApp, word: str) -> bool:
    """Whether the line with `word` in the list of tensors is red."""
    rows = app.screen.query_one(AuditRows)
    error = app.theme_variables["error"]
    place = next(i for i, row in enumerate(rows._rows) if word in row.plain)
    return error != "" and any("$error" in str(span.style) for span in rows._rows[place].spans)


@pytest.mark.parametrize("size", SIZES)
async def test_the_tab_asks_and_shows_what_is_wrong(size: tuple[int, int]) -> None:
    app, link = app_over()
    async with open_app(app, size=size) as pilot:
        screen = await opened(pilot, "0.31 ms")
        assert link.asked(AuditParameters) == []  # nothing is audited unless somebody asks
        assert "✗" not in picture(app)
        await pilot.press("home", "5")
        await pilot.until(lambda: "4 wrong" in picture(app))
        assert [question.steps for question in link.asked(AuditParameters)] == [20]
        text = picture(app)
        for word in ("training: gradients are not cleared", "relu: it drops values", "step 1,234", "5 Audit"):
            assert word in text, f"{word} is missing at {size}:\n{text}"
        modules = screen.query_one(ModuleRows)
        states = {row.path: modules.line_of(row, size[0]).plain for row in modules._rows}
        assert {path for path, line in states.items() if "✗" in line} == paths_of_wrong(AUDIT)
        assert "✗ " in line_with(app, "layer1")
        assert "□ trains" in states["conv1"]
        rows = screen.query_one(AuditRows)
        reasons = [row for row in rows._rows if row.plain.startswith("  ")]
        assert all(row.cell_length <= rows.size.width for row in reasons)
        assert red(app, "bn.running_mean")
        assert red(app, "✗ its statistics drift")
        assert not red(app, "conv.weight")
        assert not red(app, "· it is updated twice")
        # Zoomed, all of it can be reached by keys.
        await pilot.press("z")
        await pilot.until(lambda: screen.focused is rows)
        await pilot.press("end")
        await pilot.until(lambda: "fc3.weight" in picture(app))
        assert "SGD lr 0.1 m 0.9 wd 0.0005" in picture(app)


async def test_the_chosen_module_is_what_is_shown_and_again_asks_again() -> None:
    app, link = app_over()
    async with open_app(app, size=(120, 40)) as pilot:
        screen = await opened(pilot, "0.31 ms")
        await pilot.press("home", "5")
        await pilot.until(lambda: "4 wrong" in picture(app))
        await pilot.press("end")
        await pilot.until(lambda: "fc1.weight" not in picture(app))
        assert "fc3.weight" in picture(app)
        await pilot.press("1", "5")  # looked at once more: what is known stays
        await pilot.settle()
        assert len(link.asked(AuditParameters)) == 1
        link.audit = msgspec.structs.replace(AUDIT, findings=())
        await pilot.press("5")
        await pilot.until(lambda: "all as they claim" in picture(app))
        assert len(link.asked(AuditParameters)) == 2
        assert "✗" not in picture(app)
        assert screen.query_one(ModuleRows).chosen.path == "fc3"


async def test_where_nothing_trains_it_says_so_and_asks_nothing() -> None:
    app, link = app_over(StateChanged(state="paused"))
    async with open_app(app, size=(80, 24)) as pilot:
        await opened(pilot, "0.31 ms")
        await pilot.press("5")
        await pilot.until(lambda: "the audit needs training steps, and training is paused" in picture(app))
        assert link.asked(AuditParameters) == []
        link.events.put(StateChanged(state="running"))
        await pilot.settle()
        link.refuse = {AuditParameters: "the run is finished"}
        await pilot.press("5")
        await pilot.until(lambda: "the run is finished" in picture(app))
        assert len(link.asked(AuditParameters)) == 1


async def test_while_it_goes_on_and_an_answer_after_the_screen_has_gone() -> None:
    link = EngineLink()
    app, _ = app_over(link=link)
    async with open_app(app, size=(80, 24)) as pilot:
        await opened(pilot, "0.31 ms")
        link.silent = True
        await pilot.press("5")
        await pilot.until(lambda: f"Watching until step {app.train_screen.store.view.step + 20}…" in picture(app))
        await pilot.press("5", "5")
        assert len(link.asked(AuditParameters)) == 1
        await pilot.press("g")
        link.answer(link.asked(AuditParameters)[0])
        await pilot.settle()
        assert app.failure is None


def test_what_is_within_a_path() -> None:
    names = ("fc1.weight", "fc10.weight", "cls_token", "fc1.inner.weight")
    tensors = tuple(AuditedTensor(name=name, module=name.rpartition(".")[0]) for name in names)
    audit = msgspec.structs.replace(AUDIT, tensors=tensors, findings=(Finding(name="cls_token", reason="no"),))
    assert [tensor.name for tensor in within(audit, "fc1")] == ["fc1.weight", "fc1.inner.weight"]
    assert within(audit, "")[0].name == "cls_token"  # what is wrong comes first
    assert paths_of_wrong(audit) == {"", "cls_token"}
    assert paths_of_wrong(AUDIT) == {"", "relu", "layer1", "layer1.0", "layer1.0.bn"}
    assert [line.plain for line in lines(AUDIT, "nothing", 60)][-1] == "no parameters or buffers"


def test_long_names_and_reasons_are_laid_out_for_the_width() -> None:
    name = "features.0.blocks.1." * 9 + "weight"
    audit = msgspec.structs.replace(
        AUDIT, tensors=(AuditedTensor(name=name, optimizer="SGD"),), findings=(Finding(name=name, reason="word " * 50),)
    )
    found = lines(audit, "", 70)
    assert all(line.cell_length <= 70 for line in found)
    assert sum(line.plain.count("word") for line in found) == 50
    assert found[1].plain.startswith("…")


def test_where_there_is_little_room_the_chosen_module_is_not_repeated_before_its_tensors() -> None:
    assert [line.plain.split()[0] for line in lines(AUDIT, "fc1", 80)[1:]] == ["tensor", "fc1.weight"]
    narrow = lines(AUDIT, "fc1", 62)[1:]
    assert [line.plain.split()[0] for line in narrow] == ["tensor", "weight"]
    assert narrow[-1].plain.endswith("SGD lr 0.1 m 0.9 wd 0.0005")
