"""Training steps through `torch.compile`: the same learning, to the same bits again, and a word where it cannot be."""

from collections.abc import Callable

import pytest
import torch
from small_trainer import Small, make_trainer, take
from steered import assert_resumed_and_replayed_to_the_same_bits, at
from torch import nn

from finetui.engine.errors import BadInput
from finetui.engine.protocol.commands import SetFrozen, Stop
from finetui.engine.protocol.config import RunConfig, with_overrides
from finetui.engine.protocol.events import Evaluated, RunPrepared
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.session.session import Session
from finetui.engine.training import torch_compile
from finetui.engine.training.torch_compile import CompiledNetwork


def compiled(config: RunConfig, mode: str = "default") -> RunConfig:
    return with_overrides(config, {("training", "compile"): mode})


def events(folder: RunFolder, kind: type) -> list:
    return [event for event in JournalReader(folder.journal).read() if isinstance(event, kind)]


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Leave out what makes machine code, which takes long; return the sizes of batches that it would be made for."""
    sizes: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable:
        sizes.extend({len(tensor) for tensor in inputs if tensor.ndim == 4 and not isinstance(tensor, nn.Parameter)})
        return graph

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, *, mode, dynamic: real(model, backend=backend, dynamic=dynamic))
    return sizes


def test_each_size_and_each_set_of_frozen_layers_has_its_own_code(graphs: list[int]) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 4))
    network = CompiledNetwork(model, "default")
    for turn in range(10):  # more than torch compiles a function anew
        frozen = frozenset({"0"}) if turn % 2 else frozenset[str]()
        model[0].requires_grad_(not frozen)
        for size in (5, 3, 5):
            images = torch.randn(size, 1, 8, 8)
            assert torch.allclose(network.network(frozen, False)(images), model(images), atol=1e-6)
    assert graphs == [5, 3] * 10


def test_a_run_is_compiled_only_where_that_is_wanted(graphs: list[int], make_config) -> None:
    plain = Session(make_config(epochs=1, name="plain")).run().folder
    assert graphs == []
    fast = Session(compiled(make_config(epochs=1, name="compiled"))).run().folder
    assert graphs
    assert plain is not None
    assert fast is not None
    assert torch_compile.NOTICE in events(fast, RunPrepared)[0].notices
    assert torch_compile.NOTICE not in events(plain, RunPrepared)[0].notices
    weights = [torch.load(folder.last, weights_only=True)["model"] for folder in (plain, fast)]
    assert list(weights[0]) == list(weights[1])
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-3) for name in weights[0])


def test_a_machine_that_cannot_says_what_to_do(make_config, monkeypatch: pytest.MonkeyPatch) -> None:
    def backend(_graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> Callable:
        raise RuntimeError("no working C++ compiler was found")

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **_: real(model, backend=backend))
    with pytest.raises(BadInput, match=r"--compile\): .*C\+\+ compiler.*use --compile off"):
        Session(compiled(make_config())).run()
    with pytest.raises(BadInput, match=r"training.compile \(--compile\).*off, default, reduce-overhead"):
        compiled(make_config(), "always")


class Overwriting(Small):
    """Returns each step's logits where the last ones were, as a network that was recorded as a CUDA graph does."""

    returned: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.returned is not None:
            self.returned.data.zero_()
        self.returned = super().forward(x)
        return self.returned


def test_logits_of_cuda_graphs_are_kept_before_the_next_step_overwrites_them() -> None:
    def accuracy(model: nn.Module, overwrites: bool) -> float:
        trainer = make_trainer(model=model)
        assert not trainer.forward._compiled.overwrites  # on a CPU there are none
        trainer.forward._compiled.overwrites = overwrites
        monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: None)
        take(trainer, 7)
        point = trainer.take_point()
        assert point is not None
        return point.accuracy

    with pytest.MonkeyPatch.context() as monkeypatch:
        plain = accuracy(seeded_model(Small), overwrites=False)
        assert accuracy(seeded_model(Overwriting), overwrites=True) == plain
        assert accuracy(seeded_model(Overwriting), overwrites=False) != plain


def seeded_model(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(4)
    return kind()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_learns_as_well_and_is_resumed_and_replayed_to_the_same_bits(make_config) -> None:
    steered = (9, SetFrozen(groups=("conv1",), frozen=True))
    plain = Session(make_config(epochs=2, name="plain"), script=at(steered)).run().folder
    whole = Session(compiled(make_config(epochs=2, name="whole")), script=at(steered)).run().folder
    cut = Session(compiled(make_config(epochs=2, name="cut")), script=at(steered, (17, Stop()))).run().folder
    assert plain is not None
    assert whole is not None
    assert_resumed_and_replayed_to_the_same_bits(whole, cut)
    # No point of training: how many steps it is the mean of, is up to the time that they took.
    one, other = (events(folder, Evaluated)[-1] for folder in (plain, whole))
    assert one.loss == pytest.approx(other.loss, rel=0.01)
    assert abs(one.accuracy - other.accuracy) < 0.01
