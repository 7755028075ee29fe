"""Files that are damaged, cut short or made to harm: checkpoints, weights, journals, configurations."""

import io
import os
import pickle
import random
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile_files import Called, FakeStorage, checkpoint_of, fake_tensor, instructions, legacy, pickled, sealed, zipped
from memory_growth import MOST_GROWTH, run_measured

from finetui.engine.checkpoints import checkpoint
from finetui.engine.checkpoints.state_dict import read_state_dict
from finetui.engine.errors import BadInput
from finetui.engine.models import Architecture, build
from finetui.engine.protocol import config_file
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.summaries import summarise_runs

SHIPPED = Path(__file__).parents[2] / "checkpoints" / "lenet-mnist"
ABOUT = checkpoint.About(
    architecture=Architecture(name="lenet", num_classes=10, in_channels=1, height=28, width=28),
    transform=checkpoint.Transform(mean=(0.1307,), std=(0.3081,)),
    classes=tuple("0123456789"),
    data="mnist",
    run="a-run",
)
WHAT_TO_DO = r"last\.ckpt .*use another checkpoint of the run \(`finetui resume RUN` falls back by itself\)"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    model = build(ABOUT.architecture, 0)
    state = {name: {"momentum_buffer": torch.randn_like(tensor)} for name, tensor in model.named_parameters()}
    checkpoint.save(path, ABOUT, model.state_dict(), {"step": 3, "optimizer": state, "rng": torch.get_rng_state()})
    return path


def test_every_flipped_bit_is_found(saved: Path) -> None:
    """Row 17: 400 of 400 flips of one bit anywhere in the file are refused."""
    good = saved.read_bytes()
    bits = random.Random(17).sample(range(len(good) * 8), 340)
    # Most of a file is weights; its headers, its pickle and its end get their share.
    end = len(good) * 8
    bits += random.Random(18).sample(range(8 * 1500), 30) + random.Random(19).sample(range(end - 8 * 1500, end), 30)
    for bit in bits:
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        saved.write_bytes(bad)
        with pytest.raises(BadInput, match=WHAT_TO_DO):
            checkpoint.load(saved)
    saved.write_bytes(good)
    checkpoint.load(saved)


