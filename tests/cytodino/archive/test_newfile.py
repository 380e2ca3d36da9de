import subprocess
import sys

import pytest

from cytodino.archive import open_archive, write_archive
from cytodino.archive.newfile import NewFile
from cytodino.cells import open_cells

KILLED = """
import os, signal, sys
from pathlib import Path
from cytodino.archive import write_archive
from cytodino.cells import open_cells

def kill(done, total):
    if done == 4:
        os.kill(os.getpid(), signal.SIGKILL)

write_archive(Path(sys.argv[2]), open_cells(Path(sys.argv[1])), progress=kill)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file())


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL, and leftovers stay")
def test_what_a_killed_process_left_is_removed_by_the_next(images, tmp_path):
    path = tmp_path / "a.h5"
    done = subprocess.run([sys.executable, "-c", KILLED, str(images), str(path)])
    assert done.returncode == -9
    (left,) = names(tmp_path)
    assert left.startswith("a.h5.")
    others = {"a.h5.notes.partial", "b.h5.123.partial", "xa.h5.12.partial", "a.h5.12"}
    for name in others:
        (tmp_path / name).write_bytes(b"precious")
    write_archive(path, open_cells(images))
    assert set(names(tmp_path)) == {"a.h5"} | others
    with open_archive(path) as opened:
        assert opened.n == 7


def test_what_is_being_written_elsewhere_is_left_alone(images, tmp_path):
    path = tmp_path / "a.h5"
    with pytest.raises(KeyboardInterrupt), NewFile(path) as new:
        new.hdf5.create_dataset("x", data=[1, 2])
        (living,) = names(tmp_path)
        new._partial = new._partial.rename(tmp_path / "a.h5.1.partial")  # as of another process
        write_archive(path, open_cells(images))
        assert names(tmp_path) == ["a.h5", "a.h5.1.partial"]
        raise KeyboardInterrupt
    assert names(tmp_path) == ["a.h5"]
    assert living != "a.h5.1.partial"
