"""Settings that libraries keep beside what they log, as settings of the run."""

import argparse
import math
import time
from pathlib import Path

import pytest
from event_files import losses
from hypothesis import given, settings, strategies as st

from finetui.engine.protocol.events import RunPrepared, SettingsTold
from finetui.engine.sources.recognise import find_runs
from finetui.engine.sources.settings_file import settings_in
from finetui.engine.sources.watched_runs import WatchedRuns, events_of
from finetui.tui.state.run_comparison import WatchedHistory, differing_settings
from finetui.tui.state.store import Store

FIXTURES = Path(__file__).parents[2] / "fixtures" / "watched"
EVENTS = "events.out.tfevents.1.h"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr: 0.01\nn: 3\nname: resnet18\n", {"lr": 0.01, "n": 3, "name": "resnet18"}),
        ("a: 1e-3\nb: -2\nc: 1.0e-05\nd: .5\ne: 1_000\n", {"a": 1e-3, "b": -2, "c": 1e-5, "d": 0.5, "e": 1000}),
        ("a: 1_\nb: 1__0\nc: 2_.5\nd: [1_, 2]\n", {"a": 1, "b": 10, "c": 2.5, "d": "1, 2"}),
        ("a: true\nb: False\nc: on\nd: null\ne: ~\nf:\n", {"a": True, "b": False, "c": True}),
        ("a: .inf\nb: -.inf\n", {"a": math.inf, "b": -math.inf}),
        ("a: 'it''s: # no comment'\n'b': \"x\\n\\u00fc\"\n", {"a": "it's: # no comment", "b": "x\nü"}),
        ("a: 5 # of it\n# b: 1\nc: x#y\n---\n...\n", {"a": 5, "c": "x#y"}),
        ("a:\n  b: 1\n  c:\n    d: x\n  e: 2\nf: 3\n", {"a.b": 1, "a.c.d": "x", "a.e": 2, "f": 3}),
        ("a:\n- 1\n- x\nb:\n  - 2\nc: [3, y]\nd: []\n", {"a": "1, x", "b": "2", "c": "3, y"}),
        ("a: !!python/tuple\n- 0.9\n- 0.999\nb: 1\n", {"a": "0.9, 0.999", "b": 1}),
        ("a: !!python/object/apply:os.system\n- ls\nb: 1\n", {"b": 1}),
        ("a: !!python/object:argparse.Namespace\n  x: 1\n  y:\n  - 1\nb: 1\n", {"b": 1}),
        ("a: !!python/name:torch.nn.ReLU ''\nb: 1\n", {"b": 1}),
        ("a:\n- x: 1\n  y: 2\n- x: 3\nb: 1\n", {"b": 1}),
        ("a:\n- - 1\n  - 2\nb: 1\n", {"b": 1}),
        ("a: |\n  lr: 3\n  x\nb: 1\n", {"b": 1}),
        ("a: {x: 1}\nb: &id\n- 1\nc: *id\n", {"b": "1"}),
        ("a: 'long\n  text'\nb: \"x\\\n  y\nc: 1\n", {"a": "long text"}),
        ("\ufefflr: 0.1\r\nn: 2\r\n", {"lr": 0.1, "n": 2}),
        ("http://a.b: 1\n: 2\n- 3\n\tq: 4\nlr:0.5\n\x00: 1\n", {}),
        ("", {}),
    ],
)
def test_what_is_read(text: str, expected: dict[str, object]) -> None:
    found = settings_in(text)
    if expected:
        assert {name: (type(value), value) for name, value in found.items()} == {
            name: (type(value), value) for name, value in expected.items()
        }
    else:
        assert set(found.values()) <= {1, 2, 3, 4}  # and nothing fails


plain = st.one_of(
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=False, width=32),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_ /-]{0,20}[a-z0-9]", fullmatch=True), plain, max_size=20))
def test_what_yaml_writes_comes_back(told: dict[str, object]) -> None:
    yaml = pytest.importorskip("yaml")
    found = settings_in(yaml.safe_dump(told))
    for name, value in told.items():
        if isinstance(value, str) and (not value.isprintable() or value != " ".join(value.split(" ")).strip()):
            continue  # several lines are one here
        assert found.get(name, "") == value or (value == "" and name not in found)


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("ab:- \n'\"[]{}!&*#|>.0\\\t,"), max_size=300))
def test_nothing_fails(text: str) -> None:
    settings_in(text)


