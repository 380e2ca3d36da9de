import csv
import dataclasses
import os
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from cytodino.errors import InputError
from cytodino.paths import hash_file
from cytodino.taxonomy import CODES, CRITICAL
from cytodino_batch import classification, results
from cytodino_batch.classification import Classification
from cytodino_batch.results import write_results
from cytodino_batch.stream import Block, QuarantinedRow

NASTY = ["a,b", 'say "x"', "two\nlines", "=cmd|' /C calc'!A0", "lone\rreturn", "", "Zelle ä"]
FILES = ["predictions.csv", "predictions.h5", "quarantine.csv", "summary.json"]


@pytest.fixture
def result() -> Classification:
    logits = np.random.default_rng(1).normal(0, 3, (6, 21)).astype(np.float32)
    lost = (QuarantinedRow(2, "bad, very\nbad"),)
    coords = np.arange(14).reshape(7, 2)
    blocks = [
        Block(0, 4, np.array([0, 1, 3]), logits[:3], lost, NASTY[:4], coords[:4]),
        Block(4, 7, np.array([4, 5, 6]), logits[3:], (), NASTY[4:], coords[4:]),
    ]
    return Classification.from_blocks(blocks, rows=7, classified=6, review_below=0.5)


def write(folder, result, summarise=lambda files: "{}\n"):
    write_results(folder, result, attributes={"bundle_sha256": "b" * 64}, summarise=summarise)


def read_rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_predictions_csv_holds_one_line_a_classified_crop(tmp_path, result):
    write(tmp_path / "s", result)
    rows = read_rows(tmp_path / "s/predictions.csv")
    assert ",".join(rows[0]) == "row,id,x,y,label,confidence,runner_up,critical,review"
    assert [int(row["row"]) for row in rows] == [0, 1, 3, 4, 5, 6]
    for row, logits in zip(rows, result.logits, strict=True):
        p = np.exp(logits.astype(np.float64))
        p = (p / p.sum()).astype(np.float32)
        order = np.argsort(-p)
        number = int(row["row"])
        assert row["id"] == NASTY[number]
        assert (row["x"], row["y"]) == (str(2 * number), str(2 * number + 1))
        assert (row["label"], row["runner_up"]) == (CODES[order[0]], CODES[order[1]])
        assert row["confidence"] == f"{p[order[0]]:.6f}"
        critical = CODES[order[0]] in CRITICAL
        assert row["critical"] == str(int(critical))
        assert row["review"] == str(int(critical or p[order[0]] < 0.5))


def test_the_fixture_has_cells_on_both_sides_of_review_and_critical(result):
    assert set(result.critical) == {True, False}
    assert set(result.review) == {True, False}


def test_quarantine_csv_gives_row_id_and_reason(tmp_path, result):
    write(tmp_path / "s", result)
    assert read_rows(tmp_path / "s/quarantine.csv") == [
        {"row": "2", "id": "two\nlines", "reason": "bad, very\nbad"}
    ]


def test_an_empty_quarantine_is_written_all_the_same(tmp_path, result):
    results.write_quarantine_csv(
        tmp_path / "q.csv", Classification(**{**vars(result), "quarantined": ()})
    )
    assert (tmp_path / "q.csv").read_bytes() == b"row,id,reason\n"


def test_without_coordinates_x_and_y_are_empty(tmp_path, result):
    bare = Classification(**{**vars(result), "coords": None})
    results.write_predictions_csv(tmp_path / "p.csv", bare)
    assert {(row["x"], row["y"]) for row in read_rows(tmp_path / "p.csv")} == {("", "")}


def test_lines_end_with_a_newline_alone(tmp_path, result):
    plain = Classification(**{**vars(result), "ids": ["x"] * 7})
    results.write_predictions_csv(tmp_path / "p.csv", plain)
    data = (tmp_path / "p.csv").read_bytes()
    assert b"\r" not in data
    assert data.count(b"\n") == 7


