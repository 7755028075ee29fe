"""What is in TensorBoard's, W&B's and trackio's own files, read with their own libraries."""

import json
import os
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from logged_runs import logged, run_cut_and_resumed, run_rolled_back, run_steered

from finetui.engine.protocol.events import Evaluated, Log, TrainPoint
from finetui.engine.runs.folder import RunFolder
from finetui.engine.runs.journal import JournalReader
from finetui.engine.runs.lineage import effective

pytestmark = pytest.mark.peers


@pytest.fixture(autouse=True)
def _each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is told of, however fast the machine is."""
    monkeypatch.setattr("finetui.engine.training.metrics.POINT_INTERVAL", 0.0)


def held_steps(folder: RunFolder, kind: type = TrainPoint) -> list[int]:
    return [event.step for event in effective(JournalReader(folder.journal).read()) if isinstance(event, kind)]


class TestTensorBoard:
    @pytest.fixture(autouse=True)
    def _library(self) -> None:
        pytest.importorskip("tensorboard", reason="needs the extra `peers`")

    def read(self, folder: RunFolder):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        found = EventAccumulator(str(folder.path / "tensorboard"), {"scalars": 0, "images": 0, "tensors": 0})
        return found.Reload()

    def test_a_run_is_there_with_its_settings_changes_and_matrix(self, make_config, recorder) -> None:
        folder = run_steered(logged(make_config(), "tensorboard"), recorder)
        found = self.read(folder)
        points, (scores,) = recorder.of(TrainPoint), recorder.of(Evaluated)
        loss = [(event.step, event.value) for event in found.Scalars("train/loss")]
        assert loss == [(event.step, pytest.approx(event.loss, rel=1e-6)) for event in points]
        assert [event.value for event in found.Scalars("test/accuracy")] == [pytest.approx(scores.accuracy)]
        assert found.Scalars("test_f1/3")[0].value == pytest.approx(scores.per_class[3].f1)
        assert found.Scalars("grad_norm/fc3")[-1].step == points[-1].step
        changes = [(event.step, event.tensor_proto.string_val[0].decode()) for event in found.Tensors("changes")]
        assert changes == [(0, "running"), (5, "freeze conv1"), (8, "learning rate 0.005"), (40, "finished")]
        (image,) = found.Images("test/confusion_matrix")
        assert image.encoded_image_string.startswith(b"\x89PNG")

        from tensorboard.plugins.hparams import metadata, plugin_data_pb2

        def content(tag: str) -> plugin_data_pb2.HParamsPluginData:
            return plugin_data_pb2.HParamsPluginData.FromString(found.SummaryMetadata(tag).plugin_data.content)

        start = content(metadata.SESSION_START_INFO_TAG).session_start_info
        assert start.hparams["training.batch_size"].number_value == 100
        assert start.hparams["model.name"].string_value == "lenet"
        assert content(metadata.SESSION_END_INFO_TAG).session_end_info.status == 1  # success
        assert not (folder.path / "tensorboard.log").exists()

    @pytest.mark.parametrize("train", [run_cut_and_resumed, run_rolled_back])
    def test_no_step_is_there_twice(self, make_config, train) -> None:
        folder = train(logged(make_config(), "tensorboard"))
        steps = [event.step for event in self.read(folder).Scalars("train/loss")]
        assert steps == held_steps(folder) == list(range(1, 41))


def wandb_records(file: Path) -> Iterator[object]:
    """Yield the records of a W&B file: protocol buffers in LevelDB's log format, behind 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, record = file.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        record += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # full, last
            yield Record.FromString(record)
            record = b""


