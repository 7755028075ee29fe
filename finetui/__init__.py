"""finetui: trains and finetunes image classifiers, and shows it in a terminal. This is what Python users import.

    import finetui

    outcome = finetui.Session(finetui.RunConfig()).run()

The names below are imported when first used: a dashboard that never trains in its own process never loads torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from finetui.engine.version import __version__

if TYPE_CHECKING:
    from finetui.engine.data import from_datasets
    from finetui.engine.inspection.answers import Answerer
    from finetui.engine.inspection.classify import Classified, classify
    from finetui.engine.inspection.evaluation import Report
    from finetui.engine.inspection.opened_checkpoint import (
        CheckpointReport,
        evaluate_checkpoint,
        open_checkpoint,
        read_about,
    )
    from finetui.engine.link.base import JournalLink, Link, LocalLink
    from finetui.engine.link.process_link import ProcessLink
    from finetui.engine.protocol.config import RunConfig
    from finetui.engine.protocol.queues import CommandQueue
    from finetui.engine.session.replay import replay_run
    from finetui.engine.session.serve import serve
    from finetui.engine.session.session import Outcome, Session

_HOMES = {
    "Answerer": "finetui.engine.inspection.answers",
    "CheckpointReport": "finetui.engine.inspection.opened_checkpoint",
    "Classified": "finetui.engine.inspection.classify",
    "CommandQueue": "finetui.engine.protocol.queues",
    "JournalLink": "finetui.engine.link.base",
    "Link": "finetui.engine.link.base",
    "LocalLink": "finetui.engine.link.base",
    "Outcome": "finetui.engine.session.session",
    "ProcessLink": "finetui.engine.link.process_link",
    "Report": "finetui.engine.inspection.evaluation",
    "RunConfig": "finetui.engine.protocol.config",
    "Session": "finetui.engine.session.session",
    "classify": "finetui.engine.inspection.classify",
    "evaluate_checkpoint": "finetui.engine.inspection.opened_checkpoint",
    "from_datasets": "finetui.engine.data",
    "open_checkpoint": "finetui.engine.inspection.opened_checkpoint",
    "read_about": "finetui.engine.inspection.opened_checkpoint",
    "replay_run": "finetui.engine.session.replay",
    "serve": "finetui.engine.session.serve",
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
