"""Open another tool's archive in a child process first, where HDF5 may hang or crash.

HDF5 reads some damaged structures for ever: a heap of variable-length data whose next object is
zero bytes long. No exception comes, no signal is answered, and a night's run would stand still.
What this project writes has none of them, and checksums on the rest, and needs no probe.
"""

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import h5py

from cytodino.archive.options import ReadOptions
from cytodino.archive.own import FORMAT
from cytodino.errors import ArchiveError, InputError

PATIENCE = 60.0
"""Seconds that a probe may take besides reading; it starts in half a second."""

SLOWEST = 2e6
"""Bytes a second that the slowest disk is taken to give."""


def probe_foreign(file: h5py.File, path: Path, options: ReadOptions) -> None:
    """Read in a child process what HDF5 may not come back from, unless the file is one of ours.

    Whatever else is wrong with the archive is left for the caller to meet.

    Raises
    ------
    ArchiveError
        If HDF5 hangs or crashes.
    """
    if _has_safe_mark(file):
        return
    task = json.dumps([str(path.absolute()), asdict(options)])
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "cytodino.archive.probe", task],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE + path.stat().st_size / SLOWEST,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ArchiveError(
            "is damaged in a way that HDF5 does not come back from",
            where=path,
            mend="copy or write it again",
        ) from error
    if done.returncode < 0:
        raise ArchiveError(
            f"is damaged in a way that crashes HDF5 ({signal.Signals(-done.returncode).name})",
            where=path,
            mend="copy or write it again",
        )


def _has_safe_mark(file: h5py.File) -> bool:
    """Tell whether a file has our mark as text of fixed length, which is read without a heap."""
    if "format" not in file.attrs:
        return False
    kind = file.attrs.get_id("format").dtype
    return kind.kind == "S" and bytes(file.attrs["format"]) == FORMAT.encode()


def main(arguments: list[str]) -> int:
    """Open the archive that the one argument names, and read what is not pixels."""
    from cytodino.archive.reader import open_archive

    path, options = json.loads(arguments[0])
    try:
        with open_archive(Path(path), threads=1, options=ReadOptions(**options)) as archive:
            _ = archive.ids, archive.labels, archive.coords
            archive.visit()
    except InputError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
