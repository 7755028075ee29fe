"""A person's own training loop, written as they do it, in a thread: a test is the dashboard."""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from watching import Watcher, until

import finetui
from finetui.engine.link.attach_link import AttachLink
from finetui.engine.protocol.commands import Resume
from finetui.engine.protocol.events import AnyEvent
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader

IMAGES, CLASSES = 96, 4


class OwnNet(nn.Module):
    """Two blocks with batch normalisation and dropout, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.block2 = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(4 * 8 * 8, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.block2(self.block1(images)).flatten(1))


def images_and_labels() -> tuple[Tensor, Tensor]:
    """Return images, float32 `[96, 1, 12, 12]` from 0 to 1, and their labels."""
    generator = torch.Generator().manual_seed(3)
    return torch.rand(IMAGES, 1, 12, 12, generator=generator), torch.arange(IMAGES) % CLASSES


def own_loader(batch_size: int = 8) -> DataLoader:
    return DataLoader(TensorDataset(*images_and_labels()), batch_size=batch_size, shuffle=True)


class OwnLoop:
    """Trains for as long as `go_on` is set, `epochs` at most; `run` is the watched one, `steps` those it took.

    `body` takes the place of a step's; `options` are those of `finetui.watch`.
    """

    def __init__(
        self,
        runs_dir: Path,
        *,
        epochs: int = 10_000,
        body: Callable[["OwnLoop", Tensor, Tensor], None] | None = None,
        scheduler: Callable[[Any], Any] | None = None,
        **options: Any,
    ) -> None:
        torch.manual_seed(0)
        self.net = OwnNet()
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
        self.scheduler = scheduler(self.optimizer) if scheduler is not None else None
        self.steps = 0
        self.epochs = epochs
        self.go_on = True
        self.error: BaseException | None = None
        self.ended_all = False
        self.folder_kept = RunFolder(Path(runs_dir) / "own")
        self._body = body or OwnLoop.step
        self._watchers: list[Watcher] = []
        self.run = finetui.watch(self.net, self.optimizer, runs_dir=runs_dir, name="own", epochs=epochs, **options)
        self._thread = threading.Thread(target=self._train)

    def _train(self) -> None:
        try:
            self.train()
        except BaseException as error:  # noqa: BLE001  # for the test to look at
            self.error = error

    def train(self) -> None:
        """What a person writes."""
        loader = own_loader()
        with self.run as run:
            for _ in range(self.epochs):
                self.net.train()
                for images, labels in run.steps(loader):
                    self._body(self, images, labels)
                    if not self.go_on:
                        return
            self.ended_all = True

    def step(self, images: Tensor, labels: Tensor) -> None:
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.net(images), labels)
        loss.backward()
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        self.run.log(loss=loss)
        self.steps += 1

    def __enter__(self) -> "OwnLoop":
        self._thread.start()
        until(lambda: self.run.folder is not None or self.error is not None, "it never began")
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Have it end, and wait for that; then close the links to it."""
        self.go_on = False
        watched = self.run._loop
        if watched is not None and watched.record.state == "paused":
            watched.record.commands.put(Resume())
        self.wait()
        while self._watchers:
            self._watchers.pop().close()

    def wait(self) -> None:
        """Wait for its end."""
        self._thread.join(60)
        assert not self._thread.is_alive(), "the loop goes on"

    @property
    def folder(self) -> RunFolder:
        assert self.run.folder is not None
        return RunFolder(self.run.folder)

    def attach(self) -> Watcher:
        """Return a dashboard's link to it."""
        self._watchers.append(Watcher(AttachLink(self.folder)))
        return self._watchers[-1]


def watched_in(runs_dir: Path, **options: Any) -> Callable[..., Any]:
    """Return what watches a network and its optimizer, or nothing of both, as the run `own`."""
    return lambda net=None, optimizer=None: finetui.watch(net, optimizer, runs_dir=runs_dir, name="own", **options)


class OwnError(Exception):
    """What a person's own code raises."""


def descriptors() -> dict[str, str]:
    """Return what each open descriptor of this process stands for, by its number."""
    found = {}
    for entry in list(Path("/proc/self/fd").iterdir()):
        with suppress(OSError):  # the one that lists them
            found[entry.name] = str(entry.readlink())
    return found


def journal_of(folder: RunFolder) -> list[AnyEvent]:
    return list(JournalReader(folder.journal).read())
