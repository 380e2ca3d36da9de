"""Make a run folder: its place, its files, and what is left of one that did not end well."""

import csv
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cytodino.errors import DivergedError, InputError
from cytodino.paths import printable
from cytodino.run_files import SPLIT, hash_files
from cytodino.run_manifest import MANIFEST, RunManifest

__all__ = ["UNFINISHED", "new_run_folder", "require_free", "write_manifest", "write_split"]

UNFINISHED = ".training"
"""Folder of what an unfinished training goes on from; gone when the run is whole."""


def require_free(out: Path, *, resume: bool = False) -> None:
    """Refuse a place for a new run that is taken, or that cannot hold one.

    Parameters
    ----------
    out : the run's folder
    resume : let an unfinished training stand there

    Raises
    ------
    InputError
        If it is a file, a folder that is not empty, or of a name that safetensors cannot write to.
    """
    if printable(out) != str(out):
        raise InputError(
            "is no UTF-8, and weights cannot be written there",
            where=printable(out),
            mend="choose another --out",
        )
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / UNFINISHED).is_dir():
        raise InputError(
            "is there already", where=out, mend="choose another --out, or remove it yourself"
        )
    if not resume:
        raise InputError(
            "holds a training that was interrupted",
            where=out,
            mend="go on with --resume, choose another --out, or remove it yourself",
        )


@contextmanager
def new_run_folder(out: Path, *, resume: bool = False) -> Iterator[None]:
    """Make a run's folder, and take it away again if what fills it does not end well.

    What an unfinished training can go on from stays, and nothing else; of one that diverged,
    nothing.

    Raises
    ------
    InputError
        If it is taken, by another training that began meanwhile, or cannot be made.
    """
    require_free(out, resume=resume)
    existed = out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot be made: {error.strerror}", where=out, mend="choose another --out"
        ) from error
    try:
        yield
        _open_to_others(out)
    except BaseException as error:
        # One that was there stays: somebody may stand in it, or it may be a mount.
        goes_on = _worth_keeping(out / UNFINISHED) and not isinstance(error, DivergedError)
        kept = out / UNFINISHED if goes_on else None
        for entry in list(out.iterdir()) if existed or kept else [out]:
            if entry.is_dir() and entry != kept:
                shutil.rmtree(entry)
            elif entry != kept:
                entry.unlink()
        raise
    if (out / UNFINISHED).is_dir():
        shutil.rmtree(out / UNFINISHED)


def _worth_keeping(unfinished: Path) -> bool:
    """Tell whether a training got far enough to go on from."""
    return unfinished.is_dir() and any(entry.is_dir() for entry in unfinished.iterdir())


def _open_to_others(folder: Path) -> None:
    """Give the weights the rights of `run.json`: safetensors keeps what it writes to its owner."""
    manifest = folder / MANIFEST
    if manifest.is_file():
        rights = manifest.stat().st_mode & 0o666
        for path in folder.rglob("*.safetensors"):
            path.chmod(rights)


def write_manifest(path: Path, manifest: RunManifest) -> None:
    """Write `run.json` into a run folder, whole or not at all: the last thing a training does.

    The hashes of the files that lie there go with it.
    """
    partial = path / f"{MANIFEST}.partial"
    whole = manifest.model_copy(update={"files": hash_files(path)})
    partial.write_text(whole.model_dump_json(indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path / MANIFEST)


def write_split(path: Path, ids: Sequence[str], parts: Sequence[str]) -> None:
    """Write `split.csv` into a run folder: header `id,part`, one line a cell."""
    with (path / SPLIT).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "part"))
        writer.writerows(zip(ids, parts, strict=True))
