"""`finetui runs`: what it says of runs that are going on, and of those that could."""

import json
import os
import signal
import socket
from pathlib import Path

from watching import Watcher

from finetui.engine.link.process_link import ProcessLink
from finetui.engine.protocol.events import TrainPoint
from finetui.engine.session.session import Session


def test_the_list_says_how_to_get_at_each_run(tmp_path: Path, in_process, make_config) -> None:
    for name in ("done", "cut"):
        folder = Session(make_config(name=name)).run().folder
        assert folder is not None
    lines = folder.journal.read_bytes().splitlines(keepends=True)
    folder.journal.write_bytes(b"".join(lines[:-1]))
    link = ProcessLink(make_config(name="live", epochs=1000), autostart=True)
    watcher = Watcher(link)
    watcher.until_kind(TrainPoint)
    text = in_process("runs", "--runs-dir", "runs", cwd=tmp_path).stdout
    table, hints = text.split("\n\n")
    states = {line.split()[0]: line.split()[1] for line in table.splitlines()[1:]}
    assert states == {"live": "running", "cut": "crashed", "done": "finished"}
    where = tmp_path / "runs"
    attach, resume = hints.splitlines()
    assert attach.split("  ")[0] == f"finetui attach {where}/live"
    assert f"running, process {link.pid}" in attach
    assert resume.startswith(f"finetui resume {where}/cut  ")
    assert "crashed at step 40" in resume
    listed = json.loads(in_process("runs", "--runs-dir", "runs", "--json", cwd=tmp_path).stdout)
    rows = {row["name"]: row for row in listed}
    assert (rows["live"]["pid"], rows["live"]["host"]) == (link.pid, socket.gethostname())
    assert (rows["done"]["pid"], rows["done"]["host"]) == (None, None)
    os.kill(link.pid, signal.SIGKILL)
    watcher.until_state("crashed")
    watcher.close()
    assert f"finetui resume {where}/live" in in_process("runs", "--runs-dir", "runs", cwd=tmp_path).stdout
