import pytest
from canned import LAYERS, evaluated, layers, point, prepared, running

from finetui.engine.protocol.commands import (
    FetchImages,
    FindDuplicates,
    Pause,
    PreviewFinetune,
    Resume,
    SetFrozenNorm,
    SetLearningRate,
)
from finetui.engine.protocol.events import (
    Audience,
    CheckpointSaved,
    CommandAccepted,
    CommandRefused,
    DuplicatesFound,
    EffectMeasured,
    FinetunePreview,
    Images,
    KeptCheckpoint,
    LayersChanged,
    LearningRateChanged,
    Log,
    Phase,
    Rewound,
    StageStarted,
    StateChanged,
)
from finetui.tui.screens.status_lines import figures_line
from finetui.tui.state.store import LOG_LINES, Store, reduce
from finetui.tui.state.view import View


def folded(*events: object) -> Store:
    store = Store()
    store.fold(events)
    return store


def test_a_run_is_followed() -> None:
    store = folded(*running(point(50), evaluated(1, 0.9), point(150, loss=0.25)))
    view = store.view
    assert (view.state, view.name, view.step, view.epoch, view.best_accuracy) == ("running", "a-run", 150, 2, 0.9)
    x, y = store.curves.train["loss"].points()
    assert x.tolist() == [0.5, 1.5]
    assert y.tolist() == [0.5, 0.25]
    assert store.curves.watched["accuracy"].points()[0].tolist() == [1.0]
    # 850 steps of 10 ms; after each of 9 epochs, an evaluation of 0.1 s.
    assert store.seconds_left == pytest.approx((1000 - 150) * 64 / 6400 + 9 * 0.1)


def test_the_best_accuracy_is_kept_and_the_previous_evaluation() -> None:
    view = folded(*running(evaluated(1, 0.9), evaluated(2, 0.8))).view
    assert view.best_accuracy == 0.9
    assert view.previous.accuracy == 0.9
    assert view.evaluation.accuracy == 0.8


def test_a_new_run_on_the_same_link_begins_anew() -> None:
    store = folded(*running(point(50), evaluated(1, 0.9)), prepared(parent="a-run"))
    assert store.view.parent == "a-run"
    assert store.view.step == 0
    assert store.view.evaluation is None
    assert len(store.curves.train["loss"]) == 0
    assert any("a-run" in line.text for line in store.view.log)


def test_a_command_is_pending_until_its_answer() -> None:
    store = folded(*running())
    first, second = Pause(), SetLearningRate(value=0.1)
    store.sent(first)
    store.sent(second)
    store.fold([CommandAccepted(command=first)])
    assert list(store.view.pending.values()) == [second]
    store.fold([CommandRefused(command=second, reason="no")])
    assert store.view.pending == {}
    assert store.view.refusal.reason == "no"


def test_what_a_person_did_is_marked_where_it_took_effect() -> None:
    store = folded(
        *running(), LayersChanged(layers=layers("conv1"), step=150), LearningRateChanged(learning_rate=0.02, step=200)
    )
    assert [tuple(mark) for mark in store.view.marks] == [(1.5, "conv1 frozen"), (2.0, "lr x20")]
    assert store.view.learning_rate == 0.02
    thawed = reduce(store.view, LayersChanged(layers=LAYERS, step=300))
    assert thawed.marks[-1].label == "conv1 unfrozen"


def test_a_phase_is_shown_until_something_else_happens() -> None:
    view = reduce(View(), Phase(name="Reading"))
    assert view.phase.name == "Reading"
    assert reduce(view, StateChanged(state="ready")).phase is None


def test_a_search_that_ends_is_no_longer_shown_on_a_run_that_is_over() -> None:
    search = FindDuplicates(part="test")
    half = Phase(name="Looking for duplicates", done=5, total=10)
    view = reduce(View(state="finished"), half)
    assert view.phase is half
    assert reduce(view, Phase(name="Looking for duplicates", done=10, total=10)).phase is None
    assert reduce(view, DuplicatesFound(command=search, pairs=())).phase is None
    assert reduce(view, CommandRefused(command=search, reason="no")).phase is None
    assert reduce(view, CommandRefused(command=Pause(), reason="no")).phase is half
    reading = Phase(name="Reading", done=10, total=10)
    assert reduce(View(), reading).phase is reading, "something else of the preparation follows"


def test_the_log_is_bounded_and_harmless() -> None:
    store = folded(*(Log(level="info", message=f"{i}\x1b[2J[red]") for i in range(LOG_LINES + 50)))
    assert len(store.view.log) == LOG_LINES
    assert store.view.log[-1].text == f"{LOG_LINES + 49}�[2J[red]"


def test_stages_are_marked_and_shown() -> None:
    stage = StageStarted(index=2, count=2, name="all layers", epochs=7, learning_rate=0.0001, step=300)
    view = folded(*running(), stage).view
    assert view.stage is stage
    assert view.learning_rate == 0.0001
    assert [tuple(mark) for mark in view.marks] == [(3.0, "all layers")]
    assert "stage 2 of 2, all layers: 7 epochs, learning rate 0.0001" in view.log[-1].text


def test_the_effect_of_freezing_is_told() -> None:
    effect = EffectMeasured(trainable_before=44426, trainable_after=850, speed_before=8000.0, speed_after=12000.0)
    view = folded(*running(), effect).view
    assert view.effect is effect
    assert view.log[-1].text == "44,426 → 850 trainable parameters, 8,000 → 12,000 img/s"


