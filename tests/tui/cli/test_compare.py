"""`finetui compare`: runs side by side, as tables and as JSON."""

import json
from pathlib import Path

import pytest
from made_runs import write_run

from finetui.engine.errors import BadInput
from finetui.engine.predictions.comparison import mcnemar
from finetui.engine.predictions.file import load_predictions
from finetui.tui.cli.compare import compare


def test_settings_scores_and_pairs(tmp_path: Path, in_process) -> None:
    runs = tmp_path / "checkpoints"
    for seed, (name, lr) in enumerate((("one", 0.1), ("two", 0.02), ("bare", 0.1))):
        write_run(runs, name, lr=lr, accuracy=0.9 - seed / 10, seed=None if name == "bare" else seed)
    printed = in_process("compare", "one", "two", "bare", cwd=tmp_path).stdout
    lines = printed.splitlines()
    assert lines[0].split() == ["SETTING", "one", "two", "bare"]
    assert lines[1].split() == ["training.lr", "0.1", "0.02", "0.1"]
    assert "other settings are the same." in lines[2]
    assert "one and bare: bare has no predictions yet" in lines
    found = json.loads(in_process("compare", "one", "two", "bare", "--json", cwd=tmp_path).stdout)
    assert found["runs"] == ["one", "two", "bare"]
    assert found["settings"] == [{"name": "training.lr", "values": [0.1, 0.02, 0.1]}]
    tested = mcnemar(*(~load_predictions(runs / name / "best.predictions").wrong for name in ("one", "two")))
    assert found["pairs"][0]["test"]["p"] == tested.p
    assert [pair["why_not"] for pair in found["pairs"]] == ["", *["bare has no predictions yet"] * 2]
    assert found["scores"][2]["accuracy"] is None


def test_one_run_is_not_enough(tmp_path: Path, in_process) -> None:
    write_run(tmp_path / "checkpoints", "one")
    with pytest.raises(BadInput, match="name two runs or more"):
        compare("one", "one", runs_dir=tmp_path / "checkpoints")
    assert in_process("compare", cwd=tmp_path).returncode == 2
