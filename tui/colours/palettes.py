"""All colours of the dashboard: one table, a row for each role, a column for each kind of terminal and ground.

Truecolor cells are `#rrggbb`, `#rrggbbaa`; those for 256 and 16 colours are numbers of xterm's table, picked by hand:
greys from its ramp (232 to 255), nothing that looks like another colour on this ground. The curves, and what is right
or wrong, are after Okabe and Ito, "Color Universal Design" (2008): sky blue and orange, bluish green and vermillion on
dark ground, their darker siblings on light ground; `tests/tui/colours/test_palettes.py` looks at them with the eyes of
colour-blind people, and measures how text stands out. A terminal without colours gets the attributes of the last
column instead; where text and ground have some, it gets both.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from rich._palettes import EIGHT_BIT_PALETTE, STANDARD_PALETTE

from finetui.tui.colours.depth import Depth

_COLUMNS = ("truecolor dark", "truecolor light", "256 dark", "256 light", "16 dark", "16 light", "none")
_TABLE = """
background         #0f1419   #fbfcfd   233 231   0 15  -
surface            #161c23   #f1f4f7   234 255   0 15  -
panel              #202831   #e3e9ee   236 254   0 15  -
focused            #151b21   #f4f7f9   234 255   0 15  -
backdrop           #0f141999 #fbfcfd99 -   -     - -   -
frame              #4b5763   #b0bbc6   240 249   8 8   -
foreground         #d8dee6   #1d2731   254 235  15 0   -
muted              #94a0ad   #566470   248 240   7 0   -
disabled           #7d8995   #68747f   245 242   8 8   -
accent             #56b4e9   #005f96   117 25   14 4   bold
on-accent          #0f1419   #ffffff   233 231   0 15  -
success            #35c2b0   #00685c   79  23   10 4   -
warning            #ecd35c   #735000   221 58   11 1   bold
error              #f0785c   #a92c12   209 124   9 1   bold
selection          #264f6b   #b5d8ee   24  153   6 4   reverse
on-selection       #f0f5fa   #16202a   255 233   0 15  -
button             #2a3540   #dbe3ea   237 253   4 7   underline
button-key         #56b4e9   #005f96   117 25   11 4   bold
button-hover       #323e4a   #d1dbe4   238 253   4 7   bold,underline
button-off         #161c23   #f1f4f7   234 255   0 15  -
button-off-focus   #94a0ad   #566470   248 240   7 8   reverse
button-focus       #56b4e9   #005f96   117 25   14 4   bold,reverse
chosen             #344150   #cbd7e0   238 253   4 7   bold,underline
field              #242d37   #e0e7ed   236 253   4 7   underline
field-focus        #303c48   #d3dde5   238 252   4 7   underline
placeholder        #9ba6b2   #4c5965   250 239   7 0   -
train-curve        #56b4e9   #005f96   75  25   14 4   -
evaluation-curve   #e69f00   #b84c00   214 130  11 1   bold
third-curve        #cc79a7   #a2487c   175 126  13 5   -
train-band         #24414f   #c9dfec   239 252   8 7   -
evaluation-band    #4a3c17   #f5dfcb   58  223   8 7   -
third-band         #463344   #ecd7e3   53  225   8 7   -
run-1              #56b4e9   #005f96   75  25   14 4   -
run-2              #e69f00   #b84c00   214 130  11 1   bold
run-3              #35c2b0   #00685c   79  23   10 5   underline
run-4              #f0785c   #a92c12   209 124  9  0   reverse
run-5              #cc79a7   #a2487c   175 126  13 12  -
run-6              #ecd35c   #735000   221 58   15 8   bold
run-7              #a29bff   #5a48c8   141 62   12 4   underline
run-8              #c3ccd6   #46525e   252 239  7  1   reverse
plot-axis          #8a939d   #5d6a75   245 241   7 0   -
plot-mark          #65707b   #7d8994   242 244   8 8   -
bar                #4a9cca   #2a7fb3   74  31    6 4   -
frozen             #a9c7dd   #3a6786   152 24    7 4   bold
right-1            #17282b   #dff1ee   235 255   0 15  -
on-right-1         #86d9cd   #00564c   79  23   10 4   -
right-2            #173235   #c9e8e2   236 194   0 15  -
on-right-2         #b4e8e0   #00463e   121 23   10 4   -
right-3            #1b4a46   #aedcd4   23  152   0 15  bold
on-right-3         #e2f5f2   #003a33   255 233  15 4   -
wrong-1            #33252a   #fbe9e4   235 255   0 15  -
on-wrong-1         #f2a091   #8f2914   209 124   9 1   -
wrong-2            #512f2e   #f7d5cc   52  224   0 15  underline
on-wrong-2         #fbd2c9   #6f1d0c   255 88    9 1   -
wrong-3            #773c35   #f0b5a6   88  217   1 1   bold,underline
on-wrong-3         #ffeae5   #4a1207   255 16   15 15  -
wrong-4            #a04a3c   #e48f7a   124 210   1 1   reverse
on-wrong-4         #ffffff   #2c0a03   231 16   15 15  -
wrong-5            #ef7d66   #ab321b   209 124   9 0   bold,reverse
on-wrong-5         #14090a   #ffffff   16  231   0 15  -
for                #e69f00   #e69f00   214 214  11 11  -
against            #56b4e9   #56b4e9   75  75   14 14  -
"""
# What speaks for and against a class upon a grey image, in 256 colours: three strengths, four shades of grey each.
FOR_256 = ((58, 95, 137, 180), (94, 130, 136, 179), (130, 172, 214, 215))
AGAINST_256 = ((23, 60, 67, 110), (24, 31, 68, 74), (31, 32, 75, 117))
Rgb = tuple[int, int, int]
WRONG_STEPS, RIGHT_STEPS = 5, 3


class Mark(NamedTuple):
    """What stands for a role where there are no colours."""

    bold: bool = False
    underline: bool = False
    reverse: bool = False


def _read() -> dict[str, dict[str, str]]:
    rows = (line.split() for line in _TABLE.strip().splitlines())
    return {role: dict(zip(_COLUMNS, cells, strict=True)) for role, *cells in rows}


_CELLS = _read()
ROLES = tuple(_CELLS)


def entry(role: str, depth: Depth, *, dark: bool) -> str:
    """Return what the table says of `role`: a colour, a number of xterm's table, or attributes."""
    return _CELLS[role]["none" if depth == "none" else f"{depth} {'dark' if dark else 'light'}"]


