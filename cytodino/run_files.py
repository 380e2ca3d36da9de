"""The SHA-256 of what a run is made of, so that a file of another run, or a bit, does not pass."""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from cytodino.errors import InputError
from cytodino.paths import hash_file
from cytodino.run_manifest import MANIFEST

__all__ = ["ADAPTER", "ADAPTER_FILES", "BACKBONE", "HEAD", "SPLIT", "hash_files", "require_files"]

SPLIT = "split.csv"
HEAD = "head.safetensors"
ADAPTER = "adapter"
ADAPTER_FILES = (f"{ADAPTER}/adapter_config.json", f"{ADAPTER}/adapter_model.safetensors")
BACKBONE = "backbone"
"""Hashed too, in its own record: it may lie elsewhere."""


def hash_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 in hex of head, adapter and split, by name in the run's folder."""
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in _files(folder)}


def require_files(folder: Path, recorded: Mapping[str, str]) -> None:
    """Hold the files of a run against what `run.json` says of them.

    Raises
    ------
    InputError
        If one is missing, has changed, or cannot be read.
    """
    for name, expected in recorded.items():
        path = folder / name
        if not _is_ours(name):
            raise InputError(
                f"{MANIFEST} names {name!r} among its files, which no run has",
                where=folder,
                mend="copy the run again, whole",
            )
        if not path.is_file():
            raise InputError(f"{name} is missing", where=folder, mend="copy the run again, whole")
        try:
            found = hash_file(path)
        except OSError as error:
            raise InputError(
                f"{name} cannot be read ({error.strerror})", where=folder, mend="see to its rights"
            ) from error
        if found != expected:
            raise InputError(
                f"{name} has changed since the run was written",
                where=folder,
                mend="copy the run again, whole",
            )


def _is_ours(name: str) -> bool:
    """Tell a name that `hash_files` gives from what somebody wrote by hand."""
    parts = PurePosixPath(name).parts
    within = len(parts) > 1 and parts[0] == ADAPTER and ".." not in parts
    return name in (HEAD, SPLIT) or (within and name.isprintable())


def _files(folder: Path) -> Iterator[Path]:
    adapter = folder / ADAPTER
    within = sorted(adapter.rglob("*")) if adapter.is_dir() else []
    for path in (folder / HEAD, folder / SPLIT, *within):
        if path.is_file():
            yield path
