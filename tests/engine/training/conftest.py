"""What the tests of training share."""

import pytest
import torch
from audited_net import AuditedNet


@pytest.fixture
def net() -> AuditedNet:
    torch.manual_seed(0)
    return AuditedNet()
