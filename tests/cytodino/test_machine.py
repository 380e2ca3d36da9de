from pathlib import Path

import pytest

from cytodino import machine
from cytodino.machine import cache_folder, cores_available, describe_machine, memory_available


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)


@pytest.mark.usefixtures("four_cores")
class TestCores:
    def test_affinity_counts_where_there_is_no_quota(self, tmp_path: Path) -> None:
        assert cores_available(tmp_path) == 4

    @pytest.mark.parametrize(
        ("quota", "cores"),
        [("200000 100000", 2), ("max 100000", 4), ("50000 100000", 1), ("900000 100000", 4)],
    )
    def test_a_quota_of_version_2(self, tmp_path: Path, quota: str, cores: int) -> None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
        assert cores_available(tmp_path) == cores

    @pytest.mark.parametrize(("quota", "cores"), [("300000", 3), ("-1", 4), ("", 4)])
    def test_a_quota_of_version_1(self, tmp_path: Path, quota: str, cores: int) -> None:
        (tmp_path / "cpu").mkdir()
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
        (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
        assert cores_available(tmp_path) == cores


def test_a_system_without_affinity_counts_its_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(machine.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 6)
    assert cores_available(tmp_path) == 6


def test_the_machine_is_the_same_twice_and_its_key_follows_it() -> None:
    first = describe_machine()
    assert first == describe_machine()
    assert first.cpu
    assert first.versions["cytodino"]
    assert first.versions["numpy"]
    other = first.model_copy(update={"flags": (*first.flags, "amx_new")})
    assert other.key != first.key


def test_gpus_are_read_and_another_driver_is_another_machine(tmp_path: Path) -> None:
    assert machine._find_gpus(tmp_path) == ()
    for place, model in (("0000:01:00.0", "NVIDIA L4"), ("0000:02:00.0", "NVIDIA RTX 6000")):
        (tmp_path / place).mkdir()
        text = f"Model: \t\t {model}\nIRQ:   \t\t 44\nGPU UUID: \t GPU-1\n"
        (tmp_path / place / "information").write_text(text)
    gpus = machine._find_gpus(tmp_path)
    assert gpus == ("NVIDIA L4", "NVIDIA RTX 6000")
    first = describe_machine().model_copy(update={"gpus": gpus, "gpu_driver": "550.54"})
    assert first.computing_on("cuda") == f"{first.cpu}, NVIDIA L4, NVIDIA RTX 6000, driver 550.54"
    assert first.computing_on("cpu") == first.cpu
    assert first.model_copy(update={"gpu_driver": "560.1"}).key != first.key


def test_memory_is_the_containers_share(tmp_path: Path) -> None:
    whole = memory_available(tmp_path)
    assert whole > 0
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_available(tmp_path) == whole
    (tmp_path / "memory.max").write_text("1048576\n")
    assert memory_available(tmp_path) == 1 << 20
    assert describe_machine().memory_gib > 0


def test_cpu_model_and_flags_are_read(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor : 0\nmodel name : A CPU\nflags : fpu avx2 avx512_vnni\n\n")
    assert machine._read_cpuinfo(path) == ("A CPU", frozenset({"fpu", "avx2", "avx512_vnni"}))
    path.write_text("processor : 0\nFeatures : asimd\n")
    assert machine._read_cpuinfo(path) == ("", frozenset({"asimd"}))
    assert machine._read_cpuinfo(tmp_path / "none") == ("", frozenset())


def test_the_cache_follows_the_users_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "cytodino"


@pytest.mark.parametrize(
    ("first_line", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27", "580.65.06"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.90  Release", "550.90"),
        ("something else", "something else"),
    ],
)
def test_the_gpu_driver_is_read(tmp_path: Path, first_line: str, version: str) -> None:
    (tmp_path / "version").write_text(f"{first_line}\nGCC version: gcc 12.2.0\n")
    assert machine._read_driver(tmp_path / "version") == version


def test_a_machine_without_a_gpu_has_no_driver(tmp_path: Path) -> None:
    assert machine._read_driver(tmp_path / "absent") is None
