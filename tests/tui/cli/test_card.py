"""`finetui card`: one HTML file that needs nothing else, Markdown beside it, and no text that is taken for either."""

import base64
import io
import re
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from exported_runs import train, write_photos
from PIL import Image

from finetui.engine.predictions.file import load_predictions
from finetui.tui.cli.card_facts import Card, Mistake, Plot, Section
from finetui.tui.cli.card_html import as_html
from finetui.tui.cli.card_markdown import as_markdown
from finetui.tui.cli.card_plot import svg

Call = Callable[..., subprocess.CompletedProcess[str]]
HOSTILE = ("<img src=x onerror=alert(1)>", '"><b onclick=x>|', "&lt;[a](javascript:x)\u202e\x1b[31m`")
TAGS = frozenset(
    (*("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div", "table", "thead", "tbody", "tr", "th"),
     *("td", "figure", "figcaption", "img", "br", "span", "svg", "text", "path", "polyline", "circle"))
)  # fmt: skip


class Page(HTMLParser):
    """What a browser sees: elements with their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def check_harmless(self) -> None:
        """No script, nothing from elsewhere, no handler, whatever stands in the texts."""
        assert {tag for tag, _ in self.elements} <= TAGS
        for tag, attributes in self.elements:
            assert not [name for name in attributes if name.startswith("on") or name in ("href", "srcdoc", "action")]
            if "src" in attributes:
                assert tag == "img" and str(attributes["src"]).startswith("data:image/png;base64,")
        policy = next(found for tag, found in self.elements if found.get("http-equiv") == "Content-Security-Policy")
        assert str(policy["content"]).startswith("default-src 'none'; img-src data:")


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with a run `odd` of photographs whose classes and files have such names."""
    photos = write_photos(tmp_path / "photos", HOSTILE[:2])
    for number, file in enumerate(sorted((photos / "val").rglob("*.jpg"))):
        file.rename(file.with_name(f"<svg onload=x>{number}.jpg"))
    train(tmp_path / "checkpoints", "odd", str(photos), batch_size=8)
    return tmp_path


def test_a_report_of_a_run_with_hostile_names(in_process: Call, hostile: Path) -> None:
    done = in_process("card", "odd", cwd=hostile)
    assert done.returncode == 0, done.stderr
    folder = hostile / "checkpoints" / "odd"
    assert done.stdout.splitlines() == ["checkpoints/odd/card.html", "checkpoints/odd/card.md"]
    text = (folder / "card.html").read_text()
    page = Page(text)
    page.check_harmless()
    found = load_predictions(folder / "best.predictions")
    wrong = int(found.wrong.sum())
    assert wrong
    pictures = [str(of["src"]) for tag, of in page.elements if tag == "img"]
    assert len(pictures) == wrong
    shown = Image.open(io.BytesIO(base64.b64decode(pictures[0].partition(",")[2])))
    assert max(shown.size) <= 96 and shown.size[0] == shown.size[1]
    for words in (
        *HOSTILE[:2],
        "<svg onload=x>",
        "val accuracy",
        "training.lr",
        "Confusion matrix",
        "SHA-256",
        "Packages",
    ):
        assert words in page.text
    assert [tag for tag, _ in page.elements].count("svg") >= 2
    markdown = (folder / "card.md").read_text()
    assert not re.search(r"(?<!\\)[<|](?=img|svg|b )", markdown)
    assert r"\<img src=x onerror=alert\(1\)\>" in markdown
    again = in_process("card", "odd", cwd=hostile)
    assert again.returncode == 2 and "--force" in again.stderr
    assert in_process("card", "odd", "--force", "--mistakes", "1", cwd=hostile).returncode == 0
    assert [tag for tag, _ in Page((folder / "card.html").read_text()).elements].count("img") == 1


def test_without_its_images_a_run_has_a_report_without_pictures(in_process: Call, hostile: Path) -> None:
    (hostile / "photos").rename(hostile / "gone")
    done = in_process("card", "odd", "--output", "report.html", cwd=hostile)
    assert done.returncode == 0
    assert "the mistakes are shown without pictures: " in done.stderr
    page = Page((hostile / "report.html").read_text())
    page.check_harmless()
    assert "img" not in {tag for tag, _ in page.elements}
    assert "photos" in page.text  # why
    assert (hostile / "report.md").is_file()


def made(words: str) -> Card:
    """Return a report in which every text is `words`."""
    curve = (words, np.array([0.5, 1.0, 2.0]), np.array([3.0, 1.0, 0.5]))
    section = Section(words, ((words, words),), (words, words))
    mistake = Mistake(words, words, words, 0.5, 1.0, problem=words)
    return Card(words, words, (section,), (Plot(words, False, (curve,)),), (section,), (words, words), ((1, 2), (0, 3)),
                (mistake,), 3, words)  # fmt: skip


@pytest.mark.parametrize("words", [*HOSTILE, "</style></title><script>alert(1)</script>", "]]><!--", "' onerror='x"])
def test_no_text_anywhere_becomes_markup(words: str) -> None:
    page = Page(as_html(made(words)))
    page.check_harmless()
    harmless = Page(as_html(made("x")))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in harmless.elements]
    assert not re.search(r"[\u202e\x1b]", page.text)
    markdown, plain = as_markdown(made(words)), as_markdown(made("x"))
    bars = re.compile(r"(?<!\\)\|")
    assert [len(bars.findall(line)) for line in markdown.splitlines()] == [
        len(bars.findall(line)) for line in plain.splitlines()
    ]
    assert not re.search(r"(?<!\\)[<\[`]", markdown)


def test_a_link_in_a_name_is_no_link_in_markdown() -> None:
    assert "https://x" not in as_markdown(made("https://x.org"))
    assert "www." not in as_markdown(made("www.x.org"))


def test_a_curve_is_drawn_where_its_numbers_are() -> None:
    x, y = np.arange(1, 2001) / 100, np.linspace(1.0, 0.0, 2000)
    drawn = svg(Plot("Loss", False, (("train", x, y),)), str)
    points = re.search(r'points="([^"]+)"', drawn)
    assert points is not None
    found = np.array([pair.split(",") for pair in points[1].split()], dtype=float)
    assert len(found) == 500
    assert (np.diff(found[:, 0]) > 0).all() and (np.diff(found[:, 1]) > 0).all()  # down is more, in SVG
    assert found[-1, 0] == pytest.approx(420 - 12, abs=0.1)  # the last epoch, at the right edge
    single = svg(Plot("Loss", False, (("val", np.array([1.0]), np.array([0.5])),)), str)
    assert "<circle" in single


@pytest.mark.parametrize("arguments", [("--mistakes", "-1"), ("--output", "x.pdf"), ("--output", "no/x.html")])
def test_what_makes_no_sense_is_said(in_process: Call, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    train(tmp_path / "checkpoints", "plain")
    done = in_process("card", "plain", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
