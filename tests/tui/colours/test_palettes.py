"""What the palettes promise: the terminal gets the numbers that were chosen, and eyes of all kinds can tell them."""

import itertools
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from rich._palettes import EIGHT_BIT_PALETTE
from rich.color import Color, ColorSystem

import finetui.tui
from finetui.tui.colours.palettes import AGAINST_256, FOR_256, ROLES, entry, palette, sent_as

DEPTHS = ("truecolor", "256", "16")
GROUNDS = tuple(itertools.product(DEPTHS, (True, False)))
# xterm's own sixteen (XTerm-col.ad); terminals have others, but seldom of less contrast.
XTERM_16 = dict(
    enumerate(
        re.findall(
            r"\w{6}",
            "000000 cd0000 00cd00 cdcd00 0000ee cd00cd 00cdcd e5e5e5 "
            "7f7f7f ff0000 00ff00 ffff00 5c5cff ff00ff 00ffff ffffff",
        )
    )
)
# Those of Linux's console (the kernel's vt.c): what is text can be read there as well.
CONSOLE_16 = dict(
    enumerate(
        re.findall(
            r"\w{6}",
            "000000 aa0000 00aa00 aa5500 0000aa aa00aa 00aaaa aaaaaa "
            "555555 ff5555 55ff55 ffff55 5555ff ff55ff 55ffff ffffff",
        )
    )
)
# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency" (2009),
# table 1 at severity 1; they apply to linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TEXT, LARGE, FAINT = 4.5, 3.0, 3.6  # WCAG 2.1, 1.4.3 and 1.4.11; what is off is exempt there

ON_SCREEN = ("background", "surface", "focused")
ON_PANELS = (*ON_SCREEN, "panel")
STANDS_OUT = [
    *itertools.product(("foreground", "muted", "accent", "success", "warning", "error"), ON_PANELS, (TEXT,)),
    *itertools.product(("foreground", "button-key"), ("button", "button-hover", "chosen"), (TEXT,)),
    *itertools.product(("foreground", "placeholder"), ("field", "field-focus"), (TEXT,)),
    *itertools.product(("foreground",), ("button-hover", "field"), (TEXT,)),
    *itertools.product(("frozen", "plot-axis"), ON_SCREEN, (TEXT,)),
    *itertools.product(("train-curve", "evaluation-curve", "third-curve"), ("background",), (TEXT,)),
    *itertools.product(("train-curve", "evaluation-curve", "third-curve"), ("panel",), (LARGE,)),
    *itertools.product((f"run-{number}" for number in range(1, 9)), ("background",), (LARGE,)),
    *itertools.product(("bar",), ON_SCREEN, (LARGE,)),
    *itertools.product(("plot-mark",), ("background",), (LARGE,)),
    *itertools.product(("disabled",), (*ON_PANELS, "button-off"), (FAINT,)),
    ("on-selection", "selection", TEXT),
    ("on-accent", "button-focus", TEXT),
    ("on-accent", "button-off-focus", LARGE),
    *((f"on-right-{step}", f"right-{step}", TEXT) for step in (1, 2, 3)),
    *((f"on-wrong-{step}", f"wrong-{step}", TEXT) for step in (1, 2, 3, 4, 5)),
]
TOLD_APART = [
    ("train-curve", "evaluation-curve"),
    ("run-1", "run-2"),
    ("for", "against"),
    ("success", "error"),
    ("accent", "error"),
    ("right-3", "wrong-5"),
    ("right-3", "wrong-4"),
    ("foreground", "disabled"),
    ("foreground", "error"),
]


def shown(role: str, depth: str, *, dark: bool) -> np.ndarray:
    """Return what the terminal shows for `role`, 0 to 1."""
    cell = entry(role, depth, dark=dark)
    if cell.startswith("#"):
        digits = cell[1:7]
    else:
        number = int(cell)
        digits = XTERM_16[number] if number < 16 else EIGHT_BIT_PALETTE[number].hex[1:]
    return np.array([int(digits[at : at + 2], 16) for at in (0, 2, 4)]) / 255


