"""What the module tree lists, and what freezing a part of it means."""

import math
import time
from collections.abc import Sequence

import msgspec
import pytest

from finetui.engine.protocol.commands import SetFrozen
from finetui.engine.protocol.events import Layer, LayerGroup, LayersMeasured, ModuleRow
from finetui.tui.state.layer_tree import (
    LayerStates,
    Node,
    beside,
    layer_tree,
    numbers,
    rate_factors,
    scientific,
    update_mark,
    visible,
)


def group(name: str, *layers: str, frozen: Sequence[str] = (), in_use: bool = True) -> LayerGroup:
    found = tuple(Layer(name=layer, summary=f"a {layer}", parameters=10, frozen=layer in frozen) for layer in layers)
    whole = set(layers) <= set(frozen)
    return LayerGroup(name=name, summary="", parameters=10 * len(found), frozen=whole, in_use=in_use, layers=found)


def row(name: str, parameters: int = 10) -> ModuleRow:
    depth = name.count(".") + 1 if name else 0
    return ModuleRow(name=name, depth=depth, kind="Kind", summary="", parameters=parameters, own=10, views=("weights",))


RESNET = (
    group("conv1", "conv1", "bn1"),
    group("layer1", "layer1.0.conv1", "layer1.0.bn1", "layer1.1.conv1"),
    group("fc", "fc"),
)


def at(nodes: Sequence[Node], key: str) -> int:
    return next(index for index, node in enumerate(nodes) if node.key == key)


def test_without_a_description_the_names_of_the_layers_make_the_tree() -> None:
    nodes = layer_tree(RESNET, (), "resnet")
    assert [(node.path, node.depth, node.is_parent, node.parameters) for node in nodes] == [
        ("", 0, True, 60),
        ("conv1", 1, False, 10),
        ("bn1", 1, False, 10),
        ("layer1", 1, True, 30),
        ("layer1.0", 2, True, 20),
        ("layer1.0.conv1", 3, False, 10),
        ("layer1.0.bn1", 3, False, 10),
        ("layer1.1", 2, True, 10),
        ("layer1.1.conv1", 3, False, 10),
        ("fc", 1, False, 10),
    ]
    assert nodes[0].shown == "resnet"
    assert nodes[0].views is None
    assert nodes[4].layers == ("layer1.0.conv1", "layer1.0.bn1")


def test_layers_that_stand_apart_in_the_table_stand_together_in_the_tree() -> None:
    groups = (group("a", "features.0"), group("b", "other"), group("c", "features.9"), group("d", "features.10"))
    paths = [node.path for node in layer_tree(groups, (), "net")]
    assert paths == ["", "features", "features.0", "features.9", "features.10", "other"]


def test_a_description_brings_the_modules_without_parameters() -> None:
    described = [row(""), row("conv1"), row("relu", 0), row("layer1", 30), row("layer1.0")]
    nodes = layer_tree(RESNET, described, "resnet")
    assert [node.key for node in nodes][:1] == [""]
    relu = nodes[at(nodes, "relu")]
    assert (relu.layers, relu.parameters, relu.summary, relu.views) == ((), 0, "Kind", ("weights",))
    # A layer that was not described is not lost.
    assert {"bn1", "fc", "layer1.1.conv1"} <= {node.key for node in nodes}


def test_tensors_of_the_model_and_of_containers_have_lines_of_their_own() -> None:
    groups = (group("ViT", "class_token"), group("encoder", "encoder", "encoder.block"))
    described = [row("", 30), row("encoder", 20), row("encoder.block")]
    nodes = layer_tree(groups, described, "vit")
    assert [(node.key, node.shown, node.depth, node.layers) for node in nodes] == [
        ("", "vit", 0, ("class_token", "encoder", "encoder.block")),
        ("class_token", "class_token", 1, ("class_token",)),
        ("encoder", "encoder", 1, ("encoder", "encoder.block")),
        ("encoder.", "its own", 2, ("encoder",)),
        ("encoder.block", "block", 2, ("encoder.block",)),
    ]
    assert nodes[3].parameters == 10
    assert nodes[3].path == "encoder"


def test_folding_hides_what_is_within_and_nothing_else() -> None:
    nodes = layer_tree(RESNET, (), "resnet")
    shown = [node.key for node in visible(nodes, {"layer1.0", "layer1"})]
    assert shown == ["", "conv1", "bn1", "layer1", "fc"]
    shown = [node.key for node in visible(nodes, {"layer1.0"})]
    assert shown == ["", "conv1", "bn1", "layer1", "layer1.0", "layer1.1", "layer1.1.conv1", "fc"]
    assert [node.key for node in visible(nodes, {""})] == [""]


@pytest.mark.parametrize(
    ("key", "above", "below"),
    [
        ("", (), ()),
        ("conv1", (), ("bn1", "layer1.0.conv1", "layer1.0.bn1", "layer1.1.conv1", "fc")),
        ("layer1", ("conv1", "bn1"), ("fc",)),
        ("layer1.0", ("conv1", "bn1"), ("layer1.1.conv1", "fc")),
        ("layer1.0.bn1", ("conv1", "bn1", "layer1.0.conv1"), ("layer1.1.conv1", "fc")),
    ],
)
def test_above_and_below_leave_out_the_module_itself(key: str, above: tuple[str, ...], below: tuple[str, ...]) -> None:
    nodes = layer_tree(RESNET, (), "resnet")
    assert beside(nodes, at(nodes, key), -1) == above
    assert beside(nodes, at(nodes, key), 1) == below


