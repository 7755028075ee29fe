"""What the tests of the Machine screen do with it."""

from canned import CannedLink, prepared
from pilot import DashboardPilot

from finetui.engine.protocol.events import AnyEvent, RunStarted, StateChanged
from finetui.tui.screens.machine.screen import MachineScreen

SIZES = [(80, 24), (120, 40), (200, 60)]
BEGINNING: tuple[AnyEvent, ...] = (
    prepared(),
    RunStarted(name="a-run", path="/runs/a-run"),
    StateChanged(state="running"),
)


async def opened(pilot: DashboardPilot, link: CannedLink, *events: AnyEvent) -> MachineScreen:
    """Open the screen over a run that has told `events`."""
    for event in (*BEGINNING, *events):
        link.events.put(event)
    await pilot.settle()
    await pilot.press("M")
    await pilot.settle()
    assert isinstance(pilot.app.screen, MachineScreen)
    return pilot.app.screen