@pytest.mark.parametrize(
    "text",
    ["a: " + "x" * 900_000, "a: '" + "x\n" * 300_000, "- " * 400_000, "a:\n" * 200_000, "a: '" + "''" * 400_000,
     'a: "' + "\\" * 900_000, "k: " + "9" * 900_000, "\n".join(" " * n + f"k{n}:" for n in range(1300)), "[" * 900_000],
)  # fmt: skip
def test_a_hostile_file_takes_no_time(text: str) -> None:
    began = time.process_time()
    settings_in(text)
    assert time.process_time() - began < 3


def run_in(folder: Path, kind: str) -> Path:
    folder.mkdir(exist_ok=True)
    if kind == "tensorboard":
        (folder / EVENTS).write_bytes(losses(range(5)))
    else:
        name = "results.csv" if kind == "ultralytics" else "metrics.csv"
        (folder / name).write_text("step,loss\n1,0.5\n2,0.25\n")
    return folder


@pytest.mark.parametrize("kind", ["tensorboard", "lightning", "ultralytics"])
def test_they_are_settings_of_the_run(tmp_path: Path, kind: str) -> None:
    names = {"ultralytics": ("args.yaml", "lr0: 0.02\nbatch: 16\nepochs: 7\nmodel: yolo11n-cls.pt\noptimizer: SGD\n")}
    lightning = (
        "hparams.yaml",
        "optimizer:\n  lr: 0.02\nbatch_size: 16\nmax_epochs: 7\narch: yolo11n-cls.pt\nopt: SGD\n",
    )
    for run in ("one", "two"):
        name, text = names.get(kind, lightning)
        (run_in(tmp_path / run, kind) / name).write_text(text + f"seed: {len(run) + (run == 'two')}\n")
    first, second = sorted(WatchedRuns([tmp_path]).read(), key=lambda run: run.name)
    assert (first.lr, first.batch_size, first.epochs, first.optimizer) == (0.02, 16, 7, "SGD")
    assert (first.model, first.seed, second.seed) == ("yolo11n-cls.pt", 3, 4)
    histories = [WatchedHistory(found) for found in find_runs(tmp_path)]
    for history in histories:
        history.read()
    differing, same = differing_settings(
        [one.config for one in histories], [one.store.view.hparams for one in histories]
    )
    assert ([(one.name, one.values) for one in differing], same) == ([("seed", (3, 4))], 5)


def test_those_that_come_later_and_change_are_told(tmp_path: Path) -> None:
    (found,) = find_runs(run_in(tmp_path / "run", "lightning"))
    reader, store = events_of(found), Store()
    runs = WatchedRuns([tmp_path])
    store.fold(reader.read())
    assert (store.view.hparams, runs.read()[0].lr) == ({}, None)
    (tmp_path / "run" / "hparams.yaml").write_text("lr: 0.5\n")
    heard = store.fold(reader.read())
    assert [event.settings for event in heard if isinstance(event, SettingsTold)] == [{"lr": 0.5}]
    assert (store.view.hparams, runs.read()[0].lr) == ({"lr": 0.5}, 0.5)
    assert any(line.text == "settings: lr 0.5" for line in store.view.log)
    assert not [event for event in store.fold(reader.read()) if isinstance(event, SettingsTold)]
    (tmp_path / "run" / "metrics.csv").write_text("step,loss,acc\n1,0.5,0.1\n")  # Lightning rewrites its header
    (prepared,) = [event for event in store.fold(reader.read()) if isinstance(event, RunPrepared)]
    assert prepared.hparams == store.view.hparams == {"lr": 0.5}


def test_a_file_that_cannot_be_read_costs_nothing(tmp_path: Path) -> None:
    run_in(tmp_path, "lightning")
    (tmp_path / "hparams.yaml").mkdir()
    (tmp_path / "args.yaml").write_bytes(b"\xff\xfe\x00lr: 1\n" + b"x" * (2 << 20))
    (found,) = find_runs(tmp_path)
    store = Store()
    store.fold(events_of(found).read())
    assert (store.view.step, store.view.hparams) == (2, {})


def test_what_lightning_wrote() -> None:
    for found in find_runs(FIXTURES):
        if found.name.startswith("lightning"):
            (prepared,) = [event for event in events_of(found).read() if isinstance(event, RunPrepared)]
            assert prepared.hparams == {"lr": 0.05}


def test_lightning_and_yaml_write_what_is_read(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    told = {"args": argparse.Namespace(lr=0.1), "betas": (0.9, 0.999), "path": Path("/a"), "net": Store, "last": "x"}
    assert settings_in(yaml.dump(told)) == {"betas": "0.9, 0.999", "last": "x"}
