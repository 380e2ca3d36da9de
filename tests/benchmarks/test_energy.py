import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cytodino_bench.energy import EnergyMeter


def no_library() -> Any:
    raise OSError("libnvidia-ml.so.1: cannot open shared object file")


def write_zone(folder: Path, zone: str, name: str, microjoules: int, span: int = 1000) -> Path:
    (folder / zone).mkdir(parents=True)
    (folder / zone / "name").write_text(f"{name}\n")
    (folder / zone / "max_energy_range_uj").write_text(f"{span}\n")
    (folder / zone / "energy_uj").write_text(f"{microjoules}\n")
    return folder / zone / "energy_uj"


def test_packages_are_counted_and_their_parts_are_not(tmp_path: Path) -> None:
    first = write_zone(tmp_path, "intel-rapl:0", "package-0", 100)
    second = write_zone(tmp_path, "intel-rapl:1", "package-1", 200)
    write_zone(tmp_path, "intel-rapl:0:0", "core", 300)
    write_zone(tmp_path, "intel-rapl:2", "psys", 400)

    meter = EnergyMeter(tmp_path, no_library)

    assert meter.sources == ("package-0", "package-1")
    before = meter.joules()
    first.write_text("150")
    second.write_text("207")
    assert meter.joules() - before == pytest.approx(57e-6)


def test_a_counter_that_starts_again_goes_on(tmp_path: Path) -> None:
    counter = write_zone(tmp_path, "intel-rapl:0", "package-0", 990, span=1000)
    meter = EnergyMeter(tmp_path, no_library)
    counter.write_text("15")
    assert meter.joules() == pytest.approx(25e-6)


def test_a_machine_without_counters_tells_none(tmp_path: Path) -> None:
    meter = EnergyMeter(tmp_path / "absent", no_library)
    assert meter.sources == ()
    assert meter.joules() is None


def test_a_counter_of_nonsense_is_left_out(tmp_path: Path) -> None:
    write_zone(tmp_path, "intel-rapl:0", "package-0", 1).write_text("")
    assert EnergyMeter(tmp_path, no_library).sources == ()


def nvml(boards: list[int | None]) -> Any:
    """A library with a board for each of these millijoules; None is one that does not tell."""

    def count(out: Any) -> int:
        out._obj.value = len(boards)
        return 0

    def handle(index: int, out: Any) -> int:
        out._obj.value = index + 1
        return 0

    def energy(board: ctypes.c_void_p, out: Any) -> int:
        told = boards[board.value - 1]
        if told is None:
            return 3  # not supported
        out._obj.value = told
        return 0

    return SimpleNamespace(
        nvmlInit_v2=lambda: 0,
        nvmlDeviceGetCount_v2=count,
        nvmlDeviceGetHandleByIndex_v2=handle,
        nvmlDeviceGetTotalEnergyConsumption=energy,
    )


def test_boards_that_tell_are_counted(tmp_path: Path) -> None:
    boards: list[int | None] = [5000, None, 7000]
    meter = EnergyMeter(tmp_path, lambda: nvml(boards))
    assert meter.sources == ("NVML GPU 0", "NVML GPU 2")
    assert meter.joules() == pytest.approx(12.0)
    boards[0] = 6500
    assert meter.joules() == pytest.approx(13.5)


@pytest.mark.parametrize("library", [SimpleNamespace(), SimpleNamespace(nvmlInit_v2=lambda: 9)])
def test_a_library_that_is_too_old_or_finds_no_driver_counts_nothing(
    tmp_path: Path, library: Any
) -> None:
    assert EnergyMeter(tmp_path, lambda: library).sources == ()
