import csv
import os

import numpy as np
import pyarrow.parquet as pq
import pytest

from cytodino.errors import MissingExtraError
from cytodino.taxonomy import CODES
from cytodino_batch import classification
from cytodino_batch.classification import Classification
from cytodino_batch.parquet import require_parquet, write_predictions_parquet
from cytodino_batch.results import write_predictions_csv


def make(coords=None, n=50) -> Classification:
    logits = np.random.default_rng(3).normal(0, 3, (n, 21)).astype(np.float32)
    rows = np.arange(n, dtype=np.int64) * 2
    ids = [f"=cell,{row}\0" for row in range(2 * n)]
    return Classification(rows, logits, (), ids, coords, 0.5)


def write(path, result):
    write_predictions_parquet(path, result, {"bundle_sha256": "b" * 64})
    return pq.read_table(path)


def test_it_says_what_the_csv_file_says(tmp_path):
    coords = np.arange(200, dtype=np.int32).reshape(100, 2)
    result = make(coords)
    table = write(tmp_path / "p.parquet", result)
    write_predictions_csv(tmp_path / "p.csv", result)
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    rows = table.to_pylist()
    for line, row in zip(lines, rows, strict=True):
        told = {name: row[name] for name in line}
        told |= {"confidence": f"{row['confidence']:.6f}"}
        told |= {name: int(row[name]) for name in ("critical", "review")}
        assert {name: str(value) for name, value in told.items()} == line


def test_it_holds_every_probability_in_single_precision(tmp_path):
    result = make()
    table = write(tmp_path / "p.parquet", result)
    columns = [table.column(f"p_{code}").to_numpy() for code in CODES]
    found = np.stack(columns, axis=1)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, result.probabilities(slice(None)))


@pytest.mark.parametrize("dtype", ["<i4", "<f4", ">f8", ">i2", "<u8"])
def test_coordinates_keep_their_type(tmp_path, dtype):
    coords = np.arange(200).reshape(100, 2).astype(dtype)
    table = write(tmp_path / "p.parquet", make(coords))
    assert table.column("x").to_numpy().dtype == np.dtype(dtype).newbyteorder("=")
    assert table.column("y").to_pylist() == list(range(1, 200, 4))


def test_without_coordinates_x_and_y_are_null(tmp_path):
    table = write(tmp_path / "p.parquet", make())
    assert table.column("x").null_count == table.column("y").null_count == 50


def test_the_same_result_gives_the_same_bytes_and_its_provenance(tmp_path):
    for name in ("one", "two"):
        table = write(tmp_path / name, make())
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert table.schema.metadata[b"bundle_sha256"] == b"b" * 64


def test_parts_follow_each_other(tmp_path, monkeypatch):
    whole = write(tmp_path / "whole", make())
    monkeypatch.setattr(classification, "ROWS_AT_ONCE", 7)
    assert write(tmp_path / "parts", make()).equals(whole)


def test_a_folder_may_be_called_what_is_no_utf8(tmp_path):
    folder = tmp_path / os.fsdecode(b"M\xfcller")
    folder.mkdir()
    write_predictions_parquet(folder / "p.parquet", make(), {})
    with (folder / "p.parquet").open("rb") as file:
        assert pq.read_table(file).num_rows == 50


def test_nothing_classified_is_a_table_without_rows(tmp_path):
    table = write(tmp_path / "p.parquet", make(n=0))
    assert table.num_rows == 0
    assert table.num_columns == 9 + 21


def test_a_missing_library_is_said_with_what_brings_it(monkeypatch):
    monkeypatch.setattr("cytodino_batch.parquet.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"cytodino\[parquet\]"):
        require_parquet()
