import subprocess
import sys

import h5py
import numpy as np
import pytest

from cytodino.archive.sink import Sink, writing_hdf5

FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from cytodino.archive.sink import writing_hdf5

path, limit = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with writing_hdf5(path, sys.argv[3]) as writing:
        for name in "abcd":
            data = np.arange(50_000)
            writing.hdf5.create_dataset(name, data=data, chunks=(1000,), fletcher32=True)
except OSError as error:
    print(error.strerror)
"""


def test_what_is_written_is_there(tmp_path):
    path = tmp_path / "f.h5"
    with writing_hdf5(path) as writing:
        writing.hdf5["a"] = np.arange(5)
    with writing_hdf5(path, "r+") as writing:
        writing.hdf5["b"] = np.arange(3)
    with h5py.File(path) as file:
        assert (file["a"][4], file["b"][2]) == (4, 2)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the length of files")
@pytest.mark.parametrize("mode", ["w", "r+"])
@pytest.mark.parametrize("limit", [0, 3000, 900_000, 1_604_000])
def test_a_full_disk_ends_in_an_error_and_not_in_a_crash(tmp_path, limit, mode):
    path = tmp_path / "f.h5"
    h5py.File(path, "w").close()
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path), str(limit), mode], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "File too large\n", "")


def test_an_interrupt_inside_hdf5_is_not_lost(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), writing_hdf5(tmp_path / "f.h5") as writing:
        monkeypatch.setattr(Sink, "_put", interrupt)
        writing.hdf5["a"] = np.arange(5)
