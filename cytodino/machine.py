"""The machine at hand: what a verdict, a timing or a compiled engine was made on."""

import hashlib
import os
import platform
import re
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict

import cytodino

__all__ = [
    "Machine",
    "cache_folder",
    "cores_available",
    "describe_machine",
    "installed_versions",
    "memory_available",
]

FLAGS_OF_INTEREST = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "avx_vnni",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
)
"""CPU flags that decide which kernels an engine picks, and so its rounding and its speed."""

LIBRARIES = (
    "numpy",
    "h5py",
    "onnxruntime",
    "onnxruntime-gpu",
    "nvidia-cuda-runtime-cu12",
    "nvidia-cuda-runtime",
    "nvidia-cudnn-cu12",
    "nvidia-cudnn-cu13",
    "tensorrt",
    "openvino",
    "nncf",
    "torch",
    "transformers",
    "peft",
    "onnx",
    "onnxscript",
)
"""Distributions whose versions are part of a result's provenance."""


class Machine(BaseModel):
    """One machine, as far as it can change an answer or a speed."""

    model_config = ConfigDict(frozen=True)

    cpu: str
    """Model name as the operating system gives it."""
    flags: tuple[str, ...]
    """Those of `FLAGS_OF_INTEREST` that the CPU has."""
    cores: int
    """Cores this process may use: affinity and the container's quota counted in."""
    memory_gib: int = 0
    """Memory this process may use, in whole GiB, the container's limit counted in; 0: unknown."""
    gpus: tuple[str, ...] = ()
    """Models of the NVIDIA GPUs."""
    system: str
    """Operating system, its release, and the architecture."""
    python: str
    gpu_driver: str | None = None
    """Version of NVIDIA's kernel driver; None where there is none."""
    versions: dict[str, str]
    """Installed versions by distribution; what is not installed is left out."""

    @property
    def key(self) -> str:
        """Name the machine in its cache: 16 hex digits over everything above."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def computing_on(self, device: str) -> str:
        """Name what computes on a device, "cpu" or "cuda": the CPU, and the GPUs where they do."""
        if device == "cpu":
            return self.cpu
        return ", ".join((self.cpu, *self.gpus, f"driver {self.gpu_driver or 'unknown'}"))


def describe_machine() -> Machine:
    """Describe the machine at hand; reads no network and starts nothing."""
    cpu, flags = _read_cpuinfo(Path("/proc/cpuinfo"))
    return Machine(
        cpu=cpu or platform.processor() or platform.machine(),
        flags=tuple(flag for flag in FLAGS_OF_INTEREST if flag in flags),
        cores=cores_available(),
        memory_gib=memory_available() >> 30,
        gpus=_find_gpus(Path("/proc/driver/nvidia/gpus")),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        gpu_driver=_read_driver(Path("/proc/driver/nvidia/version")),
        versions=installed_versions(),
    )


def installed_versions() -> dict[str, str]:
    """Versions of this package and of the installed `LIBRARIES`, by distribution."""
    versions = {"cytodino": cytodino.__version__}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def cores_available(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Count the cores that this process may use, at least 1.

    Engines size their thread pools by the machine's cores, not by the container's share
    (onnxruntime#29510); affinity and the cgroup's quota, version 2 or 1, are the share.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _cgroup_quota(cgroup)
    return cores if quota is None else max(1, min(cores, int(quota)))


def memory_available(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of memory that this process may use, used or free; 0 where that is not known."""
    found = []
    if hasattr(os, "sysconf"):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # version 2, version 1
        try:
            found.append(int((cgroup / name).read_text()))
        except (OSError, ValueError):  # "max": no limit
            continue
    return min(found, default=0)


def cache_folder() -> Path:
    """Folder for what is learnt on this machine: verdicts, choices, compiled engines."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("cytodino", appauthor=False))


def _find_gpus(folder: Path) -> tuple[str, ...]:
    """Model of each NVIDIA GPU, as the driver tells the kernel; empty where there is none."""
    found = []
    for path in sorted(folder.glob("*/information")):
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        found += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return tuple(found)


def _cgroup_quota(cgroup: Path) -> float | None:
    """Cores the container may use, or None where nothing limits them."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()[:2]
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        cores = float(quota) / float(period)
    except (ValueError, ZeroDivisionError):  # "max": no limit
        return None
    return cores if cores > 0 else None  # version 1 writes -1 for no limit


def _read_driver(path: Path) -> str | None:
    """Version in a first line such as ``NVRM version: NVIDIA UNIX x86_64 Module  580.65.06``."""
    try:
        line = path.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0]
    except OSError:
        return None
    found = re.search(r"\b\d+\.\d+(\.\d+)?\b", line)
    return found[0] if found else line.strip()


def _read_cpuinfo(path: Path) -> tuple[str, frozenset[str]]:
    """Model name and flags of the first core; empty where the system has no such file."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", frozenset()
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    flags = fields.get("flags") or fields.get("Features") or ""  # x86, ARM
    return fields.get("model name", ""), frozenset(flags.split())
