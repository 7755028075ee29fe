"""What the engine's process asks of those who give it memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import finetui.tui.cli.headless, finetui.engine.process.host, sys
from finetui.engine.process.memory import keep_freed
keep_freed()
import torch
batch = torch.zeros(2**24)
print(sum(int(line.split()[1]) for line in open("/proc/self/smaps") if line.startswith("AnonHugePages")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pages of 2 MB are asked for on Linux alone")
def test_large_tensors_come_in_huge_pages_unless_a_person_said_no() -> None:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not setting.exists() or "[madvise]" not in setting.read_text():
        pytest.skip("this kernel gives huge pages to all, or to nobody")
    found = []
    for said in ({}, {"THP_MEM_ALLOC_ENABLE": "0"}):
        environment = {key: value for key, value in os.environ.items() if key != "THP_MEM_ALLOC_ENABLE"} | said
        done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, check=True)
        found.append(int(done.stdout))
    assert found[0] >= 2**15  # kB, of the 64 MB of the tensor
    assert found[1] < 2**14