@lru_cache(maxsize=8)
def palette(depth: Depth, *, dark: bool) -> Mapping[str, str]:
    """Return the colour of each role as `#rrggbb` or `#rrggbbaa`.

    Rich sends those for 256 and 16 colours as exactly the number that the table has. Without colours each role has one
    that only says which role it is; see `marks`.
    """
    if depth == "none":
        return {role: f"#{number + 1:02x}0000" for number, role in enumerate(ROLES) if role != "backdrop"} | {
            "backdrop": "#00000000"
        }
    found = {}
    for role in ROLES:
        cell = entry(role, depth, dark=dark)
        if cell == "-":
            found[role] = "#00000000"
        else:
            found[role] = cell if cell.startswith("#") else _hex(sent_as(int(cell)))
    return found


@lru_cache(maxsize=1)
def marks() -> Mapping[Rgb, Mark]:
    """Return the attributes of the roles by their colours in the palette without any."""
    found = {}
    for role, colour in palette("none", dark=True).items():
        names = entry(role, "none", dark=True).split(",")
        if names != ["-"]:
            found[(int(colour[1:3], 16), 0, 0)] = Mark(**dict.fromkeys(names, True))
    return found


def rgb(colour: str) -> Rgb:
    """Return `#rrggbb` as numbers."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def sent_as(number: int) -> Rgb:
    """Return the colour that Rich reduces to `number` of xterm's table.

    It is that of the table, but for the light greys of the ramp: Rich is off by one there. Raises `ValueError` for
    those greys of the cube that it never sends.
    """
    if number < 16:
        return rgb(STANDARD_PALETTE[number].hex)
    red, green, blue = EIGHT_BIT_PALETTE[number]
    if number >= 232:
        # Rich's Color.downgrade: 25 steps from black to white.
        return (round((number - 231) * 255 / 25),) * 3
    if red == green == blue and number not in (16, 231):
        raise ValueError(f"{number} is a grey of the colour cube: take one of 232 to 255")
    return red, green, blue


def _hex(colour: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
