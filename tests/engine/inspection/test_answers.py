"""Questions to an engine: what it answers, and that a training goes on as if nobody had asked."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from finetui.engine.errors import BadInput
from finetui.engine.inspection.answers import MOST_IMAGES, Answerer
from finetui.engine.inspection.opened_checkpoint import open_checkpoint
from finetui.engine.link.journal_link import JournalLink
from finetui.engine.predictions.file import load_predictions
from finetui.engine.predictions.images import pixels
from finetui.engine.protocol import commands, events
from finetui.engine.protocol.commands import (
    EXPLANATIONS,
    AuditParameters,
    DescribeModel,
    Evaluate,
    ExplainImage,
    FetchImages,
    FindDuplicates,
    MeasureLayers,
    Pause,
    SetFrozen,
    ViewLayer,
)
from finetui.engine.protocol.queues import CommandQueue
from finetui.engine.runs.folder import RunFolder
from finetui.engine.session.session import Session

PATIENCE = 60.0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of one epoch on the bundled digits."""
    from finetui.engine.protocol.config import DataConfig, RunConfig, RunSection, TrainingConfig

    config = RunConfig(
        data=DataConfig(name="mnist-sample"),
        training=TrainingConfig(epochs=1, batch_size=100, lr=0.05, device="cpu"),
        run=RunSection(name="asked", runs_dir=str(tmp_path_factory.mktemp("runs"))),
    )
    folder = Session(config).run().folder
    assert folder is not None
    return folder


@pytest.fixture
def answerer(run: RunFolder) -> Iterator[Answerer]:
    opened = open_checkpoint(run.last, device="cpu")
    yield Answerer(opened.subject)
    opened.close()


QUESTIONS = (
    FetchImages(indices=(0, 5)),
    *(ExplainImage(index=3, method=method) for method in EXPLANATIONS),
    FindDuplicates(),
    DescribeModel(),
    ViewLayer(layer="conv1", view="filters"),
    ViewLayer(layer="conv2", view="feature-maps", index=2),
    ViewLayer(layer="fc1", view="weights"),
    ViewLayer(layer="fc1", view="activations"),
    MeasureLayers(),
    AuditParameters(steps=3),
)


class Asking:
    """Asks one question after the other while training goes on, each once the one before is answered."""

    def __init__(self, questions: tuple[commands.AnyQuestion, ...]) -> None:
        self.commands = CommandQueue()
        self.replies: list[events.AnyEvent] = []
        self._left = list(questions)

    def __call__(self, event: events.AnyEvent) -> None:
        if isinstance(event, events.Answer | events.CommandRefused):
            self.replies.append(event)
        begins = isinstance(event, events.StateChanged) and event.state == "running"
        if self._left and (begins or isinstance(event, events.Answer | events.CommandRefused)):
            self.commands.put(self._left.pop(0))


def weights_after(make_config: Callable[..., object], sink: Asking | None, name: str) -> tuple[dict, torch.Tensor]:
    commands = sink.commands if sink else None
    session = Session(make_config(name=name, momentum=0.9), sinks=[sink] if sink else [], commands=commands)
    session.run()
    weights = session.active.trainer.model.state_dict()
    return {key: value.clone() for key, value in weights.items()}, torch.get_rng_state()


def test_a_training_that_is_asked_everything_ends_bit_for_bit_like_one_that_is_not(make_config) -> None:
    quiet, quiet_rng = weights_after(make_config, None, "quiet")
    asking = Asking(QUESTIONS * 2)
    asked, asked_rng = weights_after(make_config, asking, "asked")
    assert [type(reply) for reply in asking.replies if isinstance(reply, events.CommandRefused)] == []
    assert len(asking.replies) == 2 * len(QUESTIONS)
    assert all(torch.equal(quiet[key], asked[key]) for key in quiet)
    assert torch.equal(quiet_rng, asked_rng)


