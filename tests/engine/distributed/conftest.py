"""What the tests of several ranks share."""

import pytest
from ranked_runs import RankedRuns


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> RankedRuns:
    """A place for the runs of one file, with evaluations of 16 images at a time, which several ranks can share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("finetui.engine.session.evaluator.batch_size_for", lambda *_: 16)
        patch.setenv("FINETUI_DATA", "")
        yield RankedRuns(tmp_path_factory.mktemp("runs"))