def test_a_question_that_is_answered_is_not_pending_and_not_logged() -> None:
    store = folded(*running())
    question = PreviewFinetune()
    store.sent(question)
    lines = len(store.view.log)
    store.fold([FinetunePreview(command=question, head="keep")])
    assert store.view.pending == {}
    assert len(store.view.log) == lines


def test_the_switch_for_frozen_normalisation_is_followed() -> None:
    assert folded(*running(), CommandAccepted(command=SetFrozenNorm(trains=True))).view.norm_trains


def kept(name: str, step: int, at: int) -> KeptCheckpoint:
    return KeptCheckpoint(name=name, file=f"{name}.ckpt", step=step, epoch=step // 100, at=at)


def saved(step: int, at: int, *others: KeptCheckpoint) -> CheckpointSaved:
    return CheckpointSaved(file="last.ckpt", step=step, at=at, kept=(kept("last", step, at), *others))


def rewound(step: int, at: int, **fields: object) -> Rewound:
    plain = {"cause": "rollback", "file": "last.ckpt", "undone": 50, "learning_rate": 0.001, "layers": LAYERS}
    return Rewound(step=step, epoch=step // 100, at=at, **(plain | fields))


def losses(store: Store) -> tuple[list[float], list[float]]:
    x, y = store.curves.train["loss"].points()
    return x.tolist(), y.tolist()


def test_what_is_undone_leaves_the_curves_and_all_that_is_shown() -> None:
    first = saved(100, 7, kept("mark", 100, 7))
    store = folded(*running(point(50), point(100, loss=0.4), evaluated(1, 0.9), first))
    store.fold([
        LearningRateChanged(step=100, learning_rate=0.5), LayersChanged(step=100, layers=layers("conv1")),
        point(150, loss=9.0, lr=0.5), evaluated(2, 0.2), saved(200, 14, kept("mark", 100, 7)),
    ])  # fmt: skip
    store.fold([rewound(100, 7, best_accuracy=0.9), point(150, loss=0.3)])
    view = store.view
    assert losses(store) == ([0.5, 1.0, 1.5], [0.5, 0.4, 0.3])
    assert store.curves.watched["loss"].points()[0].tolist() == [1.0]
    assert (view.step, view.learning_rate, view.layers, view.best_accuracy) == (150, 0.001, LAYERS, 0.9)
    assert view.evaluation.accuracy == 0.9
    assert [mark.label for mark in view.marks] == ["rolled back"]
    assert view.state == "running"
    assert any(line.text.startswith("rolled back to ") and "(step 100)" in line.text for line in view.log)
    # The checkpoint on the line that was left is still there: going back to it brings that line again.
    store.fold([rewound(200, 14, layers=layers("conv1"), learning_rate=0.5)])
    assert losses(store) == ([0.5, 1.0, 1.5], [0.5, 0.4, 9.0])
    assert store.view.evaluation.accuracy == 0.2


def test_a_run_whose_journal_lost_its_checkpoints_is_cut_by_the_step() -> None:
    store = folded(*running(point(50), point(150, loss=9.0), evaluated(2, 0.2)), rewound(100, 99, cause="resume"))
    assert losses(store) == ([0.5], [0.5])
    assert store.view.evaluation is None
    assert store.view.step == 100


def test_only_snapshots_of_checkpoints_that_there_are_are_kept() -> None:
    store = folded(*running(*(saved(step, step, kept("mark", 5, 5)) for step in range(5, 60, 5))))
    assert set(store._snapshots) == {5, 55}


def test_the_log_names_those_who_steer_from_elsewhere() -> None:
    store = Store()
    mine, theirs, again = Pause(by="me pts/1"), Resume(by="ann pts/2"), Pause(by="ann pts/2")
    store.sent(mine)
    store.fold([StateChanged(state="paused"), CommandAccepted(command=mine)])
    store.fold([StateChanged(state="running"), CommandAccepted(command=theirs)])
    store.fold([CommandRefused(command=again, reason="training is paused")])
    assert [line.text for line in store.view.log] == [
        "paused at step 0",
        "running from step 0 (by ann pts/2)",
        "pause refused: training is paused (by ann pts/2)",
    ]


def test_who_watches_outlasts_a_new_run_on_the_same_link() -> None:
    store = Store()
    store.fold([Audience(names=("me", "ann")), prepared()])
    assert store.view.audience == ("me", "ann")


def test_the_status_line_tells_of_other_dashboards() -> None:
    store = Store()
    store.fold([prepared(), Audience(names=("me",))])
    assert "dashboard" not in figures_line(store, 120).plain
    store.fold([Audience(names=("me", "ann (reading)"))])
    assert "2 dashboards" in figures_line(store, 120).plain
    assert "2 dashboards" in figures_line(store, 80).plain


def test_what_an_engine_that_answers_questions_does_is_over_with_its_answer() -> None:
    ended = folded(*running(StateChanged(state="finished"), Phase(name="Importing PyTorch")))
    assert ended.view.phase is not None
    ended.fold([Images(command=FetchImages(indices=()), pictures=())])
    assert ended.view.phase is None
    live = folded(*running(Phase(name="Evaluating", done=1, total=9)))
    live.fold([Images(command=FetchImages(indices=()), pictures=())])
    assert live.view.phase is not None
