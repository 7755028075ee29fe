"""Runs side by side: which settings differ, what is tested on which images, and what is said where it cannot be."""

import itertools
from pathlib import Path

import msgspec
import pytest
from canned_predictions import DIGITS, predictions
from made_runs import config, write_run

from finetui.engine.errors import BadInput
from finetui.engine.predictions.comparison import mcnemar
from finetui.engine.predictions.file import load_predictions
from finetui.engine.protocol.config import RunSection
from finetui.engine.runs.folder import RunFolder
from finetui.tui.state.run_comparison import (
    History,
    Pair,
    _corrected,
    differing_settings,
    in_words,
    pair_rows,
    score_rows,
    scores_of,
)


def test_only_settings_that_differ_are_told() -> None:
    one = config(0.1)
    other = msgspec.structs.replace(config(0.01, epochs=9), run=RunSection(name="other"))
    found, same = differing_settings([one, other, one])
    assert [(row.name, row.values) for row in found] == [
        ("training.epochs", (one.training.epochs, 9, one.training.epochs)),
        ("training.lr", (0.1, 0.01, 0.1)),
    ]
    assert same > 20
    assert differing_settings([one, one]) == ([], same + 2)
    assert [in_words(value) for value in (None, True, 0.003, (), ("a", "b"), "x\x1b")] == [
        "-",
        "yes",
        "0.003",
        "-",
        "a, b",
        "x�",
    ]


def test_scores_and_pairs_are_those_of_the_predictions(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path, f"run-{seed}", accuracy=right, seed=seed) for seed, right in ((1, 0.9), (2, 0.5), (3, 0.88))
    ]
    scores = scores_of([RunFolder(run) for run in runs])
    loaded = [load_predictions(run / "best.predictions") for run in runs]
    for score, found in zip(scores.scores, loaded, strict=True):
        assert score.accuracy == pytest.approx(1 - found.wrong.mean())
        assert score.low < score.accuracy < score.high and score.n == 200 and score.part == "test"
    for pair, (one, other) in zip(scores.pairs, itertools.combinations(loaded, 2), strict=True):
        assert pair.test == mcnemar(~one.wrong, ~other.wrong)
        assert pair.test.test == "exact binomial"
    rows, right = score_rows(scores)
    assert rows[1][0] == "run-1" and 1 in right
    rows, _, not_compared = pair_rows(scores)
    assert len(rows) == 4 and not_compared == []


def test_holms_correction_is_that_of_his_paper(tmp_path: Path) -> None:
    test = mcnemar(*(load for load in (predictions(seed=1).wrong, predictions(seed=2).wrong)))
    given = [0.01, 0.04, 0.03, 0.005, None]
    pairs = [
        Pair(run="a", other="b", test=None if p is None else msgspec.structs.replace(test, p=p), why_not="")
        for p in given
    ]
    # By hand: 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 no lower than the one before it.
    assert [pair.p_holm for pair in _corrected(pairs)] == [pytest.approx(p) for p in (0.03, 0.06, 0.06, 0.02)] + [None]


def test_what_cannot_be_compared_says_why(tmp_path: Path) -> None:
    folders = [
        RunFolder(write_run(tmp_path, name, seed=1 if name == "good" else None))
        for name in ("good", "none", "few", "bad")
    ]
    predictions(50, DIGITS, seed=4).save(folders[2].best_predictions)
    folders[3].best_predictions.write_bytes(b"nonsense")
    scores = scores_of(folders)
    assert [score.accuracy is None for score in scores.scores] == [False, True, False, True]
    why_not = {(pair.run, pair.other): pair.why_not for pair in scores.pairs}
    assert why_not["good", "none"] == "none has no predictions yet"
    assert "not about the same test images" in why_not["good", "few"] or why_not["good", "few"] == ""
    assert "bad" in why_not["good", "bad"]
    assert len(pair_rows(scores)[2]) >= 5


def test_a_history_goes_on_where_it_ended_and_one_without_a_beginning_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path, "run", lr=0.25, points=5)
    journal = run / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:6]))
    history = History(RunFolder(run))
    assert history.read() and not history.read()
    assert history.config.training.lr == 0.25
    before = len(history.store.curves.train["loss"])
    journal.write_bytes(b"".join(lines))
    assert history.read()
    assert len(history.store.curves.train["loss"]) == 5 > before
    assert history.store.view.best_accuracy == 0.5
    journal.write_bytes(b"".join(lines[1:]))
    with pytest.raises(BadInput, match="has lost its beginning"):
        History(RunFolder(run)).read()