def test_states_of_modules_follow_their_layers() -> None:
    groups = (
        group("conv1", "conv1", "bn1", frozen=("conv1", "bn1")),
        group("layer1", "layer1.0", "layer1.1", frozen=("layer1.0",)),
        group("fc", "fc"),
        group("old", "old", frozen=("old",), in_use=False),
    )
    nodes = layer_tree(groups, [*map(row, ("", "conv1", "bn1", "layer1", "layer1.0", "layer1.1", "fc", "old"))], "net")
    nodes = (*nodes, nodes[-1]._replace(key="relu", layers=()))
    states = LayerStates(groups)
    assert {node.key: states.of(node) for node in nodes} == {
        "": "partly", "conv1": "frozen", "bn1": "frozen", "layer1": "partly", "layer1.0": "frozen",
        "layer1.1": "trains", "fc": "trains", "old": "bypassed", "relu": "",
    }  # fmt: skip
    waiting = LayerStates(
        groups, [SetFrozen(groups=("layer1",), frozen=True), SetFrozen(layers=("bn1",), frozen=False)]
    )
    assert {node.key: waiting.of(node) for node in nodes[:5]} == {
        "": "partly", "conv1": "frozen", "bn1": "thawing", "layer1": "freezing", "layer1.0": "freezing",
    }  # fmt: skip


def test_the_command_names_whole_groups_and_single_layers() -> None:
    groups = (
        group("conv1", "conv1", "bn1"),
        group("layer1", "layer1.0", "layer1.1", frozen=("layer1.0",)),
        group("old", "old", frozen=("old",), in_use=False),
    )
    states = LayerStates(groups)

    def asked(*layers: str) -> tuple[tuple[str, ...], tuple[str, ...], bool] | None:
        command = states.toggled(layers)
        return None if command is None else (command.groups, command.layers, command.frozen)

    # In ResNet `conv1` is a group as well, with bn1 in it: the layer alone must go by its name as a layer.
    assert asked("conv1") == ((), ("conv1",), True)
    assert asked("conv1", "bn1", "layer1.1") == (("conv1",), ("layer1.1",), True)
    assert asked("layer1.0") == ((), ("layer1.0",), False)
    assert asked("layer1.0", "layer1.1") == (("layer1",), (), True)
    assert asked("old") is None
    assert asked("layer1.1", "old") == ((), ("layer1.1",), True)
    assert asked() is None


def test_gradients_add_up_and_of_several_updates_the_worst_is_shown() -> None:
    nodes = layer_tree(RESNET, (), "resnet")
    measured = LayersMeasured(
        command=SetFrozen(frozen=True),
        gradients={"layer1.0.conv1": 3.0, "layer1.0.bn1": 4.0, "fc": 1.0},
        updates={"layer1.0.conv1": 0.05, "layer1.0.bn1": 1.2e-3, "fc": 2e-3},
    )
    assert numbers(nodes[at(nodes, "layer1.0")], measured) == ("5.0", "5.0e-2", "↑")
    assert numbers(nodes[at(nodes, "fc")], measured) == ("1.0", "2.0e-3", "")
    assert numbers(nodes[at(nodes, "conv1")], measured) == ("", "", "")
    assert numbers(nodes[0], None) == ("", "", "")
    updates = {"layer1.0.conv1": 1e-3, "layer1.0.bn1": 2e-3}
    for name, ratio, shown in (
        ("conv1", 1e-4, ("", "")),  # all are healthy
        ("conv1", 4e-6, ("4.0e-6", "↓")),
        ("fc", 1e-7, ("1.0e-7", "↓")),  # the smallest of those that are too small
        ("fc", 0.02, ("2.0e-2", "↑")),
        ("conv1", 0.5, ("0.50", "↑")),  # the largest of those that are too large
        ("fc", math.nan, ("nan", "!")),
    ):
        updates[name] = ratio
        told = numbers(nodes[0], msgspec.structs.replace(measured, updates=updates))
        assert told[1:] == shown, (name, ratio)


def test_updates_out_of_the_healthy_range_are_marked() -> None:
    found = [update_mark(ratio) for ratio in (0.0, 9e-6, 1e-5, 1e-3, 1e-2, 1.1e-2, float("inf"), float("nan"))]
    assert found == ["↓", "↓", "", "", "", "↑", "↑", "!"]
    shown = {1.24e-3: "1.2e-3", 0.012: "1.2e-2", 0.5: "0.50", 12.0: "12", 123.0: "1.2e2", 0.0: "0.0", math.inf: "inf"}
    assert {value: scientific(value) for value in shown} == shown
    assert scientific(math.nan) == "nan"


def test_rate_factors_are_those_of_layers_that_train() -> None:
    groups = (group("a", "a", "b", frozen=("a",)), group("c", "c"))
    assert rate_factors(groups, (0.1, 1.0)) == {"b": 0.1, "c": 1.0}
    assert rate_factors(groups, ()) == {"b": 1.0, "c": 1.0}


def test_a_thousand_layers_are_no_work() -> None:
    names = [f"stage{a}.{b}.{part}" for a in range(4) for b in range(100) for part in ("conv", "bn", "act")]
    groups = tuple(group(f"stage{a}", *(name for name in names if name.startswith(f"stage{a}."))) for a in range(4))
    start = time.process_time()  # whatever else the machine is busy with
    nodes = layer_tree(groups, (), "net")
    states = LayerStates(groups)
    found = [states.of(node) for node in visible(nodes, set())]
    assert time.process_time() - start < 5
    assert len(found) == 1 + 4 + 400 + 1200
    assert set(found) == {"trains"}
