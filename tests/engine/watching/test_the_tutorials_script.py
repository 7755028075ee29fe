"""The tutorial's own script, on real digits, with three lines added: seen, paused, its convolutions frozen, browsed."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from own_loop import journal_of
from watching import Watcher, until

from finetui.engine.link.attach_link import AttachLink
from finetui.engine.link.journal_link import JournalLink
from finetui.engine.predictions.file import load_predictions
from finetui.engine.protocol import commands, events
from finetui.engine.runs.folder import RunFolder

# As people have it, but for the number of epochs and of images; what is added ends in `# finetui`.
SCRIPT = """
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
import torch.utils.data as Data
import torchvision.transforms as transforms
import torchvision.datasets as datasets
import finetui

class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 4 * 4, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = x.view(-1, 16 * 4 * 4)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)

transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
train_dataset = Data.Subset(datasets.MNIST(root=root, train=True, transform=transform), range(640))
test_dataset = Data.Subset(datasets.MNIST(root=root, train=False, transform=transform), range(200))
train_loader = Data.DataLoader(train_dataset, batch_size=64, shuffle=True)
test_loader = Data.DataLoader(test_dataset, batch_size=64, shuffle=False)

net = Net()
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(net.parameters(), lr=0.001, momentum=0.9)

with finetui.watch(net, optimizer, name="tutorial", runs_dir=runs_dir) as run:  # finetui
    for epoch in training():
        for i, data in enumerate(run.steps(train_loader), 0):  # finetui
            inputs, labels = data
            optimizer.zero_grad()
            outputs = net(inputs)
            loss = criterion(outputs, labels)
            loss.backward()
            optimizer.step()
            run.log(loss=loss)  # finetui

    for param in net.conv1.parameters():
        param.requires_grad = False
    for param in net.conv2.parameters():
        param.requires_grad = False
    net.fc4 = nn.Linear(16 * 4 * 4, 10)
    optimizer = optim.SGD(net.fc4.parameters(), lr=0.001, momentum=0.9)

    for epoch in range(2):
        for i, data in enumerate(run.steps(train_loader), 0):
            inputs, labels = data
            optimizer.zero_grad()
            outputs = net(inputs)
            loss = criterion(outputs, labels)
            loss.backward()
            optimizer.step()
            run.log(loss=loss)

    found = []
    with torch.no_grad():
        for data in test_loader:
            images, labels = data
            found.append((net(images), labels, images))
    run.predictions(*(torch.cat(part) for part in zip(*found)), part="test")
"""


class Person:
    """Runs the script in a thread, in the folder `runs_dir`; its first training goes on until `done` is set."""

    def __init__(self, root: Path, runs_dir: Path) -> None:
        self.done = threading.Event()
        self.error: BaseException | None = None
        self.trained: dict[str, torch.Tensor] = {}  # the weights at the end of the first training
        self.names: dict[str, Any] = {
            "root": str(root),
            "runs_dir": str(runs_dir),
            "training": self._epochs,
            "__name__": "train",
        }
        self.folder = RunFolder(runs_dir / "tutorial")
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _epochs(self) -> Iterator[int]:
        while not self.done.is_set():
            yield 0
        self.trained = {name: value.clone() for name, value in self.names["net"].state_dict().items()}

    def _run(self) -> None:
        try:
            exec(compile(SCRIPT, "train.py", "exec"), self.names)
        except BaseException as error:  # noqa: BLE001  # for the test to look at
            self.error = error


def test_it_is_seen_paused_frozen_and_its_mistakes_are_browsed(shared_data: Path, tmp_path: Path) -> None:
    person = Person(shared_data, tmp_path)
    try:
        until(lambda: person.folder.lock.exists() or person.error is not None)
        watcher = Watcher(AttachLink(person.folder))
        watcher.until_state("running")
        prepared = next(event for event in watcher.seen if isinstance(event, events.RunPrepared))
        assert [group.name for group in prepared.layers] == ["conv1", "conv2", "fc1", "fc2", "fc3"]
        assert (prepared.data.name, prepared.data.train_size, prepared.steps_per_epoch) == ("MNIST", 640, 10)
        assert prepared.hparams["optimizer"] == "SGD"
        assert prepared.hparams["momentum"] == 0.9

        assert isinstance(watcher.ask(commands.Pause()), events.CommandAccepted)
        freeze = commands.SetFrozen(groups=("conv1", "conv2"), frozen=True)
        assert isinstance(watcher.ask(freeze), events.CommandAccepted)
        net = person.names["net"]
        before = {name: value.clone() for name, value in net.state_dict().items()}
        for _ in range(3):
            watcher.ask(commands.StepOnce())
            watcher.until_kind(events.TrainPoint)
        after = net.state_dict()
        same = {name for name in before if torch.equal(before[name], after[name])}
        assert same == {"conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"}

        watcher.ask(commands.Resume())
        watcher.link.send(commands.AuditParameters(steps=20))
        person.done.set()
        audited = watcher.until_kind(events.ParametersAudited)
        watcher.until_state("finished")
        watcher.close()
    finally:
        person.done.set()
        person.thread.join(60)
    assert person.error is None

    reasons = {finding.name: finding.reason for finding in audited.audit.wrong}
    assert {name: reasons.pop(name) for name in ("fc4.weight", "fc4.bias")} == dict.fromkeys(
        ("fc4.weight", "fc4.bias"), "in the optimizer, receives no gradient: forward never calls fc4"
    )
    assert set(reasons.values()) == {"its optimizer takes no steps"}  # the one that was there before
    assert set(reasons) == {f"fc{number}.{name}" for number in (1, 2, 3) for name in ("weight", "bias")}

    told = journal_of(person.folder)
    changed = [event for event in told if isinstance(event, events.LayersChanged)][-1].layers
    assert [(group.name, group.frozen) for group in changed] == [
        *(("conv1", True), ("conv2", True)),
        *(("fc1", False), ("fc2", False), ("fc3", False), ("fc4", False)),
    ]
    # What the tutorial does not notice: nothing is trained any more, and fc4 has not even had a gradient.
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in person.trained.items())
    assert not person.names["optimizer"].state

    predictions = load_predictions(person.folder.last_predictions)
    mistakes = [int(index) for index in predictions.index[predictions.wrong]]
    assert 0 < len(mistakes) < 200
    # After its end the mistakes are looked at in the journal's dashboard, as they were given.
    link = JournalLink(person.folder)
    opened = Watcher(link)
    opened.until_state("finished")
    images = opened.ask(commands.FetchImages(indices=tuple(mistakes[:5])))
    assert isinstance(images, events.Images)
    assert [picture.index for picture in images.pictures] == mistakes[:5]
    assert all((picture.height, picture.width, picture.problem) == (28, 28, "") for picture in images.pictures)
    assert len({picture.pixels for picture in images.pictures}) == len(images.pictures)
    opened.close()
