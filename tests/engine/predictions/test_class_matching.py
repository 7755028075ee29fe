"""Classes are found by their names, in whatever order, spelling and number they are."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from finetui.engine.errors import BadInput
from finetui.engine.predictions.class_matching import ClassMatch, match_by_name, match_by_position, require_any

NAMES = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=8, unique=True)


def places(network: str, data: str) -> list[int]:
    return match_by_name(network.split("|"), data.split("|")).places.tolist()


@given(names=NAMES, data=st.data())
def test_any_order_of_the_same_names_is_found(names: list[str], data) -> None:
    order = data.draw(st.permutations(range(len(names))))
    match = match_by_name(names, [names[place] for place in order])
    assert match.places.tolist() == order
    assert match.is_permutation
    assert match.same_order == (order == sorted(order))
    assert not match.respelled
    assert not match.unknown()
    assert not match.lacking()


@given(network=NAMES, data=NAMES)
def test_no_two_classes_of_the_data_become_one(network: list[str], data: list[str]) -> None:
    match = match_by_name(network, data)
    found = [place for place in match.places.tolist() if place >= 0]
    assert len(found) == len(set(found))
    for name in set(network) & set(data):
        assert match.places[data.index(name)] == network.index(name)
    assert len(match.unknown()) + match.known == len(data)
    assert len(match.lacking()) + match.known == len(network)


def test_what_only_one_side_has() -> None:
    match = match_by_name(("cat", "dog", "horse"), ("ape", "cat", "dog"))
    assert match.places.tolist() == [-1, 0, 1]
    assert (match.unknown(), match.lacking()) == (["ape"], ["horse"])
    said = match.notices("b", np.repeat([0, 1, 2], [30, 20, 10]))
    assert said == [
        "b has a class that the network does not know, ape: its 30 images are left out of the score",
        "b lacks a class of the network's, horse: an image taken for such a class counts as a mistake",
    ]


def test_another_spelling_is_the_same_class_where_it_is_the_only_one() -> None:
    assert places("golden retriever|café", "CAFE\u0301|Golden_Retriever") == [1, 0]
    match = match_by_name(("golden retriever",), ("Golden_Retriever",))
    assert "Golden_Retriever for golden retriever" in " ".join(match.notices("d", np.zeros(3, dtype=np.int64)))
    assert places("cat|Cat", "CAT") == [-1]  # which of them?
    assert places("cat|Cat", "Cat|cat") == [1, 0]
    assert places("cat", "Cat|CAT") == [-1, -1]
    assert places("cat", "CAT|cat") == [-1, 0]


def test_numbers_are_the_same_by_value_and_nothing_else_is_guessed() -> None:
    assert places("0|1|2", "02|00|01") == [2, 0, 1]
    assert places("0|1|2", "zero|one|two") == [-1, -1, -1]
    assert places("0 - zero|1 - one", "0|1") == [-1, -1]


def test_two_classes_of_one_name_stay_two() -> None:
    assert places("crane|kite|crane", "kite|crane|crane") == [1, 0, 2]
    assert places("crane|kite|crane", "kite|crane") == [1, -1]


def test_where_nothing_matches_it_is_refused_in_one_sentence() -> None:
    with pytest.raises(BadInput, match=r"x has cat and dog, and d has none .* 0 and 1; .*--classes-by position"):
        require_any(match_by_name(("cat", "dog"), ("0", "1")), "x", "d")
    with pytest.raises(BadInput, match="0, 1, 2, 3, 4 and 5 more; name data with the network's classes"):
        require_any(match_by_name(("cat", "dog"), tuple(map(str, range(10)))), "x", "d")


def test_by_position() -> None:
    match: ClassMatch = match_by_position(("cat", "dog"), ("0", "1"))
    assert match.same_order
    with pytest.raises(BadInput, match="has 2 classes, and the data has 3"):
        match_by_position(("cat", "dog"), ("0", "1", "2"))