def linear(colour: np.ndarray) -> np.ndarray:
    """Return sRGB as linear RGB (IEC 61966-2-1)."""
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    """Return WCAG's contrast ratio, 1 to 21."""
    low, high = sorted(float(linear(colour) @ (0.2126, 0.7152, 0.0722)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(light: np.ndarray) -> np.ndarray:
    """Return linear RGB in CIE L*a*b* under D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = (to_xyz @ light) / (0.9505, 1.0, 1.089)
    fx, fy, fz = (v ** (1 / 3) if v > (6 / 29) ** 3 else v / (3 * (6 / 29) ** 2) + 4 / 29 for v in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


def distance(one: np.ndarray, other: np.ndarray, deficiency: str) -> float:
    """Return the difference of two colours (CIE 1976) to somebody with the deficiency."""
    seen = (lab(np.clip(DEFICIENCIES[deficiency] @ linear(colour), 0, 1)) for colour in (one, other))
    return float(np.linalg.norm(np.subtract(*seen)))


@pytest.mark.parametrize(("depth", "dark"), GROUNDS)
def test_text_and_marks_stand_out(depth: str, dark: bool) -> None:
    ratios = {
        f"{role} on {ground}": (
            round(contrast(shown(role, depth, dark=dark), shown(ground, depth, dark=dark)), 2),
            least,
        )
        for role, ground, least in STANDS_OUT
    }
    assert not {pair: found for pair, found in ratios.items() if found[0] < found[1]}


@pytest.mark.parametrize("dark", [True, False])
def test_text_stands_out_in_linuxs_console(monkeypatch: pytest.MonkeyPatch, dark: bool) -> None:
    monkeypatch.setattr(sys.modules[__name__], "XTERM_16", CONSOLE_16)
    texts = [(role, ground) for role, ground, least in STANDS_OUT if least == TEXT]
    ratios = {pair: round(contrast(*(shown(role, "16", dark=dark) for role in pair)), 2) for pair in texts}
    assert not {pair: ratio for pair, ratio in ratios.items() if ratio < TEXT}


@pytest.mark.parametrize(("depth", "dark"), GROUNDS)
def test_what_must_be_told_apart_can_be_with_any_eyes(depth: str, dark: bool) -> None:
    found = {
        f"{one}, {other}, {eyes}": round(
            distance(shown(one, depth, dark=dark), shown(other, depth, dark=dark), eyes), 1
        )
        for (one, other), eyes in itertools.product(TOLD_APART, DEFICIENCIES)
    }
    assert not {pair: apart for pair, apart in found.items() if apart < 20}


@pytest.mark.parametrize(("depth", "dark"), GROUNDS)
def test_a_band_is_fainter_than_its_curve(depth: str, dark: bool) -> None:
    ground = shown("background", depth, dark=dark)
    for name in ("train", "evaluation", "third"):
        band, curve = (contrast(shown(f"{name}-{part}", depth, dark=dark), ground) for part in ("band", "curve"))
        assert 1.15 < band < 0.8 * curve, f"{name}: band {band:.1f}, curve {curve:.1f}"


@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize(("depth", "system"), [("256", ColorSystem.EIGHT_BIT), ("16", ColorSystem.STANDARD)])
def test_the_terminal_is_sent_the_numbers_of_the_table(depth: str, system: ColorSystem, dark: bool) -> None:
    for role, colour in palette(depth, dark=dark).items():
        cell = entry(role, depth, dark=dark)
        if cell != "-":
            assert Color.parse(colour).downgrade(system).number == int(cell), role


def test_every_colour_that_rich_sends_can_be_asked_for() -> None:
    greys_of_the_cube = {59, 102, 145, 188}
    for number in set(range(16, 256)) - greys_of_the_cube:
        assert Color.from_rgb(*sent_as(number)).downgrade(ColorSystem.EIGHT_BIT).number == number
    with pytest.raises(ValueError, match="59 is a grey of the colour cube"):
        sent_as(59)
    for number in itertools.chain(*FOR_256, *AGAINST_256):
        assert 16 <= number < 232


@pytest.mark.parametrize("dark", [True, False])
def test_in_256_colours_grounds_are_greys_and_nothing_is_navy(dark: bool) -> None:
    for role in ROLES:
        cell = entry(role, "256", dark=dark)
        if cell != "-":
            assert int(cell) not in (17, 18, 19), role
            if role in ("background", "surface", "panel", "focused", "frame", "muted", "disabled", "button", "field"):
                assert int(cell) >= 231, role


def test_without_colours_each_role_is_known_by_its_own() -> None:
    colours = [colour for role, colour in palette("none", dark=True).items() if role != "backdrop"]
    assert len(set(colours)) == len(ROLES) - 1


def test_no_colour_stands_anywhere_else() -> None:
    """A theme would not reach it, and a terminal with fewer colours would show another one."""
    table = Path(finetui.tui.__file__).resolve().parent / "colours" / "palettes.py"
    hexadecimal = r"#[0-9a-fA-F]{6}\b"
    name = r"(?:ansi_)?(?:bright_)?(?:white|black|red|green|blue|yellow|cyan|magenta|gr[ae]y)\b"
    named = rf'(?:color|background): *{name}|(?:border|outline)[a-z-]*: *[a-z]+ {name}|"(?:bold |on )+{name}"'
    blended = r"\$[a-z0-9-]+ [1-9]\d?%"
    shades = r"\$[a-z-]+-(?:lighten|darken)-\d|\bdim\b [$b]"
    numbers = r"(?:from_rgb|Color)\(\d"
    wrong = re.compile("|".join((hexadecimal, named, blended, shades, numbers)))
    found = [
        f"{path.name}:{number}: {line.strip()}"
        for path in sorted(table.parents[1].rglob("*"))
        if path.suffix in (".py", ".tcss") and path != table
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if wrong.search(line)
    ]
    assert not found
