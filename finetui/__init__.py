"""finetui: trains and finetunes image classifiers, and shows it in a terminal. This is what Python users import.

    import finetui

    outcome = finetui.Session(finetui.RunConfig()).run()

The names below are imported when first used: a dashboard that never trains in its own process never loads torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from finetui.engine.version import __version__

if TYPE_CHECKING:
    from finetui.engine.checkpoints.temperature import read_temperature as read_temperature
    from finetui.engine.data import from_datasets as from_datasets
    from finetui.engine.export.certificate import Certificate as Certificate
    from finetui.engine.export.classify import classify as classify
    from finetui.engine.export.export import export_checkpoint as export_checkpoint
    from finetui.engine.inspection.answers import Answerer as Answerer
    from finetui.engine.inspection.calibrate import Calibration as Calibration, calibrate as calibrate
    from finetui.engine.inspection.classify import Classified as Classified
    from finetui.engine.inspection.evaluation import Report as Report
    from finetui.engine.inspection.model_summary import summarise_model as summarise_model
    from finetui.engine.inspection.opened_checkpoint import (
        CheckpointReport as CheckpointReport,
        evaluate_checkpoint as evaluate_checkpoint,
        open_checkpoint as open_checkpoint,
        read_about as read_about,
    )
    from finetui.engine.link.base import Link as Link
    from finetui.engine.link.journal_link import JournalLink as JournalLink
    from finetui.engine.link.process_link import ProcessLink as ProcessLink
    from finetui.engine.protocol.config import (
        CheckpointsConfig as CheckpointsConfig,
        DataConfig as DataConfig,
        FinetuneConfig as FinetuneConfig,
        GuardsConfig as GuardsConfig,
        ModelConfig as ModelConfig,
        RunConfig as RunConfig,
        RunSection as RunSection,
        TrainingConfig as TrainingConfig,
    )
    from finetui.engine.protocol.queues import CommandQueue as CommandQueue
    from finetui.engine.session.local_link import LocalLink as LocalLink
    from finetui.engine.session.replay import replay_run as replay_run
    from finetui.engine.session.serve import serve as serve
    from finetui.engine.session.session import Outcome as Outcome, Session as Session
    from finetui.engine.training.audit_hooks import audit as audit
    from finetui.engine.watching.callbacks.ignite import IgniteHandler as IgniteHandler
    from finetui.engine.watching.callbacks.lightning import LightningCallback as LightningCallback
    from finetui.engine.watching.callbacks.transformers import TransformersCallback as TransformersCallback
    from finetui.engine.watching.watch import watch as watch
    from finetui.engine.watching.watched_run import RunStopped as RunStopped, WatchedRun as WatchedRun

_HOMES = {
    "Answerer": "finetui.engine.inspection.answers",
    "Calibration": "finetui.engine.inspection.calibrate",
    "Certificate": "finetui.engine.export.certificate",
    "CheckpointReport": "finetui.engine.inspection.opened_checkpoint",
    "CheckpointsConfig": "finetui.engine.protocol.config",
    "Classified": "finetui.engine.inspection.classify",
    "CommandQueue": "finetui.engine.protocol.queues",
    "DataConfig": "finetui.engine.protocol.config",
    "FinetuneConfig": "finetui.engine.protocol.config",
    "GuardsConfig": "finetui.engine.protocol.config",
    "JournalLink": "finetui.engine.link.journal_link",
    "Link": "finetui.engine.link.base",
    "LocalLink": "finetui.engine.session.local_link",
    "ModelConfig": "finetui.engine.protocol.config",
    "Outcome": "finetui.engine.session.session",
    "ProcessLink": "finetui.engine.link.process_link",
    "Report": "finetui.engine.inspection.evaluation",
    "RunConfig": "finetui.engine.protocol.config",
    "RunSection": "finetui.engine.protocol.config",
    "RunStopped": "finetui.engine.watching.watched_run",
    "Session": "finetui.engine.session.session",
    "TrainingConfig": "finetui.engine.protocol.config",
    "WatchedRun": "finetui.engine.watching.watched_run",
    "audit": "finetui.engine.training.audit_hooks",
    "calibrate": "finetui.engine.inspection.calibrate",
    "classify": "finetui.engine.export.classify",
    "evaluate_checkpoint": "finetui.engine.inspection.opened_checkpoint",
    "export_checkpoint": "finetui.engine.export.export",
    "from_datasets": "finetui.engine.data",
    "open_checkpoint": "finetui.engine.inspection.opened_checkpoint",
    "read_about": "finetui.engine.inspection.opened_checkpoint",
    "read_temperature": "finetui.engine.checkpoints.temperature",
    "replay_run": "finetui.engine.session.replay",
    "serve": "finetui.engine.session.serve",
    "summarise_model": "finetui.engine.inspection.model_summary",
    "watch": "finetui.engine.watching.watch",
}

# What is for another library, which need not be there and is an extra of the same name.
_CALLBACKS = {
    "IgniteHandler": ("finetui.engine.watching.callbacks.ignite", "ignite"),
    "LightningCallback": ("finetui.engine.watching.callbacks.lightning", "lightning"),
    "TransformersCallback": ("finetui.engine.watching.callbacks.transformers", "transformers"),
}

__all__ = ["__version__", *_HOMES]


def _callback(name: str) -> Any:
    home, library = _CALLBACKS[name]
    try:
        return getattr(import_module(home), name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("finetui"):
            raise
        from finetui.engine.errors import BadInput

        raise BadInput(f"finetui.{name} needs {library}: pip install 'finetui[{library}]'") from error


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _CALLBACKS:
        return _callback(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_CALLBACKS])
