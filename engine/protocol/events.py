"""Everything that the engine says: one frozen struct for each kind of event.

An event is one JSON line in a run's journal and one MessagePack frame on the socket. Every event carries
`seq` (its place in the run's journal, counted from 0; -1 for transient events, which are never journaled),
`time` (Unix seconds) and `step` (training steps completed in the run when it was emitted).

Dashboards may be older than the engine that they watch, so readers skip types that they do not know.
"""

from typing import Literal

from finetui.engine.protocol.answers import (
    Answer as Answer,
    DuplicatesFound as DuplicatesFound,
    Explained as Explained,
    FinetunePreview as FinetunePreview,
    Images as Images,
    LayersMeasured as LayersMeasured,
    LayerView as LayerView,
    ModelDescribed as ModelDescribed,
    ParametersAudited as ParametersAudited,
)
from finetui.engine.protocol.capabilities import Capabilities
from finetui.engine.protocol.commands import AnyCommand
from finetui.engine.protocol.config import RunConfig, TrainingConfig
from finetui.engine.protocol.description import DataDescription
from finetui.engine.protocol.event import Event as Event
from finetui.engine.protocol.machine_events import (
    JobFound as JobFound,
    MachineSample as MachineSample,
    ProvenanceTold as ProvenanceTold,
    RanksSeen as RanksSeen,
)
from finetui.engine.protocol.values import (
    ClassReport as ClassReport,
    DataSummary as DataSummary,
    FastPath as FastPath,
    FeaturePlace as FeaturePlace,
    KeptCheckpoint as KeptCheckpoint,
    Layer as Layer,
    LayerGroup as LayerGroup,
    MeanLoss as MeanLoss,
    ModuleRow as ModuleRow,
    NormMode as NormMode,
    Part as Part,
    Picture as Picture,
    StagePreview as StagePreview,
    TimeShares as TimeShares,
)

State = Literal["preparing", "ready", "running", "paused", "finished", "stopped", "failed", "crashed"]

RewindCause = Literal["resume", "rollback", "branch"]

# States from which a run's engine takes no further step by itself.
ENDED: frozenset[State] = frozenset({"finished", "stopped", "failed", "crashed"})


class Phase(Event, frozen=True, kw_only=True):
    """Transient: something that takes a while is `done` of `total` (0: unknown) through, `unit` by `unit`."""

    name: str
    done: int = 0
    total: int = 0
    unit: str = ""


class RunPrepared(Event, frozen=True, kw_only=True):
    """Data, model and device are ready; a session's first journaled event, and a reset for every reader.

    `rules` are the training rules (`finetui.engine.training.rules`), `world` is the number of processes that train.
    `capabilities` say what the source of the events can do where that is not all that an engine does. `hparams` are the
    settings that somebody else's loop tells of, by its own names; then the defaults in `config` say nothing, and what
    is 0 or empty here was not told. Without `steps_per_epoch` its steps cannot be placed in epochs.
    """

    config: RunConfig
    data: DataSummary
    layers: tuple[LayerGroup, ...]
    device: str
    parameters: int
    steps_per_epoch: int
    notices: tuple[str, ...] = ()
    parent: str | None = None
    versions: dict[str, str] = {}
    fast: FastPath = FastPath()
    rules: int = 1
    description: DataDescription | None = None
    world: int = 1
    capabilities: Capabilities | None = None
    hparams: dict[str, str | int | float | bool] | None = None


class SettingsTold(Event, frozen=True, kw_only=True):
    """Settings that somebody else's loop tells of once it has begun, beside the `hparams` of `RunPrepared`."""

    settings: dict[str, str | int | float | bool]


class RunStarted(Event, frozen=True, kw_only=True):
    """The run folder exists: training begins. `path` is absolute."""

    name: str
    path: str


class StateChanged(Event, frozen=True, kw_only=True):
    """The run is now `state`; `reason` is one sentence where there is something to say."""

    state: State
    reason: str = ""