def test_answers_carry_their_question_and_are_not_journaled(make_config, recorder) -> None:
    asking = Asking((FetchImages(indices=(1,)), DescribeModel()))
    outcome = Session(make_config(), sinks=[asking, recorder], commands=asking.commands).run()
    assert [reply.command for reply in asking.replies] == [FetchImages(indices=(1,), id=asking.replies[0].command.id),
                                                           asking.replies[1].command]  # fmt: skip
    assert {reply.seq for reply in asking.replies} == {-1}
    assert outcome.folder is not None
    journal = outcome.folder.journal.read_text()
    assert '"images"' not in journal
    assert "fetch_images" not in journal


def test_images_are_those_of_the_test_set(answerer: Answerer) -> None:
    answer = answerer.answer(FetchImages(indices=(7, 3, 100_000, -1)))
    assert isinstance(answer, events.Images)
    seven, three, beyond, negative = answer.pictures
    stored = answerer._subject.data.test
    assert np.array_equal(pixels(seven)[:, :, 0], stored.item(7)[0].numpy())
    assert np.array_equal(pixels(three)[:, :, 0], stored.item(3)[0].numpy())
    assert [picture.index for picture in answer.pictures] == [7, 3, 100_000, -1]
    assert "1,000" in beyond.problem
    assert negative.problem


def test_images_are_reduced_to_the_side_that_is_asked_for(answerer: Answerer) -> None:
    answer = answerer.answer(FetchImages(indices=(7,), side=14))
    assert isinstance(answer, events.Images)
    (small,) = answer.pictures
    whole = answerer._subject.data.test.item(7)[0].double()
    means = whole.reshape(14, 2, 14, 2).mean((1, 3)).numpy()
    assert np.abs(pixels(small)[:, :, 0] - means).max() <= 0.5


def test_too_many_images_at_a_time_are_refused(answerer: Answerer) -> None:
    with pytest.raises(BadInput, match=str(MOST_IMAGES)):
        answerer.answer(FetchImages(indices=tuple(range(MOST_IMAGES + 1))))


