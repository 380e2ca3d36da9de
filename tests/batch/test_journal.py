import os
from datetime import UTC, datetime

import numpy as np
import pytest

from cytodino.engines.base import EngineDescription
from cytodino.errors import InputError
from cytodino_batch import journal as journal_module
from cytodino_batch.header import Header
from cytodino_batch.journal import Journal, read_header, read_journal
from cytodino_batch.records import Digest, Sample
from cytodino_batch.stream import Block, QuarantinedRow
from cytodino_batch.summary import ArchiveSection, ParitySection, Provenance

ROWS = 40


def header(**changes):
    engine = EngineDescription(
        engine="onnxruntime", variant="fp32", device="cpu", provider="CPU", version="1", options={}
    )
    settings = {
        "archive": ArchiveSection(
            name="s",
            sha256="a",
            layout="raw",
            dataset="crops",
            rows=ROWS,
            slide="S",
            channel_order="rgb",
            checksums=True,
            notes=(),
        ),
        "parity": ParitySection(mode="off", statement="nothing"),
        "provenance": Provenance(
            bundle_sha256="b",
            engine=engine,
            batch_size=4,
            batch_size_chosen="user",
            rows_a_block=10,
            review_below=0.5,
            parity_sample=None,
            reference_sha256=None,
            versions={},
        ),
        "live_limits": None,
        "extras": (),
        "start": 0,
        "stop": ROWS,
        "started": datetime(2025, 1, 1, tzinfo=UTC),
        "archive_path": "s.h5",
        "bundle_path": "bundle",
    }
    return Header(**(settings | changes))


def block(start, *, lost=(), coords=True):
    rows = np.array([row for row in range(start, start + 10) if row not in lost], dtype=np.int64)
    logits = np.random.default_rng(start).normal(size=(len(rows), 21)).astype(np.float32)
    where = np.arange(20, dtype=np.float32).reshape(10, 2) / 7 + start if coords else None
    ids = tuple(f"zelle ä {row}\n\udcff" for row in range(start, start + 10))
    gone = tuple(QuarantinedRow(row, f"broken, {row}") for row in lost)
    return Block(start, start + 10, rows, logits, gone, ids, where)


@pytest.fixture
def written(tmp_path):
    """A journal of four blocks."""
    path = tmp_path / "w.journal"
    with Journal.begin(path, header()) as journal:
        for start in range(0, ROWS, 10):
            journal.append(block(start, lost=(start + 1,)))
        journal.flush()
    return path


def same(found, expected):
    assert (found.start, found.stop) == (expected.start, expected.stop)
    assert tuple(found.ids) == expected.ids
    assert found.quarantined == expected.quarantined
    for one, two in ((found.rows, expected.rows), (found.logits, expected.logits)):
        np.testing.assert_array_equal(one, two)
        assert one.dtype == two.dtype
    if expected.coords is None:
        assert found.coords is None
    else:
        np.testing.assert_array_equal(found.coords, expected.coords)
        assert found.coords.dtype == expected.coords.dtype


def test_what_was_appended_is_read_back(written):
    contents = read_journal(written)
    assert contents.header == read_header(written) == header()
    assert (contents.reached, contents.complete, contents.dropped) == (ROWS, True, 0)
    assert (contents.tally.classified, contents.tally.quarantined) == (36, 4)
    for found, start in zip(contents.blocks(), range(0, ROWS, 10), strict=True):
        same(found, block(start, lost=(start + 1,)))


@pytest.mark.parametrize("lost", [(), tuple(range(10))], ids=["none lost", "all lost"])
def test_blocks_of_every_kind_are_read_back(tmp_path, lost):
    with Journal.begin(tmp_path / "j", header()) as journal:
        journal.append(block(0, lost=lost, coords=False))
    (found,) = read_journal(tmp_path / "j").blocks()
    same(found, block(0, lost=lost, coords=False))


@pytest.mark.parametrize("size", [0, 1, 5])
def test_a_sample_is_read_back_wherever_it_was_appended(tmp_path, size):
    logits = np.random.default_rng(0).normal(size=(size, 21)).astype(np.float32)
    with Journal.begin(tmp_path / "j", header()) as journal:
        journal.append(block(0))
        journal.append(Sample(np.arange(size), logits))
        journal.append(block(10))
    contents = read_journal(tmp_path / "j")
    assert contents.reached == 20
    assert contents.sample.rows.tolist() == list(range(size))
    np.testing.assert_array_equal(contents.sample.logits, logits)