class TestWandb:
    @pytest.fixture(autouse=True)
    def _library(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        pytest.importorskip("wandb", reason="needs the extra `peers`")
        for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    def runs(self, folder: RunFolder) -> dict[str, list]:
        files = sorted((folder.path / "wandb").glob("offline-run-*/*.wandb"))
        return {file.stem: list(wandb_records(file)) for file in files}

    def history(self, records: list) -> list[dict]:
        found = [{item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in r.history.item}
                 for r in records if r.HasField("history")]  # fmt: skip
        return sorted(found, key=lambda row: row["_step"])

    def test_a_run_is_there_with_its_settings_changes_and_matrix(self, make_config, recorder) -> None:
        folder = run_steered(logged(make_config(), "wandb"), recorder)
        ((_, records),) = self.runs(folder).items()
        rows = self.history(records)
        points, (scores,) = recorder.of(TrainPoint), recorder.of(Evaluated)
        assert [(row["_step"], row["train/loss"]) for row in rows if "train/loss" in row] == [
            (event.step, pytest.approx(event.loss)) for event in points
        ]
        (evaluated,) = (row for row in rows if "test/accuracy" in row)
        assert (evaluated["_step"], evaluated["test/accuracy"]) == (scores.step, pytest.approx(scores.accuracy))
        assert evaluated["test_recall/7"] == pytest.approx(scores.per_class[7].recall)
        assert any(name.startswith("test/confusion_matrix") for name in evaluated)
        changes = [(row["_step"], row["change"]) for row in rows if "change" in row]
        assert changes == [(0, "running"), (5, "freeze conv1"), (8, "learning rate 0.005"), (40, "finished")]
        config = {item.key: json.loads(item.value_json) for r in records for item in r.run.config.update}
        assert config["training"]["batch_size"] == 100
        told = [event.message for event in recorder.of(Log) if "W&B" in event.message]
        assert told == [
            "W&B has no login on this machine: the run is logged offline, into its folder; `wandb sync` sends it"
        ]

    def test_a_run_that_is_resumed_has_no_step_twice(self, make_config, capfd) -> None:
        folder = run_cut_and_resumed(logged(make_config(), "wandb"))
        first, second = ([row["_step"] for row in self.history(r) if "train/loss" in row]
                         for r in self.parts(folder))  # fmt: skip
        assert [*first, *second] == list(range(1, 41))
        assert "wandb" not in capfd.readouterr().err

    def parts(self, folder: RunFolder) -> list[list]:
        return [list(wandb_records(file)) for file in sorted((folder.path / "wandb").glob("offline-run-*/*.wandb"))]

    def test_a_run_that_is_rolled_back_goes_on_in_a_second_one(self, make_config) -> None:
        folder = run_rolled_back(logged(make_config(), "wandb"))
        (first, before), (second, after) = sorted(self.runs(folder).items(), key=lambda item: len(item[0]))
        assert second == f"{first}-2"
        steps = [[row["_step"] for row in self.history(records) if "train/loss" in row] for records in (before, after)]
        assert steps == [list(range(1, 26)), list(range(11, 41))]
        names = {record.run.display_name for record in after if record.HasField("run")}
        assert names == {f"{folder.name}-part2"}
        groups = {record.run.run_group for record in (*before, *after) if record.HasField("run")}
        assert groups == {folder.name}


class TestTrackio:
    @pytest.fixture(autouse=True)
    def _library(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        pytest.importorskip("trackio", reason="needs the extra `peers`")
        monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
        for name in ("TRACKIO_SPACE_ID", "TRACKIO_PROJECT", "TRACKIO_SERVER_URL"):
            monkeypatch.delenv(name, raising=False)

    def runs(self) -> dict[str, list[dict]]:
        """Return the rows of each run, as trackio's own storage reads them."""
        from trackio import sqlite_storage, utils

        place = Path(os.environ["TRACKIO_DIR"])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(utils, "TRACKIO_DIR", place)
            patch.setattr(sqlite_storage, "TRACKIO_DIR", place)
            storage = sqlite_storage.SQLiteStorage
            return {name: storage.get_logs("finetui", name) for name in storage.get_runs("finetui")}

    def test_a_run_is_there_with_its_settings_changes_and_matrix(self, make_config, recorder, capfd) -> None:
        folder = run_steered(logged(make_config(), "trackio"), recorder)
        ((name, rows),) = self.runs().items()
        assert name.startswith(f"{folder.name}-")
        points, (scores,) = recorder.of(TrainPoint), recorder.of(Evaluated)
        assert [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row] == [
            (event.step, pytest.approx(event.loss)) for event in points
        ]
        (evaluated,) = (row for row in rows if "test/accuracy" in row)
        assert evaluated["test/accuracy"] == pytest.approx(scores.accuracy)
        assert evaluated["test/confusion_matrix"]["_type"] == "trackio.image"
        changes = [(row["step"], row["change"]) for row in rows if "change" in row]
        assert changes == [(0, "running"), (5, "freeze conv1"), (8, "learning rate 0.005"), (40, "finished")]
        with sqlite3.connect(Path(os.environ["TRACKIO_DIR"]) / "finetui.db") as database:
            assert '"training.batch_size":100' in str(database.execute("select config from configs").fetchone()[0])
        assert "rackio" not in "".join(capfd.readouterr())
        assert not [event for event in recorder.of(Log) if "rackio" in event.message]

    def test_a_run_that_is_resumed_has_no_step_twice(self, make_config) -> None:
        run_cut_and_resumed(logged(make_config(), "trackio"))
        ((_, rows),) = self.runs().items()
        assert [row["step"] for row in rows if "train/loss" in row] == list(range(1, 41))

    def test_a_run_that_is_rolled_back_goes_on_in_a_second_one(self, make_config) -> None:
        folder = run_rolled_back(logged(make_config(), "trackio"))
        runs = sorted(self.runs().items(), key=lambda item: len(item[0]))
        (_, before), (second, after) = runs
        assert second.startswith(f"{folder.name}-part2-")
        steps = [[row["step"] for row in rows if "train/loss" in row] for rows in (before, after)]
        assert steps == [list(range(1, 26)), list(range(11, 41))]