def test_an_explanation_is_of_the_class_that_is_asked_for(answerer: Answerer) -> None:
    likeliest = answerer.answer(ExplainImage(index=3, method="occlusion"))
    other = answerer.answer(ExplainImage(index=3, method="occlusion", target=(likeliest.target + 1) % 10))
    assert isinstance(likeliest, events.Explained)
    assert isinstance(other, events.Explained)
    assert likeliest.probability > other.probability
    assert likeliest.values != other.values
    values = np.frombuffer(likeliest.values, "<f4").reshape(likeliest.height, likeliest.width)
    assert values.shape == (28, 28)
    assert np.abs(values).max() == 1


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (ExplainImage(index=3, method="divination"), "divination"),
        (ExplainImage(index=100_000, method="occlusion"), "no test image 100000"),
        (ExplainImage(index=3, method="occlusion", target=10), "class 10"),
        (ViewLayer(layer="conv9", view="filters"), "conv9"),
        (ViewLayer(layer="conv1", view="dreams"), "dreams"),
        (ViewLayer(layer="relu", view="weights"), "relu"),
    ],
)
def test_what_has_no_answer_is_refused_in_words(answerer: Answerer, question, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        answerer.answer(question)


def test_the_module_tree_is_described_with_what_can_be_looked_at(answerer: Answerer) -> None:
    answer = answerer.answer(DescribeModel())
    assert isinstance(answer, events.ModelDescribed)
    rows = {row.name: row for row in answer.modules}
    assert rows["conv1"].output == (6, 24, 24)
    assert rows["conv1"].flops == 2 * 25 * 6 * 24 * 24
    assert rows["conv1"].views == ("filters", "feature-maps", "weights", "activations")
    assert rows[""].depth == 0
    assert rows[""].parameters == 44426
    assert answer.seconds is not None
    assert answer.seconds > 0


def test_measures_are_those_of_the_next_step(make_config, recorder) -> None:
    asking = Asking((MeasureLayers(),))
    asking.commands.put(SetFrozen(groups=("conv1",), frozen=True))
    Session(make_config(), sinks=[asking, recorder], commands=asking.commands).run()
    first = next(reply for reply in asking.replies if isinstance(reply, events.LayersMeasured))
    assert set(first.gradients) == {"conv2", "fc1", "fc2", "fc3"}  # conv1 was frozen before the first step
    assert all(value > 0 for value in first.gradients.values())
    assert all(0 < value < 1 for value in first.updates.values())


def test_a_measure_that_no_step_will_give_is_refused(make_config) -> None:
    class PauseAtOnce(Asking):
        def __call__(self, event: events.AnyEvent) -> None:
            super().__call__(event)
            if isinstance(event, events.StateChanged) and event.state == "running":
                self.commands.put(Pause())

    asking = PauseAtOnce((MeasureLayers(),))
    Session(make_config(), sinks=[asking], commands=asking.commands).run()
    (reply,) = asking.replies
    assert isinstance(reply, events.CommandRefused)
    assert "paused" in reply.reason


def test_predictions_of_an_evaluation_before_the_first_step_can_be_read(make_config, recorder) -> None:
    seen: list[int] = []
    commands = CommandQueue()

    def sink(event: events.AnyEvent) -> None:
        if isinstance(event, events.StateChanged) and event.state == "ready":
            commands.put(Evaluate())
        if isinstance(event, events.Evaluated):
            seen.append(len(load_predictions(Path(event.predictions))))

    Session(make_config(), sinks=[sink, recorder], commands=commands, autostart=False).run()
    assert seen == [1000]
    assert not Path(recorder.of(events.Evaluated)[0].predictions).exists()  # gone with the session


# -- a finished run -----------------------------------------------------------------------------------------


class Inquiry:
    """A dashboard's link to a finished run, and what comes out of it."""

    def __init__(self, folder: RunFolder) -> None:
        self.link = JournalLink(folder)
        self.thread = threading.Thread(target=self.link.run, daemon=True)
        self.thread.start()

    def ask(self, question: commands.AnyCommand) -> events.AnyEvent:
        self.link.send(question)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for event in self.link.events.drain():
                if isinstance(event, events.Answer | events.CommandRefused) and event.command.id == question.id:
                    return event
            time.sleep(0.02)
        raise AssertionError("no answer")


@pytest.fixture
def inquire(run: RunFolder) -> Iterator[Callable[[RunFolder], Inquiry]]:
    made: list[Inquiry] = []

    def make(folder: RunFolder) -> Inquiry:
        made.append(Inquiry(folder))
        return made[-1]

    yield make
    for inquiry in made:
        inquiry.link.close()


def test_questions_about_a_finished_run_are_answered_from_its_checkpoint(run, inquire, answerer) -> None:
    inquiry = inquire(run)
    found = inquiry.ask(FetchImages(indices=(4,)))
    assert isinstance(found, events.Images)
    assert found.pictures == answerer.answer(FetchImages(indices=(4,))).pictures
    explained = inquiry.ask(ExplainImage(index=4, method="occlusion"))
    assert isinstance(explained, events.Explained)
    assert explained.step == 40  # the checkpoint's
    refused = inquiry.ask(ExplainImage(index=4, method="divination"))
    assert isinstance(refused, events.CommandRefused)
    assert isinstance(inquiry.ask(MeasureLayers()), events.CommandRefused)
    assert isinstance(inquiry.ask(AuditParameters()), events.CommandRefused)
    assert isinstance(inquiry.ask(Pause()), events.CommandRefused)


def test_a_run_without_a_usable_checkpoint_refuses_every_question(run, inquire, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "broken")
    folder.path.mkdir()
    folder.journal.write_bytes(run.journal.read_bytes())
    folder.last.write_bytes(b"this is no checkpoint")
    inquiry = inquire(folder)
    for _ in range(2):
        refused = inquiry.ask(FetchImages(indices=(4,)))
        assert isinstance(refused, events.CommandRefused)
        assert "last.ckpt" in refused.reason
