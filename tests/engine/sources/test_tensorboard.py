"""Event files: what is read of them, and what is not believed."""

import random
import struct
from pathlib import Path

import pytest
from event_files import begins, crc32c, image, losses, record, scalar, tensor
from hypothesis import given, settings, strategies as st

from finetui.engine.sources import tensorboard_file, tensorboard_frames
from finetui.engine.sources.crc32c import masked_crc32c, masked_crc32c_of_all
from finetui.engine.sources.source import Anew, Back, Hparams, Item, Note, Row
from finetui.engine.sources.tensorboard import TensorBoardRun
from finetui.engine.sources.tensorboard_file import EventFile

FIXTURES = Path(__file__).parents[2] / "fixtures" / "watched"
NAME = "events.out.tfevents.1700000000.host.1.0"
WRITTEN = next((FIXTURES / "lightning_tb").glob("events*")).read_bytes()


def rows(items: list[Item]) -> list[tuple[int, dict[str, float]]]:
    return [(item.step, dict(item.values)) for item in items if isinstance(item, Row)]


def told(path: Path) -> list[tuple[int, str, float]]:
    return [
        (record.step, *one)
        for record in EventFile(path).read()
        if not isinstance(record, str)
        for one in record.scalars
    ]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / NAME


def test_the_sum_is_that_of_the_standard() -> None:
    assert (crc32c(bytes(32)), crc32c(b"123456789")) == (0x8A9136AA, 0xE3069283)  # RFC 3720, B.4
    data = bytes(range(256)) * 8
    starts, lengths = [0, 3, 700, 9], [0, 17, 1000, 1]
    one_by_one = [masked_crc32c(data[at : at + n]) for at, n in zip(starts, lengths, strict=True)]
    assert masked_crc32c_of_all(data, starts, lengths).tolist() == one_by_one
    crc = crc32c(data[3:20])
    assert one_by_one[1] == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_what_pytorch_wrote() -> None:
    items = list(TensorBoardRun(FIXTURES / "pytorch").read())
    found = rows(items)
    assert [values["Loss/train"] for _, values in found if "Loss/train" in values] == pytest.approx(
        [2 / (step + 1) for step in range(40)]
    )
    assert [step for step, values in found if "Accuracy/val" in values] == [9, 19, 29, 39]  # as tensors
    assert {name for _, values in found for name in values} >= {"compare/a", "compare/b", "memory/gb", "lr"}
    assert [dict(item.values) for item in items if isinstance(item, Hparams)] == [
        {"lr": 0.1, "optimizer": "sgd", "nesterov": 1.0}
    ]
    assert [item.message for item in items if isinstance(item, Note)] == ["1 image in the event files is not shown"]


def test_what_lightning_wrote_is_told_once() -> None:
    run = TensorBoardRun(FIXTURES / "lightning_tb")
    found = rows(list(run.read()))
    assert [step for step, values in found if "train_loss" in values] == list(range(1, 24, 2))
    assert sum("val_acc" in values for _, values in found) == 3
    assert list(run.read()) == []


def test_torn_at_every_byte_only_whole_records_are_told_and_all_in_the_end(file: Path) -> None:
    file.write_bytes(WRITTEN)
    whole = told(file)
    for cut in range(len(WRITTEN)):
        file.write_bytes(WRITTEN[:cut])
        reader = EventFile(file)
        first = [(one.step, *s) for one in reader.read() if not isinstance(one, str) for s in one.scalars]
        assert first == whole[: len(first)]
        with file.open("ab") as more:
            more.write(WRITTEN[cut:])
        rest = [(one.step, *s) for one in reader.read() if not isinstance(one, str) for s in one.scalars]
        assert first + rest == whole
        assert reader.damaged == 0


def test_a_damaged_byte_costs_its_record_and_no_other(file: Path) -> None:
    file.write_bytes(WRITTEN)
    whole = told(file)
    for place in range(0, len(WRITTEN), 7):
        damaged = bytearray(WRITTEN)
        damaged[place] ^= 0x5A
        file.write_bytes(damaged)
        found = told(file)
        assert set(found) <= set(whole)
        assert len(found) >= len(whole) - 1


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.integers(0, len(WRITTEN)), st.integers(0, 200))
def test_rubbish_anywhere_makes_no_point(
    tmp_path_factory: pytest.TempPathFactory, rubbish: bytes, at: int, lost: int
) -> None:
    file = tmp_path_factory.mktemp("rubbish") / NAME
    file.write_bytes(WRITTEN)
    whole = set(told(file))
    file.write_bytes(WRITTEN[:at] + rubbish + WRITTEN[at + lost :])
    assert set(told(file)) <= whole


