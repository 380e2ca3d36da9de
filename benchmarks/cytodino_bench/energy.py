"""Energy that the machine tells of: Intel's and AMD's RAPL counters, NVIDIA's by NVML.

Both count for the whole package or board, whoever uses it: on a machine that does other work too,
its share is in the figure. Nothing is asked of the user, and a machine that does not tell, or not
this user (RAPL is readable by root alone on most systems), is measured without.
"""

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["EnergyMeter"]

POWERCAP = Path("/sys/class/powercap")

Counter = Callable[[], float]
"""Joules since some moment; never runs backwards."""


class EnergyMeter:
    """All counters of the machine, read together.

    Parameters
    ----------
    powercap : Path
        Folder of the kernel's RAPL counters.
    load_nvml : callable
        Loads NVIDIA's library; OSError where there is none.
    """

    def __init__(
        self,
        powercap: Path = POWERCAP,
        load_nvml: Callable[[], Any] = lambda: ctypes.CDLL("libnvidia-ml.so.1"),
    ) -> None:
        self._counters = {**_rapl_counters(powercap), **_nvml_counters(load_nvml)}

    @property
    def sources(self) -> Sequence[str]:
        """What is counted, such as ``package-0`` and ``NVML GPU 0``; empty where nothing is."""
        return tuple(self._counters)

    def joules(self) -> float | None:
        """Energy since some moment, of everything together; None where nothing is counted."""
        if not self._counters:
            return None
        return sum(counter() for counter in self._counters.values())


def _rapl_counters(folder: Path) -> dict[str, Counter]:
    """Find the packages; their parts (`core`, `dram`) are in them, `psys` counts them again."""
    found: dict[str, Counter] = {}
    for zone in sorted(folder.glob("*-rapl:*")):
        try:
            name = (zone / "name").read_text().strip()
            span = int((zone / "max_energy_range_uj").read_text())
            counter = _Wrapping(zone / "energy_uj", span)
        except (OSError, ValueError):  # not this user's to read
            continue
        if name.startswith("package"):
            found[name] = counter
    return found


class _Wrapping:
    """A counter of microjoules that starts again at 0 after `span`."""

    def __init__(self, path: Path, span: int) -> None:
        self._path, self._span = path, span
        self._last = self._read()
        self._total = 0

    def _read(self) -> int:
        return int(self._path.read_text())

    def __call__(self) -> float:
        now = self._read()
        step = now - self._last
        self._total += step if step >= 0 else step + self._span
        self._last = now
        return self._total / 1e6


def _nvml_counters(load: Callable[[], Any]) -> dict[str, Counter]:
    try:
        nvml = load()
        if nvml.nvmlInit_v2() != 0:
            return {}
        count = ctypes.c_uint()
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return {}
    except (OSError, AttributeError):  # no driver, or one too old
        return {}
    found: dict[str, Counter] = {}
    for index in range(count.value):
        board = ctypes.c_void_p()
        if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(board)) != 0:
            continue
        counter = _Board(nvml, board)
        if counter.tells:
            found[f"NVML GPU {index}"] = counter
    return found


class _Board:
    """A GPU's own counter of millijoules, since the driver was loaded; Volta or newer."""

    def __init__(self, nvml: Any, board: ctypes.c_void_p) -> None:
        self._nvml, self._board = nvml, board
        self._value = ctypes.c_ulonglong()
        self.tells = self._update()

    def _update(self) -> bool:
        code = self._nvml.nvmlDeviceGetTotalEnergyConsumption(
            self._board, ctypes.byref(self._value)
        )
        return bool(code == 0)

    def __call__(self) -> float:
        self._update()
        return self._value.value / 1e3
