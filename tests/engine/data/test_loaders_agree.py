"""Resident, streamed, or from the cache of decoded images: the same images, numbers, batches and weights, where files
cannot be read as well.
"""

import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from finetui.engine.checkpoints import checkpoint
from finetui.engine.data import ImageData, Unreadable, decoded_cache, image_data, load, streaming
from finetui.engine.data.choose_decoding import BY_IMAGES
from finetui.engine.data.image_files import decode
from finetui.engine.data.moments import mean_and_std
from finetui.engine.inspection.evaluation import evaluate
from finetui.engine.protocol.commands import Stop
from finetui.engine.protocol.config import DataConfig, RunConfig
from finetui.engine.protocol.config_file import load as load_config
from finetui.engine.protocol.events import RunPrepared
from finetui.engine.runs.journal import JournalReader
from finetui.engine.session.replay import replay_run
from finetui.engine.session.session import Session

CPU = torch.device("cpu")
GONE = ("train/a/00.png", "train/a/03.png", "train/b/05.png", "test/a/01.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 15 and 4 noisy images, of which some end after their header."""
    chance = np.random.default_rng(0)
    for part, count in (("train", 15), ("test", 4)):
        for name in ("a", "b"):
            path = tmp_path / "p" / part / name
            path.mkdir(parents=True)
            for index in range(count):
                dark = chance.integers(0, 100 + 5 * index, (28, 28, 1), dtype=np.uint8)
                Image.fromarray(dark[..., 0]).save(path / f"{index:02}.png")
    for name in GONE:
        os.truncate(tmp_path / "p" / name, 60)
    return tmp_path / "p"


def both(folder: Path) -> tuple[ImageData, ImageData]:
    resident, streamed = (
        load(DataConfig(name=str(folder), loader=loader, workers=1), CPU) for loader in ("resident", "stream")
    )
    return resident, streamed


@pytest.mark.parametrize("sample", [1000, 7])
def test_mean_and_deviation_are_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch, sample: int) -> None:
    monkeypatch.setattr(image_data, "SAMPLE", sample)
    resident, streamed = both(folder)
    assert (resident.mean, resident.std) == (streamed.mean, streamed.std)
    assert resident.sampled == streamed.sampled == min(sample, 30)
    good = [index for index in range(30) if index not in resident.train.unreadable]
    of_all = mean_and_std(resident.train.images[good].numpy(), "")
    assert ((resident.mean, resident.std) == of_all) == (sample > 30)


def test_batches_are_the_same_and_lack_the_same(folder: Path) -> None:
    resident, streamed = both(folder)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    order = torch.cat([torch.tensor([0, 3]), order])  # and one without any
    try:
        for ours, theirs, wanted in (
            (resident.train, streamed.train, order),
            (resident.test, streamed.test, torch.arange(8)),
        ):
            assert len(ours) == len(theirs)
            assert torch.equal(ours.labels, theirs.labels)
            shrunk = 0
            for (images, labels), (expected, wanted_labels) in zip(
                ours.batches(wanted, 2, lambda x: x * 2), theirs.batches(wanted, 2, lambda x: x * 2), strict=True
            ):
                assert torch.equal(labels, wanted_labels)
                assert not len(labels) or torch.equal(images, expected)
                assert ours.skipped == theirs.skipped
                shrunk += len(labels) < 2
            assert shrunk >= 1
            assert [ours.file(index) for index in range(len(ours))] == [theirs.file(i) for i in range(len(theirs))]
        with pytest.raises(Unreadable, match="truncated"):
            resident.train.item(0)
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 2))
        reports = [evaluate(network, data.test, data.classes, batch_size=3) for data in (resident, streamed)]
        assert reports[0].columns["index"].tolist() == reports[1].columns["index"].tolist() == [0, 2, 3, 4, 5, 6, 7]
        assert reports[0].columns["loss"].tolist() == reports[1].columns["loss"].tolist()
    finally:
        streamed.train.close()
        streamed.test.close()


def config_for(
    make_config, folder: Path, name: str, loader: str, cache: str = "auto", workers: int = 1, **training: object
) -> RunConfig:
    config = make_config(data=str(folder), name=name, batch_size=4, epochs=2, fast="auto", **training)
    data = msgspec.structs.replace(config.data, loader=loader, workers=workers, decoded_cache=cache, augment="light")
    return msgspec.structs.replace(config, data=data)


def test_weights_are_the_same(make_config, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_data, "SAMPLE", 7)
    weights = set()
    # The cache is empty when the third begins, and full for the fourth; the last reads it with worker processes.
    for number, (loader, cache, workers) in enumerate(
        [
            ("resident", "auto", 1),
            ("stream", "off", 2),
            ("stream", "auto", 3),
            ("stream", "auto", 1),
            ("stream", "auto", 2),
        ]
    ):
        monkeypatch.setattr(streaming, "MOST_THREADS", 0 if number == 4 else 8)
        config = config_for(make_config, folder, f"r{number}", loader, cache, workers, class_weights="balanced")
        weights.add(checkpoint.digest(checkpoint.load(Session(config).run().folder.last)[1]))
        assert bool(list(decoded_cache.cache_folder().glob("*.pixels"))) == (number > 1)
    assert len(weights) == 1


def test_a_run_that_numbered_only_what_it_could_read_goes_on_and_is_replayed_so(
    make_config, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As runs of earlier versions did, resident; their mean and deviation came from all images."""

    def as_before(*arguments: object, **options: object) -> ImageData:
        return load(*arguments, **options).numbered_for(27)

    config = config_for(make_config, folder, "old", "resident")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("finetui.engine.setup.recorded_data.load", as_before)
        whole = Session(config).run().folder
        cut = Session(
            msgspec.structs.replace(config, run=msgspec.structs.replace(config.run, name="cut")),
            script=lambda step: Stop() if step == 5 else None,
        ).run()
    monkeypatch.setattr(image_data, "SAMPLE", 7)
    prepared = next(event for event in JournalReader(whole.journal).read() if isinstance(event, RunPrepared))
    assert prepared.data.train_size == 27
    Session(load_config(cut.folder.config), resume=cut.folder).run()
    ends = [checkpoint.digest(checkpoint.load(run.last)[1]) for run in (whole, cut.folder)]
    assert ends[0] == ends[1]
    replayed = replay_run(whole)
    assert replayed.different_at is None and replayed.complete


def test_photographs_that_torch_scales_are_the_same_by_every_loader_and_file_by_file(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for index, size in enumerate(((60, 90, 3), (75, 50, 3), (41, 41, 3))):
                picture = Image.fromarray(chance.integers(0, 256, size, dtype=np.uint8))
                picture.save(tmp_path / part / name / f"{index}.jpg", quality=90)
    wanted = msgspec.structs.replace(BY_IMAGES, channels=3, height=32, width=32, resize=40)
    found = []
    ways = [("resident", 1, "off"), ("stream", 2, "off"), *[("stream", 1, "auto")] * 2]
    for loader, workers, cache in ways:
        request = DataConfig(name=str(tmp_path), loader=loader, workers=workers, decoded_cache=cache)
        data = load(request, CPU, decoding=wanted)
        assert data.description is not None
        assert data.description.decoding == wanted
        found.append(torch.cat([images for images, _ in data.train.batches(torch.arange(6), 4)]))
        raw = torch.stack([data.train.item(index) for index in range(6)])
        data.train.close()
        again = [torch.from_numpy(decode(data.train.file(index), wanted)) for index in range(6)]
        assert torch.equal(raw, torch.stack(again))
    assert all(torch.equal(found[0], each) for each in found[1:])