def test_predictions_h5_holds_probabilities_rows_ids_and_provenance(tmp_path, result):
    write(tmp_path / "s", result)
    with h5py.File(tmp_path / "s/predictions.h5") as file:
        assert file["probabilities"].dtype == np.float32
        np.testing.assert_allclose(file["probabilities"][:].sum(axis=1), 1, rtol=1e-6)
        np.testing.assert_array_equal(file["logits"][:], result.logits)
        assert file["rows"][:].tolist() == [0, 1, 3, 4, 5, 6]
        assert file["ids"].asstr()[:].tolist() == [NASTY[row] for row in (0, 1, 3, 4, 5, 6)]
        assert list(file.attrs["classes"]) == list(CODES)
        assert file.attrs["bundle_sha256"] == "b" * 64


def test_the_same_result_gives_the_same_bytes(tmp_path, result):
    write(tmp_path / "one", result)
    time.sleep(1.1)  # HDF5 stamps with whole seconds, and takes them from no clock of Python's
    write(tmp_path / "two", result)
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_summary_gets_the_hashes_of_the_finished_files(tmp_path, result):
    seen = {}
    write(tmp_path / "s", result, lambda files: seen.update(files) or "{}")
    assert seen == {name: hash_file(tmp_path / "s" / name) for name in FILES[:3]}


def test_nothing_classified_is_a_result_too(tmp_path, result):
    lost = tuple(QuarantinedRow(row, "bad") for row in range(7))
    empty = Classification(
        np.empty(0, np.int64), np.empty((0, 21), np.float32), lost, NASTY, None, 0.5
    )
    write(tmp_path / "s", empty)
    assert read_rows(tmp_path / "s/predictions.csv") == []
    with h5py.File(tmp_path / "s/predictions.h5") as file:
        assert file["probabilities"].shape == (0, 21)


def test_nothing_is_left_where_writing_stops_half_way(tmp_path, result, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results, "write_quarantine_csv", full_disk)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "out/deep/s", result)
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from cytodino_batch.classification import Classification
from cytodino_batch.results import write_results

n, limit = 40_000, int(sys.argv[2])
logits = np.random.default_rng(1).normal(0, 3, (n, 21)).astype(np.float32)
result = Classification(np.arange(n), logits, (), [str(row) for row in range(n)], None, 0.5)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # predictions.csv has 1.5 MB
try:
    write_results(Path(sys.argv[1]), result, attributes={}, summarise=lambda files: "{}")
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the length of files")
@pytest.mark.parametrize("limit", [1_700_000, 4_000_000, 7_000_000, 7_900_000])
def test_a_disk_that_fills_up_in_hdf5_does_not_end_the_night(tmp_path, limit):
    # HDF5 cannot close a file that it could not write, and crashes the process when that ends.
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "s"), str(limit)],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "File too large\n", "")
    assert list(tmp_path.iterdir()) == []


def test_the_files_of_a_run_that_was_faster_stay(tmp_path, result, monkeypatch):
    own = os.getpid()

    def be_overtaken(files):
        monkeypatch.setattr(os, "getpid", lambda: own + 1)
        write(tmp_path / "s", result, lambda _: "the faster one\n")
        return "{}\n"

    with pytest.raises(InputError, match="another run finished"):
        write(tmp_path / "s", result, be_overtaken)
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == FILES
    assert (tmp_path / "s/summary.json").read_text() == "the faster one\n"


def test_ids_that_no_file_can_hold_are_escaped(tmp_path, result):
    ids = ["a\0b", "\udcff", *NASTY[2:]]
    write(tmp_path / "s", dataclasses.replace(result, ids=ids))
    told = [row["id"] for row in read_rows(tmp_path / "s/predictions.csv")]
    assert told[:2] == [r"a\x00b", r"\udcff"]
    with h5py.File(tmp_path / "s/predictions.h5") as file:
        assert [value.decode() for value in file["ids"][:2]] == told[:2]


