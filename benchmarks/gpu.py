"""Training steps on a GPU, in images a second: by finetui, a plain loop, torchvision's references; the card's limit."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measuring import Options, in_turn, table
from finetui.engine.data.resident import ResidentSplit
from finetui.engine.errors import FinetuiError
from finetui.engine.models import Architecture, build, module_groups
from finetui.engine.models.device import describe, reproducible
from finetui.engine.protocol.config import TrainingConfig
from finetui.engine.training import fast_paths
from finetui.engine.training.trainer import Trainer

LR, MOMENTUM, CLASSES = 0.001, 0.9, 10
BY_HAND, REFERENCES = "by hand, fp32", "torchvision's references: AMP, channels-last"
OURS = {"finetui": {}, "finetui --precision bf16": {"precision": "bf16"}}
GRAPHS = "finetui --compile reduce-overhead (CUDA graphs)"
_WARM_UP = 5  # steps
_BATCHES = 4  # in memory


@dataclass(frozen=True)
class Case:
    """A network, what it is trained on, and how many images a step has, where the card has memory for them."""

    network: str
    channels: int
    side: int
    batch_size: int

    @property
    def architecture(self) -> Architecture:
        """The network's architecture."""
        size = {"in_channels": self.channels, "height": self.side, "width": self.side}
        return Architecture(name=self.network, num_classes=CLASSES, **size)


CASES = (
    Case("lenet", 1, 28, 64),
    Case("lenet", 1, 28, 512),
    Case("resnet18", 3, 224, 256),
    Case("resnet50", 3, 224, 256),
    Case("vit_b_16", 3, 224, 128),
)


class Contender:
    """Takes steps: `step()` one, in the surroundings that `around()` makes; `dtype` is that of its products."""

    def __init__(
        self,
        step: Callable[[], None],
        dtype: str,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.step = step
        self.dtype = dtype
        self.around = around


def run(options: Options) -> str:
    """Return the section of the results. Exits with status 2 where torch sees no GPU."""
    if options.device == "cuda" and not torch.cuda.is_available():
        print("the benchmark gpu needs a GPU with CUDA, and torch sees none here", file=sys.stderr)
        raise SystemExit(2)
    device = torch.device(options.device)
    limits = {dtype: _limit(device, dtype, options.seconds / 3) for dtype in ("fp32", "bf16", "fp16")}
    rows = []
    for case in CASES:
        if not options.networks or case.network in options.networks:
            rows += _rows(_fitting(case, device), device, options, limits)
    head = ["network, batch", "steps by", "images/s", "as fast as by hand", "TFLOP/s", "of the limit"]
    told = ", ".join(f"{dtype} {limit / 1e12:.3g}" for dtype, limit in limits.items())
    return (
        f"{table(head, rows)}\n\n{describe(device)}. The limit is what products of large square matrices reach here, "
        f"in TFLOP/s: {told} (fp32 with TensorFloat-32, as torch computes convolutions by default, but not products "
        "of matrices). Operations are those of the forward and the backward pass, by torch's counter. finetui "
        "computes by deterministic algorithms, the others by the fastest that cuDNN finds."
    )


def _rows(case: Case, device: torch.device, options: Options, limits: dict[str, float]) -> list[list[str]]:
    contenders, failed = _contenders(case, device)
    timed = {
        title: partial(_images_a_second, contender, case.batch_size, device, options.seconds)
        for title, contender in contenders.items()
    }
    measured = {title: statistics.median(taken) for title, taken in in_turn(timed, options.rounds).items()}
    flops = _flops_an_image(case, device)
    where = f"{case.network}, {case.batch_size}"
    rows = []
    for title, speed in measured.items():
        rate = speed * flops
        share = f"{rate / limits[contenders[title].dtype]:.0%}"
        rows.append([where, title, f"{speed:,.0f}", f"{speed / measured[BY_HAND]:.2f} x", f"{rate / 1e12:.3g}", share])
    return rows + [[where, title, why, "", "", ""] for title, why in failed.items()]


def _contenders(case: Case, device: torch.device) -> tuple[dict[str, Contender], dict[str, str]]:
    """Return who takes the steps, each after its first ones, and by the names of those that cannot, why."""
    makers: dict[str, Callable[[], Contender]] = {
        BY_HAND: partial(_plain_loop, case, device, amp=False),
        REFERENCES: partial(_plain_loop, case, device, amp=True),
    } | {title: partial(_ours, case, device, settings) for title, settings in OURS.items()}
    if device.type == "cuda" and case.network == "lenet":
        makers[GRAPHS] = partial(_ours, case, device, {"compile": "reduce-overhead"})
    contenders, failed = {}, {}
    for title, make in makers.items():
        try:
            contender = make()
            with contender.around():
                for _ in range(_WARM_UP):
                    contender.step()
        except (RuntimeError, FinetuiError) as error:  # no compiler on this machine, no memory
            failed[title] = f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
        else:
            contenders[title] = contender
    return contenders, failed


def _pixels(case: Case, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    count = _BATCHES * case.batch_size
    shape = (count, case.channels, case.side, case.side)
    return (
        torch.randint(0, 256, shape, dtype=torch.uint8, device=device),
        torch.randint(0, CLASSES, (count,), device=device),
    )


def _plain_loop(case: Case, device: torch.device, *, amp: bool) -> Contender:
    """Return somebody's own loop: images normalised once, in memory; with `amp` by torchvision's reference settings.

    These are of its `references/classification/train.py` with `--amp`: float16 with a scaled loss, and cuDNN's fastest
    algorithms; and channels-last, as torch's own guide to tuning advises.
    """
    pixels, labels = _pixels(case, device)
    layout = torch.channels_last if amp else torch.contiguous_format
    images = pixels.float().div_(255).sub_(0.5).div_(0.25).contiguous(memory_format=layout)
    net = build(case.architecture, 0).to(device).to(memory_format=layout).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM)
    scaler = torch.amp.GradScaler(device.type, enabled=amp and device.type == "cuda")
    dtype = torch.float16 if device.type == "cuda" else torch.bfloat16
    batches: list[torch.Tensor] = []

    def step() -> None:
        if not batches:
            batches.extend(torch.randperm(len(images), device=device).split(case.batch_size))
        indices = batches.pop()
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype, enabled=amp):
            loss = F.cross_entropy(net(images[indices]), labels[indices])
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return Contender(step, "fp16" if amp else "fp32", _fastest_convolutions)


