import numpy as np
import pytest

from cytodino.archive import open_archive
from cytodino.errors import ParityError
from cytodino.limits import LIMITS
from cytodino_batch.live import draw_sample, judge_rows, require_agreement
from cytodino_batch.stream import classify_rows

from .conftest import PixelEngine, write_crops


@pytest.fixture
def archive(tmp_path, crops):
    with open_archive(write_crops(tmp_path / "a.h5", crops, damaged=[3, 60])) as opened:
        yield opened


def sample_of(archive, size=40, within=None):
    return draw_sample(archive, PixelEngine(), size=size, within=within or (0, archive.n))


def judge(archive, samples, blocks):
    rows = np.concatenate([block.rows for block in blocks])
    logits = np.concatenate([block.logits for block in blocks])
    return judge_rows(samples, rows, logits, LIMITS["fp32"], PixelEngine().describe())


def agree(sample, crops, engine):
    require_agreement(sample, crops, engine, batch_size=8, limits=LIMITS["fp32"])


def test_the_sample_is_the_same_every_time_and_spread_over_the_archive(archive):
    (one, _), (two, _) = sample_of(archive), sample_of(archive)
    assert one.rows.tolist() == two.rows.tolist() == sorted(set(one.rows.tolist()))
    assert one.rows.min() < 30
    assert one.rows.max() > 120


def test_a_sample_larger_than_the_archive_is_all_of_its_readable_rows(archive):
    sample, crops = sample_of(archive, 10_000)
    assert sample.rows.tolist() == [row for row in range(150) if row not in (3, 60)]
    assert len(crops) == 148


def test_shards_share_out_one_sample(archive):
    whole, _ = sample_of(archive)
    parts = [sample_of(archive, within=span)[0] for span in ((0, 64), (64, 128), (128, 150))]
    assert np.concatenate([part.rows for part in parts]).tolist() == whole.rows.tolist()
    np.testing.assert_array_equal(np.concatenate([part.logits for part in parts]), whole.logits)


def test_an_engine_that_agrees_passes_before_and_after(archive):
    (sample, crops), engine = sample_of(archive), PixelEngine()
    agree(sample, crops, engine)
    report = judge(archive, [sample], list(classify_rows(archive, engine, batch_size=8)))
    assert report.n == len(sample.rows)
    assert report.logit_max == 0
    assert report.verdict == "unproven"  # 40 cells are too few to prove anything


def test_an_engine_that_strays_is_refused_before_the_first_crop(archive):
    with pytest.raises(ParityError, match=r"onnxruntime fp32 strays from PyTorch on \d+ of the"):
        agree(*sample_of(archive), PixelEngine(shift=0.5))


def test_what_is_about_to_be_written_is_judged_row_by_row(archive):
    (sample, _), engine = sample_of(archive), PixelEngine()
    blocks = list(classify_rows(archive, engine, batch_size=8))
    row = int(sample.rows[5])
    block = next(block for block in blocks if block.start <= row < block.stop)
    block.logits[np.searchsorted(block.rows, row)] += np.linspace(0, 1, 21, dtype=np.float32)
    with pytest.raises(ParityError, match="strays"):
        judge(archive, [sample], blocks)


def test_a_row_that_pytorch_reads_and_the_engine_does_not_is_refused(archive):
    (sample, _), engine = sample_of(archive), PixelEngine()
    blocks = list(classify_rows(archive, engine, batch_size=8))
    lost = [block for block in blocks if not block.start <= sample.rows[0] < block.stop]
    with pytest.raises(ParityError, match=f"gave nothing for row {sample.rows[0]}"):
        judge(archive, [sample], lost)


def test_a_sample_of_damaged_rows_alone_is_refused(tmp_path, crops):
    path = write_crops(tmp_path / "b.h5", crops[:4], damaged=[0, 1, 2])
    with open_archive(path) as archive:
        sample, _ = sample_of(archive, within=(0, 3))
        blocks = list(classify_rows(archive, PixelEngine(), batch_size=8))
        with pytest.raises(ParityError, match="no row of the parity sample can be read"):
            judge(archive, [sample], blocks)
