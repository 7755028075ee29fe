"""finetui's engine: a plain synchronous library that trains and finetunes image classifiers.

    import engine

    outcome = engine.Session(engine.RunConfig()).run()

The names below are imported when first used: a dashboard that never trains in its own process never loads torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from engine.version import __version__

if TYPE_CHECKING:
    from engine.answers import Answerer
    from engine.classifying import Classified, classify
    from engine.config import RunConfig
    from engine.data import from_datasets
    from engine.evaluation import Report
    from engine.inspection import CheckpointReport, evaluate_checkpoint, open_checkpoint, read_about
    from engine.link import JournalLink, Link, LocalLink
    from engine.process_link import ProcessLink
    from engine.queues import CommandQueue
    from engine.replay import replay_run
    from engine.service import serve
    from engine.session import Outcome, Session

_HOMES = {
    "Answerer": "engine.answers",
    "CheckpointReport": "engine.inspection",
    "Classified": "engine.classifying",
    "CommandQueue": "engine.queues",
    "JournalLink": "engine.link",
    "Link": "engine.link",
    "LocalLink": "engine.link",
    "Outcome": "engine.session",
    "ProcessLink": "engine.process_link",
    "Report": "engine.evaluation",
    "RunConfig": "engine.config",
    "Session": "engine.session",
    "classify": "engine.classifying",
    "evaluate_checkpoint": "engine.inspection",
    "from_datasets": "engine.data",
    "open_checkpoint": "engine.inspection",
    "read_about": "engine.inspection",
    "replay_run": "engine.replay",
    "serve": "engine.service",
}

__all__ = [
    "Answerer",
    "CheckpointReport",
    "Classified",
    "CommandQueue",
    "JournalLink",
    "Link",
    "LocalLink",
    "Outcome",
    "ProcessLink",
    "Report",
    "RunConfig",
    "Session",
    "__version__",
    "classify",
    "evaluate_checkpoint",
    "from_datasets",
    "open_checkpoint",
    "read_about",
    "replay_run",
    "serve",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
