"""Which rules a run is trained by: it goes on, and is replayed, by those that it began with.

1. Of finetui 0.1 to 0.4: one cycle ends at a hundred-thousandth of its highest rate and leaves the momentum alone, a
   warm-up comes before every stage, what is thawed warms up with its whole group, and `fastai` spreads its rates over
   all groups, with frozen normalisation and an optimizer that remembers the frozen epoch.
2. One cycle is torch's `OneCycleLR`, a warm-up comes before the run, layers warm up by themselves, and `fastai` is
   fastai's `fine_tune`.
3. What is frozen is computed once, where that is possible (`finetui.engine.training.features`).
4. Of what is computed so, the steps of a small linear head are computed by one thread.
"""

from collections.abc import Mapping
from typing import Any

from finetui.engine.errors import BadInput

CURRENT = 4
ONE_THREAD = 4  # the first by which the steps of a small head are


def recorded(training: Mapping[str, Any]) -> int:
    """Return the rules that a checkpoint's training state was of. Raises `BadInput` for those of a later version."""
    rules = training.get("rules", 1)
    if rules not in range(1, CURRENT + 1):
        raise BadInput("the checkpoint was written by a newer version of finetui: resume it with that version")
    return int(rules)