class TrainPoint(Event, frozen=True, kw_only=True):
    """Means over the `steps` training steps since the last point.

    `loss` is the mean cross entropy in nats, `accuracy` the share of training images recognised (0 to 1)
    during those steps, `grad_norm` the L2 norm of the last step's gradient, `samples_per_second` counts images,
    and `hundreds` holds the mean loss of every 100 steps of an epoch, for the tutorial's way of printing.
    `learning_rate` is that of a layer without a factor of its own. Somebody else's loop may not tell all of them: what
    is None was not told, and `others` are the numbers of its own that it told, by their names. `group_grad_norms` and
    `group_rate_factors` have a number for each layer group, in the order of the layer table; no factors at all stand
    for factors of 1. The factor of a group is the highest of its layers that train: it does not fall while one layer of
    many warms up. `time_shares` says where the time went; None where nobody measured it.
    """

    epoch: int
    step_in_epoch: int
    steps: int
    loss: float | None
    accuracy: float | None
    learning_rate: float | None
    grad_norm: float | None
    samples_per_second: float | None
    hundreds: tuple[MeanLoss, ...] = ()
    group_grad_norms: tuple[float, ...] = ()
    group_rate_factors: tuple[float, ...] = ()
    time_shares: TimeShares | None = None
    others: dict[str, float] = {}


class ThinnedPoint(TrainPoint, frozen=True, kw_only=True):
    """A point of a long history that stands for `points` of them, with these means; never sent, never journaled.

    `means` are those of `others`, by their names.
    """

    points: float
    mean_loss: float | None
    mean_accuracy: float | None
    means: dict[str, float] = {}


class Evaluated(Event, frozen=True, kw_only=True):
    """One pass over the images of `part`. `confusion[true][predicted]` counts images; `best` is True for a new best.

    `watched` tells whether it is the part that is evaluated while training: curves, best and alerts are about no other.
    `checkpoint` is the kept one (`best`, `last`) whose weights were scored; empty: the run's own, at this step.

    Whoever attaches to a run, or opens one, gets no `confusion`: it is in the predictions.
    `predictions` is the file with every prediction (`finetui.engine.predictions.file`), relative to the run's folder;
    empty where none was written. `averages` are the macro and the weighted average of `per_class`; empty in journals
    that know none. `best` goes by `figure`, which is that of the kind `best_by` (None: the accuracy).
    Somebody else's loop may not tell loss or accuracy (None), nor of how many images (`n` 0), and have `others`.
    """

    epoch: int
    loss: float | None
    accuracy: float | None
    n: int
    per_class: tuple[ClassReport, ...]
    confusion: tuple[tuple[int, ...], ...]
    best: bool
    seconds: float
    predictions: str = ""
    averages: tuple[ClassReport, ...] = ()
    best_by: str = "accuracy"
    figure: float | None = None
    part: Part = "test"
    watched: bool = True
    checkpoint: str = ""
    others: dict[str, float] = {}


class LayersChanged(Event, frozen=True, kw_only=True):
    """Groups were frozen or unfrozen; `layers` is the whole new table."""

    layers: tuple[LayerGroup, ...]


class LearningRateChanged(Event, frozen=True, kw_only=True):
    """A person set the learning rate; it holds from the next step on.

    From there on it is what schedule and stages say times `factor`; None in journals that do not tell.
    """

    learning_rate: float
    factor: float | None = None


class TrainingChanged(Event, frozen=True, kw_only=True):
    """The run goes on by other settings from this step on; the schedule is that of the whole run by the new ones.

    `early_stop` is the patience from here on, counted anew. `epochs` have been trained by then, as a number with a
    fraction: an epoch that had begun goes on with the images that come next, in batches of the new size.
    """

    training: TrainingConfig
    early_stop: int
    steps_per_epoch: int
    epochs: float


class StageStarted(Event, frozen=True, kw_only=True):
    """A recipe's stage `index` (from 1) of `count` begins and lasts `epochs` epochs.

    `learning_rate` is the stage's highest; the layer table of this moment follows as a `LayersChanged`.
    """

    index: int
    count: int
    name: str
    epochs: int
    learning_rate: float


class EffectMeasured(Event, frozen=True, kw_only=True):
    """What a change of frozen layers did: trainable parameters and images per second, before and after."""

    trainable_before: int
    trainable_after: int
    speed_before: float
    speed_after: float


