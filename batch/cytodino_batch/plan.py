"""Which archives are classified, and into which folder each one's results go."""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cytodino.bundle.manifest import MANIFEST_NAME
from cytodino.console import message
from cytodino.errors import InputError, MissingPathError
from cytodino.images import SUFFIXES, SYSTEM_FOLDERS, walk_files

ARCHIVE_SUFFIXES = (".h5", ".hdf5", ".h5sc", ".h5path")
"""What is taken from a folder; a file that is named itself may be called anything."""

PREDICTIONS_CSV = "predictions.csv"

PREDICTIONS_H5 = "predictions.h5"

PREDICTIONS_PARQUET = "predictions.parquet"

QUARANTINE_CSV = "quarantine.csv"

REVIEW_SHEET = "review.png"

SUMMARY_NAME = "summary.json"
"""Written last: a results folder without it is not a finished result."""

RESULT_FILES = (
    PREDICTIONS_CSV, PREDICTIONS_H5, PREDICTIONS_PARQUET, QUARANTINE_CSV, REVIEW_SHEET,
    SUMMARY_NAME,
)  # fmt: skip
"""All that a results folder may hold; `PREDICTIONS_PARQUET`, `REVIEW_SHEET` if asked for."""

MEND_PATTERN = "in a pattern, write [[] for a [ that is part of a name"

_WORK_FILE = re.compile(r"(classify|shard-\d+-of-\d+)\.(journal|lock|part)")  # of `work_file`


@dataclass(frozen=True)
class PlannedArchive:
    """One archive and where its results go."""

    path: Path
    """The archive, as it was named or found."""
    name: str
    """Its path below the archives' common root, without suffix, with forward slashes."""
    folder: Path
    """The results folder: the output folder and `name`."""


def plan_archives(named: Iterable[str | Path], out: Path) -> tuple[PlannedArchive, ...]:
    """Find the archives and give each a results folder of its own, before any work is done.

    Parameters
    ----------
    named : paths
        Archives, folders (every file with one of `ARCHIVE_SUFFIXES` below, sorted, as
        `walk_files` finds them) or glob patterns. What they give of a bundle or of results is left
        out, and so is such a file or folder that is named itself, as a shell names what its
        patterns match, unless nothing else is. An archive named twice is taken once.
    out : Path
        The output folder; it need not exist.

    Raises
    ------
    MissingPathError
        If a path is not there and matches nothing as a pattern.
    InputError
        If a folder holds neither archive nor results, or cannot be listed, nothing that was named
        gives an archive, or `out` is a file or may not be written.
    """
    _require_writable(out)
    paths = _without_repeats(_find([Path(entry) for entry in named], out))
    return tuple(
        PlannedArchive(path, name, out / name)
        for path, name in zip(paths, name_archives(paths), strict=True)
    )


def name_archives(paths: Sequence[Path]) -> tuple[str, ...]:
    """Name archives by their paths below their common root, without suffix, each name once.

    The suffix stays where the name without it is that of another archive, or leads elsewhere, as
    that of `...h5` does.
    """
    absolute = [Path(os.path.abspath(path)) for path in paths]
    root = os.path.commonpath([path.parent for path in absolute])
    full = [path.relative_to(root).as_posix() for path in absolute]
    short = [long.removesuffix(path.suffix) for long, path in zip(full, absolute, strict=True)]
    uses = Counter(short + full)
    return tuple(
        long if uses[brief] > 1 or path.stem in (".", "..") else brief
        for path, long, brief in zip(absolute, full, short, strict=True)
    )


def _require_writable(out: Path) -> None:
    """Refuse an output folder now that would refuse the results of a night later."""
    if out.exists() and not out.is_dir():
        raise InputError("is a file", where=out, mend="name a folder for the results")
    levels = (out, *out.absolute().parents)
    nearest = next(level for level in levels if level.exists() or level.is_symlink())
    if not nearest.exists():
        raise InputError(
            "is a link to nothing", where=nearest, mend="mount what it leads to, or choose another"
        )
    if not nearest.is_dir():
        raise InputError("is a file", where=nearest, mend="choose another --out")
    if not os.access(nearest, os.W_OK):
        raise InputError("may not be written", where=nearest, mend="choose another --out")


