"""Reads the archives whose paths come line by line, and answers each with a line of JSON."""

import json
import sys
import traceback
from pathlib import Path

from cytodino.archive import open_archive
from cytodino.archive import probe as probing
from cytodino.errors import CropError, InputError
from cytodino.images import checksum


def read(path: Path) -> dict[str, object]:
    """Read all of an archive: a checksum a row, None where it is lost; or why it is refused."""
    try:
        with open_archive(path, threads=2, probe=True) as archive:
            rows = [
                row for start in range(0, archive.n, 8) for row in archive.read(start, start + 8)
            ]
            _ = archive.ids, archive.labels, archive.coords
            return {
                "n": archive.n,
                "rows": [None if isinstance(row, CropError) else checksum(row) for row in rows],
            }
    except InputError as error:
        return {"refused": str(error)}
    except Exception:
        return {"traceback": traceback.format_exc()}


if __name__ == "__main__":
    probing.PATIENCE = 10.0
    for line in sys.stdin:
        print(json.dumps(read(Path(line.rstrip("\n")))), flush=True)
