"""Random input for the whole program, from a seed: what a person, a paste, a mouse and a bad line could send."""

import random
import string
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

SIZES = (*((80, 24), (120, 40)) * 4, (60, 15), (60, 15), (200, 60), (200, 60), (1, 1), (20, 5), (500, 200))
ESCAPE, CONTROL_C = b"\x1b", b"\x03"

# Keys of the screens, their widgets and the forms. Those that leave the program, or end the run, come less often.
_RARE_KEYS = "qqddxx"
_KEYS = (
    "s" * 12 + " " * 8 + "nnefwwLl++--==??mmmmggggrrrccccooooMMtyvvOORRCCSSDDEEuujkhaabz,.i/12345[]()XYBKWHVZFAUN!*#%>"
)
_NAVIGATION = (
    *(b"\x1b[A", b"\x1b[B", b"\x1b[C", b"\x1b[D", b"\x1bOA", b"\x1bOB", b"\x1b[5~", b"\x1b[6~", b"\x1b[H", b"\x1b[F"),
    *(b"\r", b"\r", b"\r", b"\r", b"\t", b"\t", b"\t", b"\x1b[Z", b"\x7f", b"\x1b[3~", b"\x1b[2~"),
    *(b"\x1b[1;2A", b"\x1b[1;2B", b"\x1b[1;5C", b"\x1b[1;5D", b"\x1b[1;2H", b"\x1b[1;2F"),
)
_FUNCTION_KEYS = (
    *(b"\x1bOP", b"\x1bOQ", b"\x1bOR", b"\x1bOS", b"\x1b[15~", b"\x1b[17~", b"\x1b[20~", b"\x1b[24~", b"\x1b[25~"),
    *(b"\x1b[1;2P", b"\x1b[15;5~", b"\x1bx", b"\x1bq", b"\x1b\r", b"\x1b\x7f"),
    # Kitty's protocol: escape, control and q, a key that comes up, keys that nobody has.
    *(b"\x1b[27u", b"\x1b[113;5u", b"\x1b[97;1:3u", b"\x1b[57441u", b"\x1b[0u", b"\x1b[1114112u", b"\x1b[55296;1u"),
)
# Not control and \, which the terminal makes a signal of while the program has given it back.
_CONTROL_KEYS = tuple(bytes([code]) for code in (*range(0, 9), *range(11, 27), 29, 30, 31)) + (b"\x10",) * 8
_JUNK = (
    *(
        b"\x1b[",
        b"\x1b]",
        b"\x1bP",
        b"\x1b[<",
        b"\x1b[<0;",
        b"\x1b[<0;1;1",
        b"\x1b[<999999999999;1;1M",
        b"\x1b[<0;-1;0M",
    ),
    *(
        b"\x1b[<0;0;0M",
        b"\x1b[M",
        b"\x1b[M   ",
        b"\x1b[?",
        b"\x1b[1;1R",
        b"\x1b[0;0R",
        b"\x1b[?2026;2$y",
        b"\x1b[?1;2c",
    ),
    *(
        b"\x1b]0;title\x07",
        b"\x1b]52;c;eA==\x07",
        b"\x1b[2J",
        b"\x1b[?1049l",
        b"\x1bc",
        b"\x1b_Gi=1;OK\x1b\\",
        b"\x9b31m",
    ),
    *(b"\xff\xfe", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x92", b"\xed\xa0\x80", b"\x80" * 20, b"\xef\xbf\xbe", b"\x1b" * 7),
    *(b"\x1b[48;24;80;0;0t", b"\x1b[48;0;0;0;0t", b"\x1b[48;99999;99999;1;1t", b"\x1b[201~", b"\x1b[;;;;;;;;~"),
    *("é漢字🙂‮​".encode(), b"\x1b[99999999999999999999~", b"\x1bO", b"\x1b\x1b[A"),
)
_PASTES = (
    *(
        b"",
        b"0.01",
        b"1e-3",
        b"1e999",
        b"nan",
        b"-1",
        b"conv1, fc2",
        b"cat\nbash\r\n",
        b"x" * 10_000,
        b"[/red]",
        b"a[/]b",
    ),
    *(
        b"[@click=app.quit]x",
        b"q\nd\nx\n",
        b"\x1b]0;owned\x07",
        b"\x1b]52;c;b3duZWQ=\x07",
        b"\x1b[2J\x1b[H",
        b"\x1b[?1049l",
    ),
    *(
        b"\x1b[48;99999;99999;1;1t",
        b"\x1b[<0;1;1M",
        b"\x00\x00",
        b"\xff\xfe\xfd",
        b"\n" * 300,
        "漢🙂‮é\u200b".encode() * 50,
    ),
    *(b"\x1b[A" * 500, b"((((((((((", b"9" * 400, b"\x1b", b"\x1b[", b"exports/all.csv", b"all.json", b"sheet.png"),
)
_TYPED = (
    *(
        b"checkpoint",
        b"theme",
        b"screenshot",
        b"suspend",
        b"conv",
        b"0.5",
        b"1e-9",
        b"17",
        b"linear-probe",
        b"kept-one",
    ),
    *(b"../x", b"warning", b"step", b"(((", b"all.csv", b"[bold]", b"none", b"mnist-sample", b"no-such-data", b"2"),
)


class Action(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is done to the terminal: `data` is sent to the program, or the size is changed.

    Then `wait` seconds are let pass, or none: a burst. `kind` tells what it is meant to be.
    """

    kind: str
    data: bytes = b""
    columns: int = 0
    rows: int = 0
    wait: float = 0.0

    def __str__(self) -> str:
        what = f"{self.columns}x{self.rows}" if self.kind == "resize" else repr(self.data[:60])
        return f"{self.kind} {what} then {self.wait:.2f} s"


class Actions:
    """An endless sequence of actions, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._size = (80, 24)

    def __iter__(self) -> Iterator[Action]:
        makers = {
            self._key: 34,
            self._rare_key: 2,
            self._escape: 10,
            self._one_of("navigation", _NAVIGATION): 20,
            self._one_of("function key", _FUNCTION_KEYS): 3,
            self._one_of("control key", _CONTROL_KEYS): 4,
            self._one_of("junk", _JUNK): 3,
            self._one_of("typed", _TYPED): 4,
            self._garbage: 2,
            self._mouse: 13,
            self._paste: 2,
            self._resize: 5,
            self._one_of("focus", (b"\x1b[I", b"\x1b[O")): 2,
        }
        while True:
            (make,) = self._random.choices(tuple(makers), tuple(makers.values()))
            yield msgspec.structs.replace(make(), wait=self._wait())

    def _wait(self) -> float:
        """Return nothing half of the time, and otherwise mostly little: some things need a moment to go wrong."""
        return round(self._random.choice((0.0, 0.0, 0.0, 0.02, 0.05, 0.15, 0.6)), 2)

    def _one_of(self, kind: str, choices: Sequence[bytes]):
        return lambda: Action(kind, self._random.choice(choices))

    def _key(self) -> Action:
        return Action("key", self._random.choice(_KEYS).encode())

    def _rare_key(self) -> Action:
        return Action("key", self._random.choice(_RARE_KEYS).encode())

    def _escape(self) -> Action:
        return Action("escape", ESCAPE)

    def _garbage(self) -> Action:
        characters = string.printable + "äß€漢🙂\u200b\u202e\x85\xa0"
        return Action("garbage", "".join(self._random.choices(characters, k=self._random.randint(2, 30))).encode())

    def _mouse(self) -> Action:
        """Click, double-click, drag or turn the wheel, mostly where there is something."""
        columns, rows = self._size
        x, y = self._random.randint(1, columns), self._random.randint(1, rows)
        button = self._random.choice((0, 0, 0, 0, 1, 2, 4, 16))
        press, release = f"\x1b[<{button};{x};{y}M", f"\x1b[<{button};{x};{y}m"
        match self._random.randrange(6):
            case 0:
                code = self._random.choice((64, 65, 66, 67, 68, 80))
                return Action("wheel", (f"\x1b[<{code};{x};{y}M" * self._random.randint(1, 20)).encode())
            case 1:
                to_x, to_y = self._random.randint(1, columns + 5), self._random.randint(1, rows + 5)
                moves = f"\x1b[<{button + 32};{(x + to_x) // 2};{(y + to_y) // 2}M\x1b[<{button + 32};{to_x};{to_y}M"
                return Action("drag", f"{press}{moves}\x1b[<{button};{to_x};{to_y}m".encode())
            case 2:
                return Action("motion", f"\x1b[<35;{x};{y}M".encode())
            case 3:
                return Action("double click", (press + release + press + release).encode())
            case _:
                return Action("click", (press + release).encode())

    def _paste(self) -> Action:
        return Action("paste", b"\x1b[200~" + self._random.choice(_PASTES) + b"\x1b[201~")

    def _resize(self) -> Action:
        self._size = columns, rows = self._random.choice(SIZES)
        return Action("resize", columns=columns, rows=rows)


def write_script(path: Path, actions: Sequence[Action]) -> None:
    """Write `actions` to `path`, one JSON object a line, for `read_script`."""
    path.write_bytes(b"".join(msgspec.json.encode(action) + b"\n" for action in actions))


def read_script(path: Path) -> Iterator[Action]:
    """Yield the actions in `path`."""
    for line in path.read_bytes().splitlines():
        yield msgspec.json.decode(line, type=Action)