@pytest.mark.parametrize("stop_at", range(4))
def test_nothing_is_left_where_an_interrupt_comes_between_the_renames(
    tmp_path, result, monkeypatch, stop_at
):
    calls = []

    def replace(source, target, _replace=os.replace):
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        calls.append(target)
        _replace(source, target)

    monkeypatch.setattr(os, "replace", replace)
    (tmp_path / "other.txt").touch()
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "s", result)
    assert [path.name for path in tmp_path.iterdir()] == ["other.txt"]


def test_the_summary_is_moved_last(tmp_path, result, monkeypatch):
    moved = []

    def replace(source, target, _replace=os.replace):
        moved.append(target.name)
        _replace(source, target)

    monkeypatch.setattr(os, "replace", replace)
    write(tmp_path / "s", result)
    assert moved == FILES
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == FILES


def test_the_parts_that_are_written_at_once_change_nothing(tmp_path, result, monkeypatch):
    write(tmp_path / "whole", result)
    monkeypatch.setattr(classification, "ROWS_AT_ONCE", 4)
    again = dataclasses.replace(result)
    write(tmp_path / "parts", again)
    for name in ("predictions.csv", "quarantine.csv"):
        whole = (tmp_path / "whole" / name).read_bytes()
        assert (tmp_path / "parts" / name).read_bytes() == whole
    with (
        h5py.File(tmp_path / "whole/predictions.h5") as whole,
        h5py.File(tmp_path / "parts/predictions.h5") as parts,
    ):
        for name in ("probabilities", "logits", "rows", "ids"):
            assert whole[name][:].tolist() == parts[name][:].tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_coordinates_print_as_they_were_stored(tmp_path, result, dtype):
    coords = (np.arange(14).reshape(7, 2) * 1.1).astype(dtype)
    results.write_predictions_csv(tmp_path / "p.csv", dataclasses.replace(result, coords=coords))
    rows = read_rows(tmp_path / "p.csv")
    assert [row["x"] for row in rows] == [str(coords[number, 0]) for number in result.rows]


def test_an_id_that_a_spreadsheet_would_compute_comes_back_as_it_was(tmp_path, result):
    ids = ["=1+1", "+2", "@cell", "-3", *NASTY[4:]]
    results.write_predictions_csv(tmp_path / "p.csv", dataclasses.replace(result, ids=ids))
    assert [row["id"] for row in read_rows(tmp_path / "p.csv")][:3] == ["=1+1", "+2", "-3"]


def test_a_damaged_probability_is_an_error_and_no_number(tmp_path, result):
    results.write_predictions_h5(tmp_path / "p.h5", result, {})
    with h5py.File(tmp_path / "p.h5") as file:
        offset = file["probabilities"].id.get_chunk_info(0).byte_offset
    data = bytearray((tmp_path / "p.h5").read_bytes())
    data[offset + 1] ^= 1
    (tmp_path / "p.h5").write_bytes(data)
    with h5py.File(tmp_path / "p.h5") as file, pytest.raises(OSError):
        file["probabilities"][:]


def test_a_further_file_is_written_with_the_others(tmp_path, result):
    seen = {}
    write_results(
        tmp_path / "s",
        result,
        attributes={"of": "it"},
        summarise=lambda files: seen.update(files) or "{}",
        extras={"predictions.parquet": lambda path, *given: path.write_text(str(given))},
    )
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == sorted(
        [*FILES, "predictions.parquet"]
    )
    assert (tmp_path / "s/predictions.parquet").read_text() == str((result, {"of": "it"}))
    assert seen["predictions.parquet"] == hash_file(tmp_path / "s/predictions.parquet")


def test_what_a_torn_finish_left_is_replaced_or_removed(tmp_path, result):
    write(tmp_path / "whole", result)
    torn = tmp_path / "torn"
    torn.mkdir()
    for name in ("predictions.csv", "predictions.h5", "predictions.parquet", "review.png"):
        (torn / name).write_text("of a run that was killed between the renames")
    write(torn, result)
    assert sorted(path.name for path in torn.iterdir()) == FILES
    for name in FILES:
        assert (torn / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
