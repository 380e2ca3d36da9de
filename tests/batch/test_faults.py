"""Damaged archives through the command: each loss is listed, and none stops the others."""

import csv
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.cytodino.archive.damage import damage_file
from tests.cytodino.archive.published import WRITERS, decode, draw_jpegs

from .tiny_bundle import write_bundle

PROGRAM = Path(sys.executable).with_name("cytodino-batch")

N = 12
FILES = draw_jpegs(N)
CROPS = decode(FILES)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("made") / "bundle")


@pytest.fixture
def archives(tmp_path):
    folder = tmp_path / "archives"
    folder.mkdir()
    return folder


def classify(archives, bundle, out):
    command = [PROGRAM, "classify", archives, "--bundle", bundle, "--out", out]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=400
    )
    assert "Traceback" not in done.stderr
    return done


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(stderr):
    """Read the closing table: archive -> the rest of its line."""
    lines = stderr.splitlines()
    begin = next(at for at, line in enumerate(lines) if line.startswith("archive "))
    entries = {}
    for line in lines[begin + 1 :]:
        name, _, rest = line.partition("  ")
        entries[name.strip()] = rest.strip()
    return entries


def test_each_fault_has_its_reason_and_the_rest_goes_on(tmp_path, archives, bundle):
    for name in ("CLAM", "h5sc", "h5path", "variable-length JPEG", "contiguous", "NCHW"):
        WRITERS[name](archives / f"{name}.h5", CROPS, FILES)
    with h5py.File(archives / "h5sc.h5", "r+") as file:
        file["obsm/single_cell_images"][4, 3, 2, 1] = np.nan
    with h5py.File(archives / "h5path.h5", "r+") as file:
        del file["tiles/(24, 1040)/array"]
    with h5py.File(archives / "variable-length JPEG.h5", "r+") as file:
        file["images"][7] = np.frombuffer(FILES[7][:100], np.uint8)
    with h5py.File(archives / "CLAM.h5", "r+") as file:
        file["imgs"].resize(N + 2, axis=0)
    with h5py.File(archives / "contiguous.h5", "r+") as file:
        file["images"].attrs["channel_order"] = "HSV"
    content = (archives / "NCHW.h5").read_bytes()
    (archives / "NCHW.h5").write_bytes(content[:-10])
    (archives / "text.h5").write_text("no archive", encoding="utf-8")
    with h5py.File(archives / "coords.h5", "w") as file:
        file["coords"] = np.zeros((N, 2), int)

    done = classify(archives, bundle, tmp_path / "out")
    assert done.returncode == 3
    quarantined = {
        name: [(row["row"], row["id"], row["reason"]) for row in rows(path)]
        for name in ("CLAM", "h5sc", "h5path", "variable-length JPEG")
        for path in [tmp_path / "out" / name / "quarantine.csv"]
    }
    assert quarantined == {
        "CLAM": [("12", "12", "was never written"), ("13", "13", "was never written")],
        "h5sc": [("4", "104", "holds NaN or infinity")],
        "h5path": [("2", "(24, 1040)", "has no array")],
        "variable-length JPEG": [("7", "7", "is truncated and cannot be decoded")],
    }
    found = table(done.stderr)
    assert "channel order 'HSV'" in found["contiguous"]
    assert "is truncated" in found["NCHW"]
    assert "is not an HDF5 file" in found["text"]
    assert "coordinates but no crops" in found["coords"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(quarantined)


def test_every_loss_of_damaged_archives_is_listed(tmp_path, archives, bundle):
    names = ["own raw", "own encoded", "CLAM", "own gzip", "h5path", "own encoded", "h5sc", "NCHW"]
    whole = {}
    for seed in range(24):
        path = archives / f"{seed:02}.h5"
        WRITERS[names[seed % len(names)]](path, CROPS, FILES)
        damage_file(path, seed)
        whole[path.stem] = names[seed % len(names)]
    done = classify(archives, bundle, tmp_path / "out")
    assert done.returncode == 3
    found = table(done.stderr)
    assert found.keys() == whole.keys()
    lost = 0
    for name, entry in found.items():
        if entry.startswith("failed"):
            assert not (tmp_path / "out" / name).exists()
            assert len(entry.split(None, 3)) == 4, "a reason"
            continue
        classified = [int(row["row"]) for row in rows(tmp_path / "out" / name / "predictions.csv")]
        quarantined = [int(row["row"]) for row in rows(tmp_path / "out" / name / "quarantine.csv")]
        assert sorted(classified + quarantined) == list(range(len(classified + quarantined)))
        if whole[name].startswith("own"):
            assert len(classified + quarantined) == N
        lost += len(quarantined)
    assert lost
    assert any(entry.startswith("failed") for entry in found.values())
