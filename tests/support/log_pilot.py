"""What the tests of the Log screen do with it."""

import time
from pathlib import Path

import msgspec
from canned import LAYERS, CannedLink, running
from pilot import DashboardPilot, picture

from finetui.engine.protocol.events import AnyEvent, Log, Rewound, RunStarted
from finetui.engine.runs.journal import encode_line
from finetui.tui.screens.log.log_view import JournalView, LogView
from finetui.tui.screens.log.screen import LogScreen

SIZES = [(80, 24), (120, 40), (200, 60), (60, 15)]


def rewound(at: int, step: int = 100) -> Rewound:
    return Rewound(
        cause="rollback", file="best.ckpt", at=at, epoch=1, undone=20, learning_rate=1, layers=LAYERS, step=step
    )


class Run:
    """A run with a journal on the disk and a dashboard that hears of it."""

    def __init__(self, folder: Path, *events: AnyEvent) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._seq = 0
        self._began = time.time() - 1000
        self.link = CannedLink()
        self.happens(*running(*events))

    def happens(self, *events: AnyEvent, heard: bool = True, written: bool = True) -> None:
        """Write `events` into the journal, and let the dashboard hear them."""
        with (self.folder / "journal.jsonl").open("ab", buffering=0) as file:
            for event in events:
                if isinstance(event, RunStarted):
                    event = msgspec.structs.replace(event, path=str(self.folder), name=self.folder.name)
                event = msgspec.structs.replace(event, seq=self._seq, time=self._began + self._seq / 1000)
                self._seq += 1
                if written:
                    file.write(encode_line(event))
                if heard:
                    self.link.events.put(event)

    def says(self, count: int, heard: bool = True) -> None:
        """Let `count` lines happen."""
        first = self._seq
        self.happens(*(Log(level="info", message=f"message {first + n}") for n in range(count)), heard=heard)


async def opened(pilot: DashboardPilot, link: CannedLink) -> LogScreen:
    """Open the screen by its key, and wait until it has read the journal."""
    await pilot.until(lambda: not len(link.events), "the dashboard hears everything")
    await pilot.press("o")
    await pilot.until(lambda: isinstance(pilot.app.screen, LogScreen), "the screen opens")
    screen = pilot.app.screen
    assert isinstance(screen, LogScreen)
    await pilot.until(lambda: screen._path is not None and not screen._reading, "the journal is read")
    return screen


def texts(screen: LogScreen) -> list[str]:
    """Return the lines that are shown."""
    view = screen.query_one(JournalView)
    return [view.plain(row) for row in view.rows]


def title(pilot: DashboardPilot) -> str:
    """Return the screen's own first line; two about the run stand above it."""
    return picture(pilot.app).splitlines()[2]


def top_line(pilot: DashboardPilot) -> str:
    """Return the first line of the log that is in sight."""
    (view,) = (view for view in pilot.app.screen.query(LogView) if view.display)
    return picture(pilot.app).splitlines()[view.region.y]
