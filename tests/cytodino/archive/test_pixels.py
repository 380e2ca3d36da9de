"""Whatever the storage: to the bit what h5py gives, and a fault costs its own rows only."""

import zlib
from concurrent.futures import ThreadPoolExecutor

import h5py
import hdf5plugin
import numpy as np
import pytest

from cytodino.archive import pixels as pixels_module
from cytodino.archive.pixels import PixelRows
from cytodino.errors import CropError

N = 11
ROW = (12, 10, 3)
GZIP = {"compression": "gzip"}
PIPELINES = {
    "none": {},
    "gzip": GZIP,
    "gzip, shuffle": {**GZIP, "shuffle": True},
    "fletcher32": {"fletcher32": True},
    "gzip, shuffle, fletcher32": {**GZIP, "shuffle": True, "fletcher32": True},
    "lz4": dict(hdf5plugin.LZ4()),
    "lz4 in blocks": dict(hdf5plugin.LZ4(nbytes=100)),
    "zstd": dict(hdf5plugin.Zstd(clevel=3)),
    "zstd, fletcher32": {**hdf5plugin.Zstd(clevel=3), "fletcher32": True},
    "shuffle": {"shuffle": True},
    "lzf": {"compression": "lzf"},
    "blosc": dict(hdf5plugin.Blosc(cname="lz4", shuffle=hdf5plugin.Blosc.BITSHUFFLE)),
    "bitshuffle": dict(hdf5plugin.Bitshuffle()),
}
CHUNKS = {
    "a row": (1, *ROW),
    "rows": (4, *ROW),
    "parts of a row": (1, 5, 4, 3),
    "planes of rows": (3, 12, 10, 1),
    "parts of rows": (4, 8, 8, 2),
    "all": (N, *ROW),
}
DIRECT = [name for name in PIPELINES if name.startswith(("gzip", "lz4", "zstd"))]