def test_a_tail_of_zeros_is_waited_for(file: Path) -> None:
    end = losses([2])
    file.write_bytes(losses([1]) + bytes(len(end)))
    reader = EventFile(file)
    assert [one.step for one in reader.read() if not isinstance(one, str)] == [1]
    with file.open("r+b") as again:
        again.seek(len(losses([1])))
        again.write(end)
    assert [one.step for one in reader.read() if not isinstance(one, str)] == [2]


def test_a_large_record_is_passed_over_and_images_are_counted(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard_file, "_BLOCK", 4 << 10)  # both a thousandth: the sum of a record is slow here
    monkeypatch.setattr(tensorboard_file, "_LONGEST", 16 << 10)
    file.write_bytes(losses([1]) + record(1, image("a", 17 << 10)) + record(2, image("b", 8000)) + losses([3]))
    reader = EventFile(file)
    assert [one.step for one in reader.read() if not isinstance(one, str)] == [1, 3]
    assert reader.skipped == {"large records": 1, "images": 1}


def test_numbers_in_tensors_and_several_in_a_record(tmp_path: Path, file: Path) -> None:
    file.write_bytes(record(5, tensor("epoch_loss", 0.125), scalar("other", 2.0)) + record(-3, scalar("other", 1.0)))
    assert rows(list(TensorBoardRun(tmp_path).read())) == [
        (5, {"epoch_loss": 0.125, "other": 2.0}),
        (-3, {"other": 1.0}),
    ]


def test_folders_of_keras_are_the_parts(tmp_path: Path) -> None:
    for part in ("train", "validation"):
        (tmp_path / part).mkdir()
        (tmp_path / part / NAME).write_bytes(losses([1, 2], tag="epoch_loss"))
    found = rows(list(TensorBoardRun(tmp_path).read()))
    assert [step for step, _ in found] == [1, 1, 2, 2]  # by their time
    assert {name for _, values in found for name in values} == {"train/epoch_loss", "validation/epoch_loss"}


def test_a_run_that_begins_again_goes_back(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}").write_bytes(losses(range(10)))
    run = TensorBoardRun(tmp_path)
    assert len(rows(list(run.read()))) == 10
    (tmp_path / "events.out.tfevents.1700000009.host.2.0").write_bytes(losses(range(4, 8)))
    later = list(run.read())
    assert later[0] == Back(4)
    assert [step for step, _ in rows(later)] == [4, 5, 6, 7]
    (tmp_path / "events.out.tfevents.1700000019.host.3.0").write_bytes(begins(6) + losses([6]))  # purge_step
    assert next(iter(run.read())) == Back(6)


def test_another_tag_in_another_file_takes_nothing_back(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}").write_bytes(losses(range(10)))
    (tmp_path / "events.out.tfevents.1700000009.host.2.0").write_bytes(losses(range(10), tag="val_loss"))
    assert not [item for item in TensorBoardRun(tmp_path).read() if isinstance(item, Back)]


@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_that_is_written_anew_is_read_anew(tmp_path: Path, file: Path, replaced: bool) -> None:
    file.write_bytes(losses(range(10)))
    run = TensorBoardRun(tmp_path)
    list(run.read())
    if replaced:
        file.unlink()
    file.write_bytes(losses(range(20), value=2.0))  # longer than before
    assert [type(item) for item in run.read()] == [Anew]
    assert rows(list(run.read()))[0] == (0, {"loss": 2.0})
    file.write_bytes(losses(range(2)))
    assert [type(item) for item in run.read()] == [Anew]


@pytest.mark.parametrize("seed", range(8))
def test_frames_are_where_one_after_the_other_is(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Also where their lengths have a pattern, which is broken now and then."""
    rng = random.Random(seed)
    monkeypatch.setattr(tensorboard_frames, "_WORTH_IT", rng.choice((0, 200, 2000)))
    for _ in range(30):
        content = b""
        for _ in range(rng.randrange(1, 5)):
            lengths = [rng.choice((0, 1, 255, 256, 300)) if rng.random() < 0.1 else rng.randrange(1, 80)] * rng.choice(
                (1, 2)
            )
            lengths += [rng.randrange(1, 60) for _ in range(rng.choice((0, 3, 70)))]
            for length in lengths * rng.randrange(1, 20):
                size = struct.pack("<Q", length if rng.random() > 0.01 else rng.randrange(200))
                content += size + struct.pack("<I", masked_crc32c(size)) + rng.randbytes(size[0] + 256 * size[1] + 4)
        damaged = bytearray(content[: rng.randrange(len(content) + 1)])
        if damaged and rng.random() < 0.5:
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        held, at, expected = bytes(damaged), 0, []
        while at + 16 <= len(held):
            (length,) = struct.unpack_from("<Q", held, at)
            end = at + length + 16
            if end > len(held) or struct.unpack_from("<I", held, at + 8)[0] != masked_crc32c(held[at : at + 8]):
                break
            expected.append((at, end))
            at = end
        starts, ends = tensorboard_frames.whole_frames(held)
        assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == expected
