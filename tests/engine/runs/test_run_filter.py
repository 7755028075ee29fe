"""The language that runs are filtered by, and the order that they are sorted in."""

import pytest

from finetui.engine.errors import BadInput
from finetui.engine.runs.run_fields import FIELDS, field_named, in_order
from finetui.engine.runs.run_filter import matching, parse_filter
from finetui.engine.runs.summaries import RunSummary


def run(name: str, **more: object) -> RunSummary:
    about = {"state": "finished", "data": "mnist", "model": "lenet", "epoch": 1, "step": 9, "best_accuracy": None}
    return RunSummary(**{"name": name, "path": "", "started": "", "parent": None} | about | more)


RUNS = [
    run("a", lr=0.01, best_accuracy=0.984321, tags=("keep", "good"), took=90.0, started="2026-11-26T10:00:00+00:00"),
    run("b", lr=0.001, best_accuracy=0.97, model="resnet18", note="Two words", recipe="lp-ft", parent="a", pid=7),
    run("c-9", lr=0.1, state="crashed", data="/data/my photos", size=20_000_000, took=7200.0),
    run("lr", started="2026-11-27T09:30:00+00:00", epochs=5),
]


def found(text: str) -> list[str]:
    return [one.name for one in matching(RUNS, parse_filter(text))]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["a", "b", "c-9", "lr"]),
        ("lr>0.005", ["a", "c-9"]),
        ("lr >= 1e-2", ["a", "c-9"]),
        ("lr<=.001", ["b"]),
        ("lr:0.01", ["a"]),
        ("lr=0.010", ["a"]),
        ("lr!=0.01", ["b", "c-9", "lr"]),
        ("best>0.98", ["a"]),
        ("best=98.43%", ["a"]),
        ("best<98%", ["b"]),
        ("model:resnet", ["b"]),
        ("model=resnet", []),
        ("MODEL:ResNet18", ["b"]),
        ("tag:keep", ["a"]),
        ("tag=kee", []),
        ("tags:kee", ["a"]),
        ("tag!=keep", ["b", "c-9", "lr"]),
        ('tag=""', ["b", "c-9", "lr"]),
        ("-state:crashed", ["a", "b", "lr"]),
        ("not state:crashed -a", ["b", "lr"]),
        ("-not -lr>0.005", ["b", "lr"]),
        ("state:finished lr>0.005", ["a"]),
        ('note:"two words"', ["b"]),
        ("data:'my photos'", ["c-9"]),
        ("two", ["b"]),
        ('"my photos"', ["c-9"]),
        ("c-9", ["c-9"]),
        ("started>2026-11-26", ["lr"]),
        ("started>=2026-11-26", ["a", "lr"]),
        ("started<2026-11-27T10", ["a", "lr"]),
        ("started:2026-11", ["a", "lr"]),
        ("took>1m", ["a", "c-9"]),
        ("took:2h", ["c-9"]),
        ("size>=20MB", ["c-9"]),
        ("epochs>4", ["lr"]),
        ("live:yes", ["b"]),
        ("parent=a", ["b"]),
        ("recipe:lp", ["b"]),
    ],
)
def test_what_a_filter_lists(text: str, names: list[str]) -> None:
    assert found(text) == names


@pytest.mark.parametrize(
    ("text", "at", "problem"),
    [
        ("lr>>1", 4, "lr is compared with a number such as 0.01, not with '>1'"),
        ("a best>high", 8, "such as 0.98 or 98%, not with 'high'"),
        ("took>3x", 6, "90s, 10m or 2h"),
        ("modle:x", 1, "no field 'modle'; did you mean model?"),
        ("a zz=1", 3, "no field 'zz'; there are"),
        ("lr>", 1, "nothing follows 'lr>'"),
        ("a -", 3, "nothing follows '-'"),
        ("a not ", 3, "nothing follows 'not'"),
        ("a 'b", 3, "this quote is not closed"),
        ('note:"b', 6, "this quote is not closed"),
        (">0.1", 1, "a field name is missing before '>0.1'"),
        ("name>b", 6, "name is text"),
        ("started>yesterday", 9, "a date such as 2026-11-27"),
        ("lr>nan", 4, "not with 'nan'"),
        ("lr>1e999", 4, "not with '1e999'"),
    ],
)
def test_a_bad_filter_is_one_sentence_that_names_the_place(text: str, at: int, problem: str) -> None:
    with pytest.raises(BadInput) as raised:
        parse_filter(text)
    assert f"at character {at}: " in str(raised.value)
    assert problem in str(raised.value)


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("best", ["a", "b", "c-9", "lr"]),
        ("lr", ["c-9", "a", "b", "lr"]),
        ("started", ["lr", "a", "b", "c-9"]),
        ("model", ["a", "c-9", "lr", "b"]),
        ("tag", ["a", "b", "c-9", "lr"]),
    ],
)
def test_the_highest_newest_or_first_comes_first_and_none_at_all_last(field: str, names: list[str]) -> None:
    chosen = field_named(field, "--sort")
    assert [one.name for one in in_order(RUNS, chosen)] == names
    have = [one for one in RUNS if chosen.of(one) not in (None, "", ())]
    back = [one.name for one in in_order(RUNS, chosen, reverse=True)]
    assert {one.name for one in have} == set(back[: len(have)])
    assert back[0] == max(have, key=lambda one: names.index(one.name)).name or field == "model"


def test_every_field_has_a_value_of_its_kind() -> None:
    kinds = {"text": str, "date": str, "words": tuple, "number": float, "share": float, "duration": float, "size": int}
    for field in FIELDS.values():
        for one in RUNS:
            value = field.of(one)
            assert value is None or isinstance(value, (kinds[field.kind], int)), field.name


def test_a_state_that_there_is_not_is_said_with_those_that_may_be_meant() -> None:
    for typed in ("state:finised", "state=finish"):
        with pytest.raises(BadInput, match="there is no state .*did you mean finished"):
            parse_filter(typed)
    assert len(parse_filter("state:fin -state=crashed")) == 2