def test_the_archives_hash_may_come_late_and_nothing_is_whole_without(tmp_path):
    with Journal.begin(tmp_path / "j", header().with_digest("")) as journal:
        for start in range(0, ROWS, 10):
            journal.append(block(start))
            if start == 20:
                journal.flush()
                assert read_journal(tmp_path / "j").header.archive.sha256 == ""
        journal.flush()
        assert not read_journal(tmp_path / "j").complete
        journal.append(Digest("abc"))
    contents = read_journal(tmp_path / "j")
    assert contents.complete
    assert contents.header == header().with_digest("abc")


def test_blocks_that_are_damaged_after_they_were_counted_are_an_error(written):
    contents = read_journal(written)
    data = bytearray(written.read_bytes())
    data[-5] ^= 1
    written.write_bytes(data)
    with pytest.raises(InputError, match="was damaged while it was read, at row 30"):
        list(contents.blocks())


def test_cut_anywhere_the_whole_records_before_the_cut_are_kept(written, tmp_path):
    data = written.read_bytes()
    ends = [read_journal(written).size]
    seen = set()
    for length in range(0, len(data), 97):
        (tmp_path / "cut").write_bytes(data[:length])
        contents = read_journal(tmp_path / "cut")
        if contents is None:
            continue
        assert contents.size + contents.dropped == length
        assert contents.size <= ends[0]
        seen.add(contents.reached)
        for found, start in zip(contents.blocks(), range(0, ROWS, 10), strict=False):
            same(found, block(start, lost=(start + 1,)))
    assert seen == {0, 10, 20, 30}


def test_a_flipped_bit_ends_the_journal_before_its_record(written, tmp_path):
    data = bytearray(written.read_bytes())
    for position in np.random.default_rng(1).choice(len(data), 60, replace=False):
        broken = bytearray(data)
        broken[position] ^= 1 << int(position) % 8
        (tmp_path / "flipped").write_bytes(broken)
        contents = read_journal(tmp_path / "flipped")
        assert contents is None or contents.size <= position
        for found, start in zip(
            () if contents is None else contents.blocks(), range(0, ROWS, 10), strict=False
        ):
            same(found, block(start, lost=(start + 1,)))


def test_zeros_behind_the_end_are_no_records(written):
    size = written.stat().st_size
    with written.open("ab") as file:
        file.write(bytes(4096))
    contents = read_journal(written)
    assert (contents.size, contents.dropped) == (size, 4096)


def test_going_on_cuts_what_is_torn_and_follows_the_last_whole_record(written, tmp_path):
    data = written.read_bytes()
    (tmp_path / "torn").write_bytes(data[:-5])
    contents = read_journal(tmp_path / "torn")
    assert contents.reached == 30
    with Journal(tmp_path / "torn", contents.size) as journal:
        journal.append(block(30, lost=(31,)))
    assert (tmp_path / "torn").read_bytes() == data


def test_a_block_out_of_its_place_is_not_believed(tmp_path):
    with Journal.begin(tmp_path / "j", header()) as journal:
        journal.append(block(0))
        journal.append(block(20))
        journal.append(block(10))
    assert read_journal(tmp_path / "j").reached == 10


@pytest.mark.parametrize("data", [b"", b"text", b"cytodino journal 1\n", b"cytodino journal 9\n"])
def test_what_is_no_journal_is_none(tmp_path, data):
    (tmp_path / "j").write_bytes(data)
    assert read_journal(tmp_path / "j") is None
    assert read_header(tmp_path / "j") is None


def test_no_file_no_journal(tmp_path):
    assert read_journal(tmp_path / "j") is None


def test_a_disk_that_refuses_leaves_whole_records_alone(tmp_path, monkeypatch):
    path = tmp_path / "j"
    with Journal.begin(path, header()) as journal:
        journal.append(block(0))
        journal.flush()
        whole = path.read_bytes()

        def refuse(file, data):
            os.pwrite(file, bytes(data)[:100], len(whole))
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(journal_module, "_write", refuse)
            journal.append(block(10))
            with pytest.raises(OSError, match="No space left"):
                journal.flush()
        journal.append(block(20))  # there is room again, but its forerunner is missing
    assert path.read_bytes() == whole


def test_records_reach_the_disk_within_about_a_second(tmp_path, monkeypatch):
    now, synced = [0.0], []
    monkeypatch.setattr(journal_module.time, "monotonic", lambda: now[0])
    with Journal.begin(tmp_path / "j", header()) as journal:
        monkeypatch.setattr(journal_module.os, "fsync", lambda _: synced.append(now[0]))
        for start, at in ((0, 0.1), (10, 1.1), (20, 1.2)):
            now[0] = at
            journal.append(block(start))
            journal._waiting[-1].result()
    assert synced == [1.1, 1.2]  # the last one on closing
