"""The limits of control groups, from files as Docker, Slurm, Kubernetes and systemd leave them."""

from pathlib import Path

import pytest

from finetui.engine.machine.container import Container


def _files(root: Path, **files: str) -> None:
    for path, text in files.items():
        place = root / path.replace("__", "/").replace("DOT", ".")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text + "\n")


def _container(tmp_path: Path, membership: str) -> Container:
    (tmp_path / "cgroup").write_text(membership)
    return Container(tmp_path / "fs", tmp_path / "cgroup")


def test_version_2_inside_a_container(tmp_path: Path) -> None:
    _files(
        tmp_path / "fs",
        memoryDOTmax="8589934592",
        memoryDOTcurrent="5368709120",
        memoryDOTstat="anon 3221225472\nfile 2147483648\ninactive_file 1073741824",
        cpuDOTmax="150000 100000",
        cpuDOTstat="usage_usec 12500000\nuser_usec 10000000",
    )
    container = _container(tmp_path, "0::/\n")
    assert (container.memory_limit, container.cores) == (8 * 2**30, 1.5)
    assert container.memory_used() == 4 * 2**30, "what is only a copy of files is not in use"
    assert container.cpu_seconds() == 12.5


def test_version_2_takes_the_tightest_limit_on_the_way_up(tmp_path: Path) -> None:
    _files(tmp_path / "fs" / "slurm" / "job", memoryDOTmax="max", memoryDOTcurrent="7", cpuDOTmax="max 100000")
    _files(tmp_path / "fs" / "slurm", memoryDOTmax="1000", memoryDOTcurrent="400", cpuDOTmax="200000 100000")
    container = _container(tmp_path, "0::/slurm/job\n")
    assert (container.memory_limit, container.memory_used(), container.cores) == (1000, 400, 2.0)
    assert container.cpu_seconds() is None, "nobody tells"


def test_version_1_with_the_group_of_the_host_that_cannot_be_seen_inside(tmp_path: Path) -> None:
    _files(
        tmp_path / "fs",
        memory__memoryDOTlimit_in_bytes="2147483648",
        memory__memoryDOTusage_in_bytes="1610612736",
        memory__memoryDOTstat="cache 1\ntotal_inactive_file 536870912",
        cpu__cpuDOTcfs_quota_us="400000",
        cpu__cpuDOTcfs_period_us="100000",
        cpuacct__cpuacctDOTusage="2500000000",
    )
    container = _container(tmp_path, "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n")
    assert (container.memory_limit, container.memory_used()) == (2 * 2**30, 2**30)
    assert (container.cores, container.cpu_seconds()) == (4.0, 2.5)


def test_version_1_without_limits(tmp_path: Path) -> None:
    _files(
        tmp_path / "fs",
        memory__memoryDOTlimit_in_bytes="9223372036854771712",
        memory__memoryDOTusage_in_bytes="100",
        cpu__cpuDOTcfs_quota_us="-1",
        cpu__cpuDOTcfs_period_us="100000",
    )
    container = _container(tmp_path, "4:memory:/\n2:cpu,cpuacct:/\n")
    assert (container.memory_limit, container.memory_used(), container.cores) == (None, None, None)


@pytest.mark.parametrize("membership", ["", "\n", "0", "x:y", "0::/../../etc\n", "\udcff::/"])
def test_without_groups_there_are_no_limits(tmp_path: Path, membership: str) -> None:
    (tmp_path / "cgroup").write_bytes(membership.encode("utf-8", "surrogateescape"))
    container = Container(tmp_path / "fs", tmp_path / "cgroup")
    assert (container.memory_limit, container.cores, container.cpu_seconds()) == (None, None, None)
    assert Container(tmp_path / "fs", tmp_path / "none").memory_limit is None


@pytest.mark.parametrize("text", ["", "max", "0 0", "-1 100000", "100000 0", "1", "a b", "1 2 3"])
def test_damaged_limits_of_cores_are_none(tmp_path: Path, text: str) -> None:
    _files(tmp_path / "fs", cpuDOTmax=text)
    assert _container(tmp_path, "0::/\n").cores is None