class FeaturesChanged(Event, frozen=True, kw_only=True):
    """What the frozen `layers` make of each of the `images` of `part` is being computed, or held, or no more.

    `last` is the layer that computes it. It takes `bytes`, in memory or in a file (`place`), and took `seconds` to
    compute, which every epoch would without; `epoch_seconds` is what an epoch takes with it, once that was measured.
    `off`: it cannot be had, and the network computes all of itself; `reason` says why, or why it was `dropped`. Without
    `layers`, `off` and `on` tell that the run goes on by another setting.
    """

    state: Literal["filling", "held", "dropped", "off", "on"]
    part: Part = "train"
    layers: tuple[str, ...] = ()
    last: str = ""
    place: FeaturePlace = "memory"
    bytes: int = 0
    images: int = 0
    seconds: float = 0.0
    epoch_seconds: float | None = None
    reason: str = ""


class LearningRateFound(Event, frozen=True, kw_only=True):
    """Smoothed training losses at rising learning rates, tried on a copy; `suggestion` None: no clear descent."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float | None


class CheckpointSaved(Event, frozen=True, kw_only=True):
    """`file` (a name inside the run folder) now holds the state after `step` steps.

    `at` is the `seq` that the next event had when it was written, `weights` the SHA-256 of the weights
    (`finetui.engine.checkpoints.checkpoint.digest`). `kept` are all checkpoints that there are now.
    """

    file: str
    at: int = -1
    weights: str = ""
    kept: tuple[KeptCheckpoint, ...] = ()


class Rewound(Event, frozen=True, kw_only=True):
    """The run is again where it was when checkpoint `file` was written, after `step` steps.

    Whatever the journal says between the event numbered `at` (included) and this one is undone; the other fields are
    the state that holds again. `cause` tells why: a run was resumed, somebody or a guard rolled it back, or it is the
    beginning of a branch (whose journal has nothing before). `undone` counts the steps that were lost by it.
    `rate_factor` is that of `LearningRateChanged`.
    """

    cause: RewindCause
    file: str
    at: int
    epoch: int
    undone: int
    learning_rate: float
    layers: tuple[LayerGroup, ...]
    norm_trains: bool = False
    best_accuracy: float | None = None
    device: str = ""
    reason: str = ""
    kept: tuple[KeptCheckpoint, ...] = ()
    rate_factor: float | None = None


class Alert(Event, frozen=True, kw_only=True):
    """Something that a person should look at; training goes on. `message` is one sentence."""

    kind: Literal["plateau", "overfit", "divergence", "unstable", "speed", "ranks"]
    message: str


class DataSeen(Event, frozen=True, kw_only=True):
    """Transient: the watched files last changed at `changed`, in Unix seconds; this `share` of them is read by now."""

    changed: float
    share: float = 1.0


class Audience(Event, frozen=True, kw_only=True):
    """Transient: who watches the run now, in the order of arrival; those who cannot steer it end in ` (reading)`."""

    names: tuple[str, ...]


class CommandAccepted(Event, frozen=True, kw_only=True):
    """The command was carried out at this `step`."""

    command: AnyCommand


class CommandRefused(Event, frozen=True, kw_only=True):
    """The command was not carried out; `reason` is one sentence."""

    command: AnyCommand
    reason: str


class Log(Event, frozen=True, kw_only=True):
    """A line for people."""

    level: Literal["info", "warning", "error"]
    message: str


AnyEvent = (
    Phase
    | RunPrepared
    | SettingsTold
    | RunStarted
    | StateChanged
    | TrainPoint
    | Evaluated
    | LayersChanged
    | LearningRateChanged
    | TrainingChanged
    | StageStarted
    | EffectMeasured
    | FeaturesChanged
    | LearningRateFound
    | FinetunePreview
    | Images
    | Explained
    | DuplicatesFound
    | ModelDescribed
    | LayersMeasured
    | ParametersAudited
    | LayerView
    | CheckpointSaved
    | Rewound
    | Alert
    | MachineSample
    | RanksSeen
    | JobFound
    | ProvenanceTold
    | DataSeen
    | Audience
    | CommandAccepted
    | CommandRefused
    | Log
)

# Never journaled: they tell of a moment, or answer a question.
TRANSIENT: tuple[type[Event], ...] = (Phase, Answer, DataSeen, Audience)

# What a slow reader may miss: each later event of the kind says the same, newer.
COALESCIBLE: tuple[type[Event], ...] = (Phase, TrainPoint, MachineSample, RanksSeen, DataSeen)