def _find(named: Sequence[Path], out: Path) -> list[Path]:
    ours = {entry: None for entry in named if entry.is_file() and _is_finished(entry)}
    found = [path for entry in named if entry not in ours for path in _expand(entry, out)]
    if not found and not ours:
        raise _no_archive(named[0])
    for entry in ours if found else {}:
        message(f"{entry}: passed over, for it is of results or a bundle; name it alone to take it")
    return found or list(ours)


def _expand(entry: Path, out: Path) -> list[Path]:
    """Give the archives that an entry stands for; none where it is of results or bundles alone."""
    if entry.exists() and not entry.is_dir():
        return [entry]
    if entry.is_dir():
        matches, found = [entry], _archives_below(entry, out)
    else:
        matches = _match(entry)
        found = [path for match in matches for path in _expand_match(match, out)]
    if not found and not all(_is_left_over(match) for match in matches):
        raise _no_archive(entry)
    return found


def _match(pattern: Path) -> list[Path]:
    text = str(pattern)
    matches = sorted(glob.glob(text, recursive=True)) if glob.has_magic(text) else []
    if not matches:
        raise MissingPathError(pattern, mend=MEND_PATTERN if "[" in text else None)
    return [Path(match) for match in matches]


def _expand_match(match: Path, out: Path) -> list[Path]:
    if match.is_dir():
        return [] if match.name.lower() in SYSTEM_FOLDERS else _archives_below(match, out)
    # A link to nothing is an archive that fails by itself, as it is below a folder.
    return [] if _is_ours(match, out) else [match]


def _archives_below(folder: Path, out: Path) -> list[Path]:
    return sorted(
        path
        for path in (folder / name for name in walk_files(folder))
        if path.suffix.lower() in ARCHIVE_SUFFIXES and not _is_ours(path, out)
    )


def _no_archive(entry: Path) -> InputError:
    if not entry.is_dir():
        return InputError("matches no archive", where=entry, mend="name the archives themselves")
    mend = f"name a folder with {' or '.join('*' + s for s in ARCHIVE_SUFFIXES)} files"
    inside = (entry / name for name in walk_files(entry))
    if any(path.suffix.lower() in SUFFIXES and not _is_left_over(path) for path in inside):
        mend = f"pack its images first: cytodino pack {entry} {entry.name or 'slide'}.h5"
    return InputError("no archive below this folder", where=entry, mend=mend)


def _is_ours(path: Path, out: Path) -> bool:
    """Tell whether a file is of a bundle or of results, in `out` of unfinished ones too."""
    if _is_finished(path):
        return True
    return path.name == PREDICTIONS_H5 and _real(path).is_relative_to(_real(out))


def _is_finished(path: Path) -> bool:
    """Tell whether a file is of a bundle, or a `predictions.h5` with its summary beside it.

    Without one it may be anybody's archive.
    """
    beside = path.parent
    if (beside / MANIFEST_NAME).is_file():
        return True
    return path.name == PREDICTIONS_H5 and (beside / SUMMARY_NAME).is_file()


def _is_left_over(path: Path) -> bool:
    """Tell a folder with nothing but results, work on them and bundles; or one file of these."""
    if path.is_dir():
        names = list(walk_files(path))
        return bool(names) and all(_is_left_over(path / name) for name in names)
    ours = path.name in RESULT_FILES or _WORK_FILE.fullmatch(path.name) is not None
    return ours or (path.parent / MANIFEST_NAME).is_file()


def _without_repeats(paths: Iterable[Path]) -> list[Path]:
    first: dict[Path, Path] = {}
    for path in paths:
        first.setdefault(_real(path), path)
    return list(first.values())


def _real(path: Path) -> Path:
    """Follow links as far as they lead: `Path.resolve` raises where one leads to itself."""
    return Path(os.path.realpath(path))