@contextmanager
def _fastest_convolutions() -> Iterator[None]:
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _ours(case: Case, device: torch.device, settings: dict[str, str]) -> Contender:
    """Return finetui's trainer, by the path that `--fast auto` takes, with the points that a run reads on its way."""
    around = partial(reproducible, str(device))
    pixels, labels = _pixels(case, device)
    data = ResidentSplit(pixels, labels, (0.5,) * case.channels, (0.25,) * case.channels)
    training = TrainingConfig(
        batch_size=case.batch_size, epochs=10**6, optimizer="sgd", lr=LR, schedule="constant", **settings
    )
    with around():
        model = build(case.architecture, 0).to(device)
        groups = module_groups(model)
        path, _ = fast_paths.choose(model, groups, case.architecture, training)
        fast_paths.arrange(model, path)
        trainer = Trainer(model, groups, data, training, path=path, classes=CLASSES)

    def step() -> None:
        trainer.train_step()
        if trainer.epoch_complete:
            trainer.end_epoch()
        if trainer.point_due():
            trainer.take_point()

    return Contender(step, training.precision, around)


def _images_a_second(contender: Contender, batch_size: int, device: torch.device, seconds: float) -> float:
    steps = 0
    with contender.around():
        contender.step()
        _synchronise(device)
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            for _ in range(3):  # a look at the clock must not keep a small network waiting
                contender.step()
            steps += 3
            if steps % 30 == 0:
                _synchronise(device)  # a queue of many seconds would outrun the clock
        _synchronise(device)
        return steps * batch_size / (time.perf_counter() - started)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _flops_an_image(case: Case, device: torch.device) -> float:
    """Return the floating-point operations that an image's forward and backward pass take."""
    net: nn.Module = build(case.architecture, 0).to(device).train()
    images = torch.zeros(2, case.channels, case.side, case.side, device=device)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(net(images), torch.zeros(2, dtype=torch.int64, device=device)).backward()
    return counter.get_total_flops() / 2


def _limit(device: torch.device, dtype: str, seconds: float) -> float:
    """Return the operations a second that products of large square matrices of `dtype` reach on `device`."""
    side = 8192 if device.type == "cuda" else 256
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    matrix = torch.randn(side, side, device=device).to(kinds[dtype])
    before, rates = torch.backends.cuda.matmul.allow_tf32, []
    torch.backends.cuda.matmul.allow_tf32 = True
    end = time.perf_counter() + seconds
    while len(rates) < 5 or time.perf_counter() < end:
        _synchronise(device)
        started = time.perf_counter()
        matrix @ matrix
        _synchronise(device)
        rates.append(2 * side**3 / (time.perf_counter() - started))
    torch.backends.cuda.matmul.allow_tf32 = before
    return statistics.median(rates)


def _fitting(case: Case, device: torch.device) -> Case:
    """Return `case` with half the images a step, and again, until a plain step finds memory on the card."""
    if device.type != "cuda":
        return replace(case, batch_size=min(case.batch_size, 64))
    while True:
        try:
            _plain_loop(case, device, amp=False).step()
            _synchronise(device)
        except torch.OutOfMemoryError:
            if case.batch_size == 1:
                raise
            case = replace(case, batch_size=case.batch_size // 2)
        else:
            return case
        finally:
            torch.cuda.empty_cache()
