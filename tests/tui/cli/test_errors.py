"""`finetui errors` and `finetui predict`, on a real run of the bundled digits."""

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from finetui.engine.predictions.comparison import mcnemar
from finetui.engine.predictions.criteria import Selection
from finetui.engine.predictions.file import load_predictions
from finetui.engine.predictions.label_errors import possible_label_errors
from finetui.engine.protocol.config import DataConfig, RunConfig, RunSection, TrainingConfig
from finetui.engine.runs.folder import RunFolder
from finetui.tui.app.app import FinetuiApp
from finetui.tui.cli.errors_report import _lines
from finetui.tui.state.listing import image_name, listing_of

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs in `checkpoints`: `first`, and `second`, that was trained longer."""
    from finetui.engine.session.session import Session

    root = tmp_path_factory.mktemp("work")
    for name, epochs in (("first", 1), ("second", 3)):
        config = RunConfig(
            data=DataConfig(name="mnist-sample"),
            # As a checkpoint is evaluated, so that the last digits are the same.
            training=TrainingConfig(epochs=epochs, batch_size=50, lr=0.03, device="cpu", fast="off"),
            run=RunSection(name=name, runs_dir=str(root / "checkpoints")),
        )
        Session(config).run()
    return root


def run_of(folder: Path, name: str) -> RunFolder:
    return RunFolder(folder / "checkpoints" / name)


def test_the_number_listed_is_that_of_the_mistakes_and_the_order_that_of_the_loss(in_process: Call, folder) -> None:
    found = load_predictions(run_of(folder, "second").best_predictions)
    result = in_process("errors", "--from", "second", "--limit", "0", "--json", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    objects = json.loads(result.stdout)
    assert len(objects) == int(found.wrong.sum())
    assert sorted(item["index"] for item in objects) == np.flatnonzero(found.wrong).tolist()
    assert [item["loss"] for item in objects] == sorted((item["loss"] for item in objects), reverse=True)


def test_filters_combine(in_process: Call, folder) -> None:
    found = load_predictions(run_of(folder, "first").best_predictions)
    pair = max(
        ((t, p) for t in range(10) for p in range(10) if t != p), key=lambda cell: found.confusion()[cell[0], cell[1]]
    )
    arguments = ("--true", str(pair[0]), "--pred", str(pair[1]), "--sort", "index", "--limit", "0", "--csv")
    result = in_process("errors", "--from", "first", *arguments, cwd=folder)
    rows = list(csv.DictReader(io.StringIO(result.stdout, newline="")))
    expected = np.flatnonzero((found.label == pair[0]) & (found.predicted == pair[1])).tolist()
    assert [int(row["index"]) for row in rows] == expected


def test_text_fits_eighty_columns_and_says_how_many_there_are(in_process: Call, folder) -> None:
    found = load_predictions(run_of(folder, "first").best_predictions)
    result = in_process("errors", "--from", "first", "--limit", "3", cwd=folder)
    lines = result.stdout.splitlines()
    assert any(" ?" in line for line in lines[1:4])  # and so it is said what that means
    assert lines[4:] == ["? possible label error"]
    wrong = int(found.wrong.sum())
    assert f"{wrong:,} listed" in lines[0]
    assert "showing 3" in lines[0]
    assert all(len(line) <= 80 for line in lines[1:])


def test_the_matrix_adds_up(in_process: Call, folder) -> None:
    found = load_predictions(run_of(folder, "first").best_predictions)
    lines = in_process("errors", "--from", "first", "--confusion", cwd=folder).stdout.splitlines()
    matrix = [[int(cell.replace(",", "").replace("·", "0")) for cell in line.split()[1:]] for line in lines[-10:]]
    assert matrix == found.confusion().tolist()


def test_classes_are_told_worst_first(in_process: Call, folder) -> None:
    found = load_predictions(run_of(folder, "first").best_predictions)
    told = json.loads(in_process("errors", "first", "--per-class", "--json", cwd=folder).stdout)
    wrong = [int((found.wrong & (found.label == int(row["label"]))).sum()) for row in told]
    assert [row["wrong"] for row in told] == wrong == sorted(wrong, reverse=True)
    worst = told[0]
    taken = np.bincount(found.predicted[found.wrong & (found.label == int(worst["label"]))], minlength=10)
    assert (int(worst["mistaken_for"]), worst["mistaken"]) == (taken.argmax(), taken.max())
    assert worst["loss"] == pytest.approx(found.loss[found.label == int(worst["label"])].mean(), rel=1e-5)
    first, second = in_process("errors", "first", "--per-class", cwd=folder).stdout.splitlines()[:2]
    assert first.split() == ["CLASS", "WRONG", "MOSTLY", "AS", "PRECISION", "RECALL", "F1", "LOSS", "TEST"]
    assert second.split()[:4] == [worst["label"], str(wrong[0]), worst["mistaken_for"], f"({worst['mistaken']})"]
    assert in_process("errors", "first", "--per-class", "--csv", cwd=folder).returncode == 2


def test_a_checkpoint_file_is_evaluated_and_says_what_its_run_kept(in_process: Call, folder) -> None:
    kept = in_process("errors", "--from", "second", "--limit", "0", "--json", cwd=folder)
    now = in_process("errors", "--from", "checkpoints/second/best.ckpt", "--limit", "0", "--json", cwd=folder)
    assert now.returncode == 0
    assert "Evaluating" in now.stderr
    assert json.loads(now.stdout) == json.loads(kept.stdout)


def test_two_runs_are_compared(in_process: Call, folder) -> None:
    before, after = (load_predictions(run_of(folder, name).best_predictions) for name in ("first", "second"))
    for change, keep in (
        ("fixed", before.wrong & ~after.wrong),
        ("newly-wrong", ~before.wrong & after.wrong),
        ("broken", ~before.wrong & after.wrong),
        ("still-wrong", before.wrong & after.wrong),
    ):
        arguments = ("--compare", "first", "--change", change, "--limit", "0", "--json")
        result = in_process("errors", "--from", "second", *arguments, cwd=folder)
        assert sorted(item["index"] for item in json.loads(result.stdout)["images"]) == np.flatnonzero(keep).tolist()


def test_a_comparison_is_tested(in_process: Call, folder) -> None:
    before, after = (load_predictions(run_of(folder, name).best_predictions) for name in ("first", "second"))
    expected = mcnemar(~after.wrong, ~before.wrong)
    arguments = ("errors", "--from", "second", "--compare", "first")
    found = json.loads(in_process(*arguments, "--json", cwd=folder).stdout)
    assert found["compared_with"] == "first"
    assert found["mcnemar"] == msgspec.to_builtins(expected)
    sentence = f"compared with first on the same {len(after):,} images: {expected.brief()}"
    assert in_process(*arguments, cwd=folder).stdout.splitlines()[0] == sentence
    listed = in_process(*arguments, "--csv", cwd=folder)
    assert sentence in listed.stderr
    assert listed.stdout.startswith("index,")


def test_the_number_of_an_image_is_never_cut(in_process: Call, folder) -> None:
    found = load_predictions(run_of(folder, "first").best_predictions)
    lines = in_process("errors", "--from", "first", "--show", "all", "--sort", "index", "--limit", "0", cwd=folder)
    for row, line in enumerate(lines.stdout.splitlines()[1 : len(found) + 1]):
        assert line.startswith(f"test image {found.index[row]:,} "), line


def test_a_filter_for_label_errors_is_chosen(in_process: Call, folder) -> None:
    flags = possible_label_errors(load_predictions(run_of(folder, "first").best_predictions))
    for arguments, name in (
        (("--label-errors",), "confident-learning"),
        (("--label-errors", "confident-learning"), "confident-learning"),
        (("--label-errors", "prune-by-noise-rate"), "prune-by-noise-rate"),
    ):
        asked = ("--from", "first", "--show", "all", "--limit", "0", "--json")
        result = in_process("errors", *asked, *arguments, cwd=folder)
        flagged = np.flatnonzero(flags[name])
        assert len(flagged)
        assert sorted(item["index"] for item in json.loads(result.stdout)) == flagged.tolist()
    refused = in_process("errors", "--from", "first", "--label-errors", "guess", cwd=folder)
    assert refused.returncode == 2


def test_a_training_image_is_named_by_its_path(in_process: Call, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for part, name in ((part, name) for part in ("train", "test") for name in ("dark", "light")):
        (tmp_path / "photos" / part / name).mkdir(parents=True)
        for index in range(6):
            pixels = random.integers(0, 255, (28, 28)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / part / name / f"{index}.png")
    copied = tmp_path / "photos" / "train" / "light" / "3.png"
    shutil.copy(copied, tmp_path / "photos" / "test" / "dark" / "5.png")
    arguments = ("--data", "photos", "--epochs", "1", "--name", "copies", "--fast", "off", "--batch-size", "4")
    assert in_process("train", *arguments, cwd=tmp_path).returncode == 0
    asked = ("errors", "--from", "copies", "--show", "all", "--duplicates")
    (item,) = json.loads(in_process(*asked, "--json", cwd=tmp_path).stdout)
    assert (item["path"], item["training_path"]) == (
        str(tmp_path / "photos" / "test" / "dark" / "5.png"),
        str(copied),
    )
    assert in_process(*asked, cwd=tmp_path).stdout.splitlines()[-2:] == [
        f"  = {copied}",
        "= in the training set",
    ]


def test_training_images_are_looked_for_where_asked(in_process: Call, folder) -> None:
    result = in_process("errors", "--from", "first", "--show", "all", "--duplicates", "--json", cwd=folder)
    assert result.returncode == 0
    assert all(item["training_image"] is not None for item in json.loads(result.stdout))


def test_a_run_is_listed_without_torch(folder: Path) -> None:
    code = (
        "import sys; from finetui.tui.cli.main import run; status = run(['errors', '--from', 'first', '--limit', '2']);"
        "print(status, 'torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "0 False"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--from", "nothing"), "there is no run 'nothing'"),
        (("--from", "first", "--true", "elephant"), "--true: no class 'elephant'"),
        (("--from", "first", "--pred", "10"), "--pred: no class '10'"),
        (("--from", "first", "--limit", "-1"), "--limit"),
        (("--from", "first", "--min-confidence", "0.9", "--max-confidence", "0.1"), "--min-confidence"),
        (("--from", "first", "--change", "fixed"), "nothing to compare with"),
        (("--from", "first", "--json", "--csv"), "choose one"),
        (("--from", "first", "--export", "nowhere/x.csv"), "create it first"),
        (("--from", "first", "--sort", "colour"), "--sort"),
        (("--from", "first", "--dashboard"), "needs a terminal"),
        (("--from", "first", "--dashboard", "--true", "ten"), "--true: no class 'ten'"),
        (("--from", "first", "--dashboard", "--compare", "second"), "leave out --compare"),
    ],
)
def test_bad_input_is_one_sentence(in_process: Call, folder, arguments: tuple[str, ...], words: str) -> None:
    result = in_process("errors", *arguments, cwd=folder)
    assert result.returncode == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize("origin", ["first", "checkpoints/first/last.ckpt"])
def test_the_dashboard_begins_with_what_was_asked_for(
    in_process: Call, folder, monkeypatch: pytest.MonkeyPatch, origin: str
) -> None:
    opened: list[FinetuiApp] = []
    monkeypatch.setattr("finetui.tui.app.launch._check_terminal", lambda: None)
    monkeypatch.setattr("termios.tcgetattr", lambda _descriptor: [0, 0, 0, 0, 0, 0, []])
    monkeypatch.setattr(FinetuiApp, "run", lambda app: opened.append(app))
    arguments = ("--true", "4", "--pred", "9", "--show", "all", "--min-confidence", "0.5", "--sort", "margin")
    assert in_process("errors", "--from", origin, "--dashboard", *arguments, cwd=folder).returncode == 0
    asked = opened[0]._errors
    assert asked is not None
    assert asked(tuple("0123456789")) == Selection(show="all", true=4, predicted=9, low=0.5, sort="margin")


def test_everything_listed_is_exported(in_process: Call, folder, tmp_path: Path) -> None:
    found = load_predictions(run_of(folder, "first").best_predictions)
    target = tmp_path / "images"
    result = in_process("errors", "--from", "first", "--true", "3", "--export", str(target), cwd=folder)
    assert result.returncode == 0
    expected = int((found.wrong & (found.label == 3)).sum())
    assert len(list(target.glob("*.png"))) == expected
    assert f"{expected:,} images" in result.stdout


def digit(folder: Path, label: int) -> tuple[np.ndarray, Path]:
    """Return a digit that `second` recognises, and it in a file."""
    from finetui.engine.inspection.opened_checkpoint import open_checkpoint

    found = load_predictions(run_of(folder, "second").best_predictions)
    index = int(found.index[(found.label == label) & (found.predicted == label)][0])
    opened = open_checkpoint(run_of(folder, "second").best, device="cpu")
    pixels = opened.subject.data.test.item(index)[0].numpy()
    opened.close()
    path = folder / f"digit{label}.png"
    Image.fromarray(pixels).save(path)
    return pixels, path


def test_own_files_are_classified_as_in_the_test_set(in_process: Call, folder) -> None:
    pixels, path = digit(folder, 7)
    inverted = folder / "ink.png"
    Image.fromarray(255 - pixels).resize((112, 112)).save(inverted)
    result = in_process("predict", "--from", "second", "--json", str(path), cwd=folder)
    item = json.loads(result.stdout)
    assert (item["prediction"], item["top"][0]["class"]) == ("7", "7")
    assert len(item["top"]) == 5
    found = load_predictions(run_of(folder, "second").best_predictions)
    row = int(np.flatnonzero((found.label == 7) & (found.predicted == 7))[0])
    assert item["top"][0]["probability"] == pytest.approx(float(found.confidence[row]), abs=1e-4)
    plain = in_process("predict", "--from", "second", "ink.png", cwd=folder)
    assert "use --invert" in plain.stderr
    turned = in_process("predict", "--from", "second", "ink.png", "--invert", "--json", cwd=folder)
    assert json.loads(turned.stdout)["top"][0]["class"] == "7"
    assert "--invert" not in turned.stderr


def test_what_cannot_be_read_is_said_and_the_others_are_classified(in_process: Call, folder) -> None:
    _, path = digit(folder, 1)
    (folder / "text.png").write_text("no image")
    result = in_process("predict", "--from", "second", "text.png", str(path), "gone.png", cwd=folder)
    assert result.returncode == 2
    assert result.stdout.splitlines()[0].endswith("digit1.png")
    assert len(result.stderr.splitlines()) == 2
    assert "gone.png: there is no such file" in result.stderr


@pytest.mark.parametrize(("arguments", "words"), [((), "name the image files"), (("x.png", "--top", "0"), "--top")])
def test_predict_needs_files_and_a_number(in_process: Call, folder, arguments: tuple[str, ...], words: str) -> None:
    result = in_process("predict", "--from", "second", *arguments, cwd=folder)
    assert result.returncode == 2
    assert words in result.stderr


@pytest.mark.parametrize("width", [None, 200, 40])
def test_neither_names_nor_classes_are_cut_and_no_column_is_wider_than_its_content(found, width: int | None) -> None:
    listing = listing_of(found, Selection())
    shown = listing.rows[:20].tolist()
    lines = _lines(listing, shown, width)
    for row, line in zip(shown, lines, strict=True):
        assert line.startswith(image_name(found, row))
        assert f" → {found.classes[found.predicted[row]]}" in line
        assert found.classes[found.label[row]] in line
        assert "…" not in line
        assert ("\n" in line) == (width == 40)
    longest = max(len(image_name(found, row)) for row in shown)
    if width != 40:
        assert {line[longest : longest + 2] for line in lines} == {"  "}
        assert not any(line[longest + 2].isspace() for line in lines)
