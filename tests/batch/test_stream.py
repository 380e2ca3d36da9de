import threading

import numpy as np
import pytest

from cytodino.archive import open_archive
from cytodino.errors import ArchiveError
from cytodino.images import MAX_SIDE
from cytodino_batch.batch_size import CANDIDATES
from cytodino_batch.stream import NOT_FINITE, classify_rows, rows_a_block

from .conftest import PixelEngine, write_crops


def classify(path, engine, batch_size=4, progress=None):
    with open_archive(path) as archive:
        return list(classify_rows(archive, engine, batch_size=batch_size, progress=progress))


def one_by_one(crops):
    engine = PixelEngine()
    return np.concatenate([engine.logits(crop[np.newaxis]) for crop in crops])


@pytest.mark.parametrize("batch_size", [1, 4, 7, 64])
def test_results_are_those_of_a_plain_loop_in_row_order(tmp_path, crops, batch_size):
    blocks = classify(write_crops(tmp_path / "a.h5", crops), PixelEngine(), batch_size)
    assert np.concatenate([block.rows for block in blocks]).tolist() == list(range(150))
    np.testing.assert_array_equal(
        np.concatenate([block.logits for block in blocks]), one_by_one(crops)
    )


def test_blocks_of_the_largest_crops_fit_into_memory():
    # Black pixels take next to nothing in the file, so nothing else bounds what it asks for.
    for device, most in (("cpu", 1 << 30), ("cuda", 2 << 30)):
        for batch_size in CANDIDATES[device]:
            assert rows_a_block(batch_size) * MAX_SIDE * MAX_SIDE * 3 <= most


def test_crops_of_one_size_share_their_batches(tmp_path, crops):
    engine = PixelEngine()
    classify(write_crops(tmp_path / "a.h5", crops), engine)
    assert {shape[1:3] for shape in engine.batches} == {(12, 12), (16, 10), (9, 20)}
    full = [shape for shape in engine.batches if shape[0] == 4]
    # Three blocks of three sizes leave nine batches that may be short.
    assert len(engine.batches) - len(full) <= 9
    assert sum(shape[0] for shape in engine.batches) == 150


@pytest.mark.parametrize(
    ("batch_size", "rows"), [(1, 64), (8, 64), (7, 70), (64, 512), (256, 512), (1000, 1000)]
)
def test_a_block_is_a_multiple_of_the_batch(batch_size, rows):
    assert rows_a_block(batch_size) == rows


def test_damaged_rows_are_quarantined_and_the_others_go_on(tmp_path, crops):
    crops[70] = np.full((12, 12, 3), 255, np.uint8)  # the engine answers this one with NaN
    path = write_crops(tmp_path / "a.h5", crops, damaged=[0, 64, 100, 149])
    blocks = classify(path, PixelEngine())
    lost = {row.row: row.reason for block in blocks for row in block.quarantined}
    assert list(lost) == [0, 64, 70, 100, 149]
    assert "checksum" in lost[64]
    assert lost[70] == NOT_FINITE
    kept = [row for row in range(150) if row not in lost]
    assert np.concatenate([block.rows for block in blocks]).tolist() == kept
    np.testing.assert_array_equal(
        np.concatenate([block.logits for block in blocks]),
        one_by_one([crops[row] for row in kept]),
    )


def test_a_block_with_no_readable_row_asks_the_engine_nothing(tmp_path, crops):
    engine = PixelEngine()
    (block,) = classify(write_crops(tmp_path / "a.h5", crops[:3], damaged=[0, 1, 2]), engine)
    assert block.logits.shape == (0, 21)
    assert [row.row for row in block.quarantined] == [0, 1, 2]
    assert engine.batches == []


def test_progress_counts_every_row_once(tmp_path, crops):
    steps: list[int] = []
    classify(write_crops(tmp_path / "a.h5", crops, damaged=[5]), PixelEngine(), 4, steps.append)
    assert sum(steps) == 150


def test_blocks_do_not_depend_on_one_another(tmp_path, crops):
    whole = classify(write_crops(tmp_path / "a.h5", crops), PixelEngine())
    tail = classify(write_crops(tmp_path / "b.h5", crops[64:]), PixelEngine())
    np.testing.assert_array_equal(whole[1].logits, tail[0].logits)


class Slices:
    """An archive that records what is read, and by which thread."""

    def __init__(self, n, fail_at=None):
        self.n = n
        self.fail_at = fail_at
        self.reads: list[tuple[int, int]] = []
        self.threads: set[str] = set()

    def read(self, start, stop):
        self.reads.append((start, stop))
        self.threads.add(threading.current_thread().name)
        if start == self.fail_at:
            raise ArchiveError("is gone")
        return [np.zeros((4, 4, 3), np.uint8)] * (stop - start)


def test_one_block_is_read_ahead_and_no_more():
    archive = Slices(640)
    blocks = classify_rows(archive, PixelEngine(), batch_size=8)
    next(blocks)
    next(blocks)
    blocks.close()
    assert archive.reads == [(0, 64), (64, 128), (128, 192)]
    assert archive.threads == {"reader_0"}


def test_an_archive_that_vanishes_is_an_error():
    with pytest.raises(ArchiveError, match="is gone"):
        list(classify_rows(Slices(640, fail_at=128), PixelEngine(), batch_size=8))


def test_no_rows_no_blocks():
    assert list(classify_rows(Slices(0), PixelEngine(), batch_size=8)) == []
