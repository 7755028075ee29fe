import msgspec

from finetui.engine.runs.summaries import RunSummary
from finetui.tui.state.run_tree import run_tree


def run(name: str, parent: str | None = None) -> RunSummary:
    return RunSummary(
        name=name, path="", state="finished", data="mnist", model="lenet", epoch=1, step=1, best_accuracy=None,
        started="", parent=parent,
    )  # fmt: skip


def drawn(*found: RunSummary) -> list[str]:
    return [prefix + summary.name for prefix, summary in run_tree(found)]


def test_finetunes_stand_below_their_parents() -> None:
    found = (run("d", "b"), run("c", "a"), run("b", "a"), run("x"), run("a"))
    assert drawn(*found) == ["x", "a", "├ c", "└ b", "  └ d"]


def test_branches_go_on_beside_deeper_ones() -> None:
    assert drawn(run("d", "b"), run("b", "a"), run("c", "a"), run("a")) == ["a", "├ b", "│ └ d", "└ c"]


def test_no_run_is_lost_whatever_their_parents_say() -> None:
    odd = (run("self", "self"), run("one", "two"), run("two", "one"), run("orphan", "gone"))
    assert sorted(summary.name for _, summary in run_tree(odd)) == ["one", "orphan", "self", "two"]
    assert msgspec.json.encode([summary for _, summary in run_tree(odd)])