def test_what_is_cut_short_is_refused_at_every_percent(saved: Path) -> None:
    """Row 18: cut at each percent, one kind of error that names the file and what to do."""
    good = saved.read_bytes()
    for percent in range(100):
        saved.write_bytes(good[: len(good) * percent // 100])
        with pytest.raises(BadInput, match=WHAT_TO_DO):
            checkpoint.load(saved)
    for missing in range(1, 200):
        saved.write_bytes(good[:-missing])
        with pytest.raises(BadInput, match=WHAT_TO_DO):
            checkpoint.load(saved)


@pytest.mark.parametrize("size", [0, 1, 21, 22, 78, 79, 80, 3000, 400_000])
def test_text_and_noise_are_refused(saved: Path, size: int) -> None:
    """Row 18: empty, text and random bytes, with the beginnings of files that are read."""
    noise = random.Random(size).randbytes(size)
    contents = [noise, (b"just text, " * (size // 11 + 1))[:size], b"\0" * size]
    contents += [head + noise for head in (b"PK\3\4", b"PK\5\6", b"\x80\x02", b"ustar", b"\x93NUMPY", b"\x7fELF")]
    contents += [noise + end for end in (b"PK\5\6" + b"\0" * 18, b"finetui sha256 " + b"0" * 64)]
    for content in contents:
        saved.write_bytes(content)
        with pytest.raises(BadInput, match=WHAT_TO_DO):
            checkpoint.load(saved)
        with pytest.raises(BadInput, match=r"last\.ckpt"):
            read_state_dict(saved)


# -- files made to harm ---------------------------------------------------------------------------------------


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


@pytest.fixture
def nothing_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "executed").exists()


PICKLES = [pickle.dumps(Malicious(), protocol) for protocol in range(6)]


def test_what_these_pickles_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 21: each of the pickles that are refused below does make a folder where it is trusted."""
    monkeypatch.chdir(tmp_path)
    for content in PICKLES:
        pickle.loads(content)
        (tmp_path / "executed").rmdir()


@pytest.mark.usefixtures("nothing_executed")
def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    """Row 21: pickles alone, and where a checkpoint has its own, with a right seal or none."""
    path = tmp_path / "last.ckpt"
    torch.save({"format": 2, "model": Malicious(), "about": {}, "training": {}}, path)
    contents = [path.read_bytes(), sealed(path.read_bytes())]
    for content in PICKLES:
        archive = zipped(content)
        contents += [content, archive, sealed(archive), legacy(content, {})]
    contents += [checkpoint_of({}, training={"a": [Malicious()]}), checkpoint_of({Malicious(): 1})]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(BadInput, match=WHAT_TO_DO):
            checkpoint.load(path)
        with pytest.raises(BadInput, match=r"last\.ckpt"):
            read_state_dict(path)


def test_a_file_that_holds_itself_has_an_end(saved: Path) -> None:
    """Row 21: the state dict is looked for within the file, which may go on for ever."""
    content: dict[str, Any] = {}
    content["model"] = content
    torch.save(content, saved)
    with pytest.raises(BadInput, match=r"last\.ckpt holds no named tensors"):
        read_state_dict(saved)
    saved.write_bytes(checkpoint_of(content))
    with pytest.raises(BadInput, match=WHAT_TO_DO):
        checkpoint.load(saved)


@pytest.mark.usefixtures("nothing_executed")
def test_a_pickle_as_configuration_is_not_run(tmp_path: Path) -> None:
    """Row 21: a configuration is TOML, or refused."""
    path = tmp_path / "config.toml"
    deep = b"a = " + b"[" * 100_000
    for content in (*PICKLES, deep, b"\xff\xfe", b"[data]\nname = 3", b"\0" * 100, b'[data]\n"name\x1b" = "x"'):
        path.write_bytes(content)
        with pytest.raises(BadInput, match=r"config\.toml is not") as caught:
            config_file.load(path)
        assert str(caught.value).isprintable()


@pytest.mark.usefixtures("nothing_executed")
def test_a_pickle_as_journal_is_not_run(tmp_path: Path) -> None:
    """Row 21: what is no event is skipped and counted."""
    path = tmp_path / "journal.jsonl"
    deep = b'{"type":' + b"[" * 100_000
    path.write_bytes(b"\n".join([*PICKLES, deep, b"\xff", b"null", b"[]", b'{"type":3}', b"{}"]) + b"\n")
    lines = path.read_bytes().count(b"\n")
    reader = JournalReader(path)
    assert list(reader.read()) == []
    assert (reader.skipped, reader.unknown) == (lines, 0)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with a good run, one with pickles for files, and one of another version."""
    for name in ("good", "evil", "later"):
        shutil.copytree(SHIPPED, tmp_path / "runs" / name)
    for number, file in enumerate(("journal.jsonl", "config.toml", "best.ckpt", "last.ckpt")):
        (tmp_path / "runs" / "evil" / file).write_bytes(PICKLES[number + 2])
    later = tmp_path / "runs" / "later" / "journal.jsonl"
    later.write_bytes(later.read_bytes().replace(b'"type":"', b'"type":"later_'))
    return tmp_path / "runs"


def finetui(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "finetui", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_executed")
def test_a_run_that_is_made_to_harm_is_refused_with_a_reason(runs: Path) -> None:
    """Row 21: every command on a folder whose files are pickles ends with a sentence; the other runs are listed."""
    place = ("--runs-dir", str(runs))
    listed = finetui("runs", *place)
    assert listed.returncode == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:]] == ["good"]
    for arguments in (("evaluate", "--from", "evil"), ("finetune", "--from", "evil")):
        done = finetui(*arguments, *place)
        assert done.returncode == 2
        assert "evil/" in done.stderr and "is not" in done.stderr
        assert "Traceback" not in done.stderr
    done = finetui("train", "--config", str(runs / "evil" / "config.toml"), *place)
    assert (done.returncode, "config.toml is not TOML" in done.stderr) == (2, True)


@pytest.mark.parametrize("year", ["1e300", "-1e300", "1e12", "-1e18"])
def test_a_journal_with_times_that_no_clock_shows_does_not_hide_other_runs(runs: Path, year: str) -> None:
    """Row 21: one folder that is made to harm is no reason not to list the others."""
    journal = runs / "later" / "journal.jsonl"
    text = (SHIPPED / "journal.jsonl").read_text()
    journal.write_text(re.sub(r'"time":[0-9.e+]+', f'"time":{year}', text))
    listed = {run.name: run.started for run in summarise_runs(runs)}
    assert listed.keys() == {"good", "later"}
    assert listed["later"] == "" != listed["good"]
    done = finetui("runs", "--runs-dir", str(runs))
    assert done.returncode == 0
    assert "later" in done.stdout
    assert finetui("log", "later", "--runs-dir", str(runs)).returncode == 0


@pytest.mark.usefixtures("nothing_executed")
def test_a_journal_of_another_version_is_said_to_be_unknown(runs: Path) -> None:
    """Row 21: nothing of it is guessed at."""
    count = (SHIPPED / "journal.jsonl").read_bytes().count(b"\n")
    done = finetui("log", "later", "--runs-dir", str(runs))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"finetui: 0 damaged and {count} unknown lines were skipped\n"
    (runs / "evil" / "journal.jsonl").write_bytes(PICKLES[4])  # without a single line in it
    done = finetui("log", "evil", "--runs-dir", str(runs))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "finetui: nothing in this journal can be read\n"


# -- files that grow ------------------------------------------------------------------------------------------


def inflating() -> bytes:
    """Return a checkpoint of half a megabyte whose one tensor has 512 MB of zeros."""
    count = 128 << 20
    content = {"format": 2, "about": {}, "model": {"x": fake_tensor(FakeStorage(count), (count,))}, "training": {}}
    buffer = io.BytesIO(zipped(pickled(content)))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("archive/data/0", "w") as part:
        for _ in range(512):
            part.write(b"\0" * (1 << 20))
    return sealed(buffer.getvalue())


def of_storage(numel: int, size: tuple[int, ...], stride: tuple[int, ...], **options: Any) -> bytes:
    return checkpoint_of({"x": fake_tensor(FakeStorage(numel, **options), size, stride)}, {"0": b"\0" * 4096})


def overlapping() -> bytes:
    """Return an archive of 4 MB that lists the same bytes 500 times."""
    keys = [str(key) for key in range(500)]
    numel = 1 << 20
    content = {key: fake_tensor(FakeStorage(numel, key), (numel,)) for key in keys}
    data = zipped(pickled({"format": 2, "about": {}, "model": content, "training": {}}), {"0": b"\0" * (4 * numel)})
    start, end = data.index(b"PK\1\2"), data.rindex(b"PK\5\6")
    at = data.index(b"archive/data/0", start) - 46
    entry = data[at : at + 46 + len("archive/data/0")]
    length = len(b"archive/data/0")
    more = b"".join(
        entry[:28] + struct.pack("<H", length - 1 + len(key)) + entry[30:46] + f"archive/data/{key}".encode()
        for key in keys[1:]
    )
    listed = data[start:end] + more
    count = 4 + len(keys) - 1
    record = b"PK\5\6" + struct.pack("<4H2IH", 0, 0, count, count, len(listed), start, 0)
    return sealed(data[:start] + listed + record)


GROWING: dict[str, Callable[[], bytes]] = {
    "inflating": inflating,
    "expanded": lambda: of_storage(1024, (1 << 30, 1 << 30), (0, 0)),
    "beyond its storage": lambda: of_storage(1024, (1 << 28,), (1,)),
    "lying storage": lambda: of_storage(1 << 30, (1 << 30,), (1,)),
    "two dtypes": lambda: checkpoint_of(
        [FakeStorage(256, kind=torch.ComplexDoubleStorage), fake_tensor(FakeStorage(4096, kind=torch.ByteStorage))],
        {"0": b"\0" * 4096},
    ),
    "memo": lambda: sealed(zipped(instructions(b"]r\0\0\0\x7f"))),
    "memo, growing": lambda: sealed(zipped(instructions(b"]" + b"r\0\0\0\x7f" * 100_000))),
    "bytearray": lambda: checkpoint_of(Called(bytearray, 10**9)),
    "bytearray of old": lambda: legacy(Called(bytearray, 10**9), {}),
    "lying storage of old": lambda: legacy(
        {"x": fake_tensor(FakeStorage(1 << 30, view=(None,)), (1 << 30,))}, {"0": b"\0" * 64}
    ),
    "objects": lambda: sealed(zipped(instructions(b"(" + b"}" * 3_000_000 + b"t"))),
    "objects of old": lambda: b"\x80\x02" + b"}" * 3_000_000 + b".",
    "copies": lambda: checkpoint_of([Called(OrderedDict, *some) for some in [([(i, i) for i in range(9999)],)] * 999]),
    "overlapping": overlapping,
    "long pickle": lambda: sealed(zipped(pickled({"x": "\U0001f4a3" + "x" * (12 << 20)}), method=zipfile.ZIP_STORED)),
}

LOOK_AT_WEIGHTS = """
import json, sys
from pathlib import Path
from finetui.engine.checkpoints import checkpoint
from finetui.engine.checkpoints.state_dict import read_state_dict
from finetui.engine.errors import BadInput

ballast = take_ballast()
for path in sorted(Path(sys.argv[1]).iterdir()):
    for read in (checkpoint.load, read_state_dict):
        before, reason = peak(), "accepted"
        try:
            read(path)
        except BadInput as error:
            reason = str(error)
        print(json.dumps([path.name, read.__name__, peak() - before, reason]))
"""


@pytest.mark.slow
def test_nothing_grows_before_it_is_refused(tmp_path: Path) -> None:
    """Row 22: whatever a file would grow to, it is refused with a sentence while memory grows by less than 100 MB."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name, make in GROWING.items():
        (folder / name).write_bytes(make())
    assert (folder / "inflating").stat().st_size < 530_000
    results = run_measured(LOOK_AT_WEIGHTS, folder)
    assert len(results) == 2 * len(GROWING)
    for name, _, growth, reason in results:
        assert name in reason
        assert growth < MOST_GROWTH, name
    assert sum(growth for _, _, growth, _ in results) < MOST_GROWTH