def draw(dtype=np.uint8, n=N, row=ROW):
    """Return smooth rows with one of noise, which no filter can make shorter."""
    rng = np.random.default_rng(0)
    values = np.add.outer(np.arange(n), np.arange(np.prod(row)) // 7).reshape(n, *row) % 251
    values[5] = rng.integers(0, 256, row)
    return values.astype(dtype)


def write(path, values, chunks, **options):
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        file.create_dataset("x", data=values, chunks=chunks, **options)
    return path


def identity(pixels, row):
    return pixels


class Reader:
    """A file's rows, opened; read with or without threads."""

    def __init__(self, path, threads=0):
        self.file = h5py.File(path)
        self.rows = PixelRows(self.file["x"], path)
        self.pool = ThreadPoolExecutor(threads) if threads else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.pool is not None:
            self.pool.shutdown()
        self.file.close()

    def read(self, start, stop, finish=identity):
        return self.rows.read(start, stop, self.pool, finish)


def lost(rows):
    return [row for row, crop in enumerate(rows) if isinstance(crop, CropError)]


def damage(path, old, new):
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


def stored_chunk(path, offset):
    with h5py.File(path) as file:
        return file["x"].id.read_direct_chunk(offset)[1]


class TestSameAsHdf5:
    @pytest.mark.parametrize("chunks", CHUNKS)
    @pytest.mark.parametrize("pipeline", PIPELINES)
    def test_every_pipeline_chunk_and_range(self, tmp_path, pipeline, chunks):
        values = draw()
        path = write(tmp_path / "a.h5", values, CHUNKS[chunks], **PIPELINES[pipeline])
        rng = np.random.default_rng(1)
        ranges = [(0, N), (N - 1, N), (0, 1), *np.sort(rng.integers(0, N + 1, (12, 2)))]
        for threads in (0, 2):
            with Reader(path, threads) as opened:
                assert ("directly" in opened.rows.how) == (pipeline in DIRECT)
                for start, stop in ranges:
                    rows = opened.read(int(start), int(stop))
                    assert len(rows) == stop - start
                    for row, pixels in enumerate(rows, start=start):
                        np.testing.assert_array_equal(pixels, values[row])
                        assert pixels.dtype == values.dtype
                        assert pixels.flags.writeable
                        pixels[...] = 0  # what is kept must not be what is handed out

    @pytest.mark.parametrize("pipeline", PIPELINES)
    @pytest.mark.parametrize("dtype", ["<u2", ">u2", "<f4", "<i8", "f2"])
    def test_other_types(self, tmp_path, dtype, pipeline):
        values = draw(dtype)
        for chunks in ((1, *ROW), (4, 8, 8, 2)):
            path = write(tmp_path / "a.h5", values, chunks, **PIPELINES[pipeline])
            with Reader(path, 2) as opened:
                for row, pixels in enumerate(opened.read(0, N)):
                    np.testing.assert_array_equal(pixels, values[row])
                    assert pixels.dtype == values.dtype

    def test_contiguous(self, tmp_path):
        values = draw()
        with Reader(write(tmp_path / "a.h5", values, None), 2) as opened:
            assert "HDF5" in opened.rows.how
            np.testing.assert_array_equal(np.stack(opened.read(2, 9)), values[2:9])

    def test_odd_lengths_of_checksummed_chunks(self, tmp_path):
        values = draw(row=(3, 5, 3))
        path = write(tmp_path / "a.h5", values, (1, 3, 5, 3), fletcher32=True)
        with Reader(path) as opened:
            np.testing.assert_array_equal(np.stack(opened.read(0, N)), values)

    def test_types_that_are_not_stored_as_numpy_holds_them_go_through_hdf5(self, tmp_path):
        kind = h5py.h5t.STD_U16LE.copy()
        kind.set_precision(12)
        with h5py.File(tmp_path / "a.h5", "w") as file:
            properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            properties.set_chunk((1, *ROW))
            space = h5py.h5s.create_simple((N, *ROW))
            h5py.h5d.create(file.id, b"x", kind, space, properties)
            file["x"][...] = draw(np.uint16)
        with Reader(tmp_path / "a.h5") as opened:
            assert "HDF5" in opened.rows.how
            np.testing.assert_array_equal(np.stack(opened.read(0, N)), draw(np.uint16))

    def test_of_entries_of_any_length_no_band_is_kept(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            kind = h5py.vlen_dtype(np.uint8)
            dataset = file.create_dataset("x", (N,), kind, chunks=(8,), **GZIP)
            for row in range(N):
                dataset[row] = np.arange(row)
        with Reader(tmp_path / "a.h5", 2) as opened:
            assert "together" not in opened.rows.how
            assert [len(entry) for entry in opened.read(2, 9)] == list(range(2, 9))

    @pytest.mark.parametrize("chunks", [(1, *ROW), (4, *ROW)])
    def test_chunks_that_a_filter_left_out_go_through_hdf5(self, tmp_path, chunks):
        values = draw(n=8)
        path = tmp_path / "a.h5"
        with h5py.File(path, "w") as file:
            dataset = file.create_dataset("x", values.shape, np.uint8, chunks=chunks, **GZIP)
            for start in range(0, 8, chunks[0]):
                block = values[start : start + chunks[0]].tobytes()
                skipped = start == 4  # and its bytes are the pixels themselves
                data = block if skipped else zlib.compress(block)
                dataset.id.write_direct_chunk((start, 0, 0, 0), data, filter_mask=int(skipped))
        with Reader(path, 2) as opened:
            np.testing.assert_array_equal(np.stack(opened.read(0, 8)), values)

    def test_wide_bands_are_not_kept(self, tmp_path, monkeypatch):
        path = write(tmp_path / "a.h5", draw(), (4, *ROW), **GZIP)
        for name in ("MAX_BAND_BYTES", "MAX_BAND_CHUNKS"):
            with monkeypatch.context() as patch:
                patch.setattr(pixels_module, name, 0)
                with Reader(path) as opened:
                    assert "HDF5" in opened.rows.how
                    np.testing.assert_array_equal(np.stack(opened.read(1, 9)), draw()[1:9])

    @pytest.mark.parametrize("chunks", [(1, *ROW), (4, *ROW), None])
    def test_long_ranges_are_read_in_parts(self, tmp_path, chunks, monkeypatch):
        monkeypatch.setattr(pixels_module, "MAX_SLICE_BYTES", 800)
        with Reader(write(tmp_path / "a.h5", draw(), chunks), 2) as opened:
            np.testing.assert_array_equal(np.stack(opened.read(0, N)), draw())

    def test_a_band_may_be_let_go_of_by_another_thread(self, tmp_path, monkeypatch):
        with Reader(write(tmp_path / "a.h5", draw(), (4, *ROW), **GZIP)) as opened:
            opened.read(0, 2)
            lacks = opened.rows._lacks

            def meanwhile(band):
                monkeypatch.setattr(opened.rows, "_lacks", lacks)
                opened.read(9, 10)
                return lacks(band)

            monkeypatch.setattr(opened.rows, "_lacks", meanwhile)
            np.testing.assert_array_equal(np.stack(opened.read(2, 6)), draw()[2:6])

    def test_a_shared_chunk_is_decoded_once(self, tmp_path, monkeypatch):
        path = write(tmp_path / "a.h5", draw(), (4, 8, 8, 2), **GZIP)
        with Reader(path) as opened:
            chunks = opened.rows._chunks
            seen = []
            read = chunks.read
            monkeypatch.setattr(chunks, "read", lambda at: seen.append(at) or read(at))
            for row in range(N):
                opened.read(row, row + 1)
            assert len(seen) == len(set(seen)) == 3 * 2 * 2 * 2


class TestFinish:
    @pytest.mark.parametrize("chunks", [(1, *ROW), (4, *ROW), None])
    def test_it_has_the_last_word_on_each_row(self, tmp_path, chunks):
        def finish(pixels, row):
            return CropError("odd", row=row) if row % 2 else pixels + 1

        with Reader(write(tmp_path / "a.h5", draw(), chunks), 2) as opened:
            rows = opened.read(2, 8, finish)
        assert lost(rows) == [1, 3, 5]
        np.testing.assert_array_equal(rows[2], draw()[4] + 1)


class TestFaults:
    @pytest.mark.parametrize(
        "pipeline", [name for name in PIPELINES if "gzip" in name or "fletcher32" in name]
    )
    @pytest.mark.parametrize(
        ("chunks", "rows"), [((1, *ROW), [4]), ((4, *ROW), [4, 5, 6, 7]), ((1, 6, 10, 3), [4])]
    )
    def test_a_damaged_chunk_costs_its_own_rows(self, tmp_path, pipeline, chunks, rows):
        path = write(tmp_path / "a.h5", draw(), chunks, **PIPELINES[pipeline])
        chunk = stored_chunk(path, (4, 0, 0, 0))
        middle = len(chunk) // 2
        damage(path, chunk, chunk[:middle] + bytes([chunk[middle] ^ 4]) + chunk[middle + 1 :])
        for threads in (0, 2):
            with Reader(path, threads) as opened:
                read = opened.read(0, N)
                assert lost(read) == rows
                for row in rows:
                    assert read[row].reason == "its chunk is damaged"
                    assert (read[row].row, read[row].where) == (row, path)
                for row in set(range(N)).difference(rows):
                    np.testing.assert_array_equal(read[row], draw()[row])

    @pytest.mark.parametrize("pipeline", DIRECT)
    @pytest.mark.parametrize("seed", range(5))
    def test_rubbish_in_place_of_a_chunk(self, tmp_path, pipeline, seed):
        path = write(tmp_path / "a.h5", draw(), (1, *ROW), **PIPELINES[pipeline])
        chunk = stored_chunk(path, (3, 0, 0, 0))
        rubbish = np.random.default_rng(seed).bytes(len(chunk))
        damage(path, chunk, (chunk[: seed * 3] + rubbish)[: len(chunk)])
        with Reader(path, 2) as opened:
            read = opened.read(0, N)
            assert set(lost(read)) <= {3}
            if "lz4" not in pipeline:
                assert lost(read) == [3]

    def test_a_damaged_slice_is_retried_row_by_row(self, tmp_path):
        path = write(tmp_path / "a.h5", draw(), (1, *ROW), **PIPELINES["blosc"])
        chunk = stored_chunk(path, (4, 0, 0, 0))
        damage(path, chunk, b"\x55" * len(chunk))
        with Reader(path) as opened:
            read = opened.read(0, N)
            assert lost(read) == [4]
            np.testing.assert_array_equal(read[5], draw()[5])

    @pytest.mark.parametrize(
        ("pipeline", "data"),
        [
            ("gzip", zlib.compress(bytes(10_000_000))),
            ("gzip", zlib.compress(bytes(359))),
            ("gzip", b""),
            ("zstd", b"\x28\xb5\x2f\xfd\xe0" + (1 << 40).to_bytes(8, "little") + bytes(20)),
            ("zstd", b"\x28\xb5\x2f\xfd"),
            ("lz4", (1 << 40).to_bytes(8, "big") + (1 << 30).to_bytes(4, "big") + bytes(50)),
            ("lz4", (1 << 40).to_bytes(8, "big") + 2 * (360).to_bytes(4, "big") + bytes(360)),
            ("lz4", (360).to_bytes(8, "big") + bytes(4) + bytes(50)),
            ("lz4", (360).to_bytes(8, "big") + (360).to_bytes(4, "big") + b"\xff" * 8),
            ("lz4", (360).to_bytes(8, "big") + (360).to_bytes(4, "big") + b"\0\0"),
            ("lz4", bytes(3)),
            ("gzip, shuffle, fletcher32", b"\0\0"),
            ("gzip", bytes(1_000_000)),
        ],
    )
    def test_chunks_that_are_longer_or_shorter_than_they_should_be(
        self, tmp_path, pipeline, data, monkeypatch
    ):
        path = tmp_path / "a.h5"
        with h5py.File(path, "w") as file:
            options = PIPELINES[pipeline]
            dataset = file.create_dataset("x", (2, *ROW), np.uint8, chunks=(1, *ROW), **options)
            dataset[0] = draw()[0]
            dataset.id.write_direct_chunk((1, 0, 0, 0), data or b"\0")
        with Reader(path) as opened:
            through_hdf5 = []
            monkeypatch.setattr(opened.rows, "_by_hdf5", through_hdf5.append)
            read = opened.read(0, 2)
            assert lost(read) == [1]
            assert not through_hdf5  # which would allocate whatever the data makes it
            np.testing.assert_array_equal(read[0], draw()[0])

    @pytest.mark.parametrize("pipeline", ["none", "gzip", "lzf", "fletcher32"])
    @pytest.mark.parametrize(
        ("chunks", "rows"),
        [((1, *ROW), [4]), ((2, *ROW), [4, 5]), ((2, 5, 4, 3), [4, 5]), ((1, 6, 5, 3), [4])],
    )
    def test_rows_that_were_never_written(self, tmp_path, pipeline, chunks, rows):
        path = tmp_path / "a.h5"
        with h5py.File(path, "w") as file:
            options = PIPELINES[pipeline]
            dataset = file.create_dataset("x", (N, *ROW), np.uint8, chunks=chunks, **options)
            for row in set(range(N)).difference(rows):
                dataset[row] = draw()[row]
            if chunks[1] < 12:
                dataset[4, :5] = 1  # half of it
        with Reader(path, 2) as opened:
            read = opened.read(0, N)
            assert lost(read) == rows
            assert {read[row].reason for row in rows} == {"was never written"}
            np.testing.assert_array_equal(read[6], draw()[6])

    def test_a_chunk_over_the_edge_may_be_stored_without_filters(self, tmp_path):
        # H5Pset_chunk_opts does that, and h5py cannot: the bytes are put there by hand, and HDF5,
        # which knows nothing of it in this file, refuses them.
        path = tmp_path / "a.h5"
        with h5py.File(path, "w") as file:
            dataset = file.create_dataset("x", data=draw(), chunks=(4, *ROW), **GZIP)
            dataset.id.write_direct_chunk((8, 0, 0, 0), draw()[:4].tobytes())
        with Reader(path) as opened:
            asked = []
            by_hdf5 = opened.rows._by_hdf5
            opened.rows._by_hdf5 = lambda *span: asked.append(span) or by_hdf5(*span)
            assert lost(opened.read(0, N)) == [8, 9, 10]
            assert asked == [(8, 11)]
