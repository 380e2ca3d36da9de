import zlib

import h5py
import hdf5plugin  # noqa: F401 - registers its filters before a test hides one
import numpy as np
import pytest

from cytodino.archive import encoded as encoded_module
from cytodino.archive import open_archive, write_archive
from cytodino.archive.options import ReadOptions
from cytodino.cells import open_cells
from cytodino.errors import CropError

from .changes import edit, flip, refused, replace


def write_bomb(dataset, size):
    """Let the first chunk of a dataset with gzip be `size` random bytes that follow its values."""
    values = bytes(dataset.dtype.itemsize * int(np.prod(dataset.chunks)))
    tail = np.random.default_rng(0).bytes(size)
    dataset.id.write_direct_chunk((0,) * dataset.ndim, zlib.compress(values + tail))


class TestBombs:
    """Chunks that HDF5 itself would decode to more than they are to hold."""

    def test_in_a_table(self, images, tmp_path):
        path = tmp_path / "a.h5"
        write_archive(path, open_cells(images), encoding="raw")
        coords = np.arange(14).reshape(7, 2)
        replace(path, "coords", coords, chunks=(7, 2), compression="gzip")
        with open_archive(path) as opened:
            assert np.array_equal(opened.coords, coords)
        with h5py.File(path, "r+") as file:
            write_bomb(file["coords"], 1 << 20)
        refused(path, "/coords has a chunk of 1[0-9]{6} bytes that should hold 112; copy or write")

    def test_in_pixels_that_go_through_hdf5(self, tmp_path):
        path = tmp_path / "a.h5"
        crops = np.ones((2, 100, 100, 3), np.uint8)
        options = {"chunks": (1, 2, 2, 3), "compression": "gzip"}
        with h5py.File(path, "w") as file:
            file.create_dataset("imgs", data=crops, **options)
        with open_archive(path, options=ReadOptions(channel_order="rgb")) as opened:
            assert "through HDF5" in opened.how
            assert np.array_equal(opened.read(0, 2), crops)
        with h5py.File(path, "r+") as file:
            write_bomb(file["imgs"], 1 << 20)
        refused(path, "/imgs has a chunk of 1[0-9]{6} bytes that should hold 12")

    def test_random_bytes_that_a_filter_makes_longer_are_none(self, tmp_path):
        path = tmp_path / "a.h5"
        crops = np.random.default_rng(0).integers(0, 256, (2, 100, 100, 3), dtype=np.uint8)
        with h5py.File(path, "w") as file:
            file.create_dataset("imgs", data=crops, chunks=(1, 2, 2, 3), compression="gzip")
            assert file["imgs"].id.get_chunk_info(0).size > 12
        with open_archive(path, options=ReadOptions(channel_order="rgb")) as opened:
            assert np.array_equal(opened.read(0, 2), crops)


class TestRefusedBytes:
    @pytest.fixture
    def encoding(self):
        return "jpeg"

    @pytest.mark.parametrize("data", [np.zeros((7, 4), np.uint8), np.zeros(7, np.int16)])
    def test_bytes_of_another_kind(self, archive, data):
        replace(archive, "bytes", data)
        refused(archive, "/bytes is")

    @pytest.mark.parametrize("data", [None, np.zeros(8), np.zeros((8, 1), np.uint64)])
    def test_offsets_of_another_kind(self, archive, data):
        replace(archive, "offsets", data)
        refused(archive, "no /offsets")

    def test_offsets_beyond_the_end(self, archive):
        edit(archive, "offsets", lambda values: values.__setitem__(7, values[7] + 1))
        refused(archive, "points outside")

    def test_offsets_that_wrap_around(self, archive):
        edit(archive, "offsets", lambda values: values.__setitem__(3, 2**64 - 5))
        refused(archive, "points outside")

    def test_negative_offsets(self, archive):
        with h5py.File(archive) as file:
            offsets = file["offsets"][:].astype(np.int64)
        offsets[0] = -1
        replace(archive, "offsets", offsets)
        refused(archive, "points outside")

    def test_offsets_that_go_backwards(self, archive):
        edit(archive, "offsets", lambda values: values.__setitem__(3, values[2] - 1))
        refused(archive, "goes backwards")

    def test_offsets_of_no_crop(self, archive):
        replace(archive, "offsets", np.zeros(0, dtype=np.uint64))
        refused(archive, "holds no crop")

    def test_rows_of_no_bytes_are_damaged_rows(self, archive):
        edit(archive, "offsets", lambda values: values.__setitem__(3, values[2]))
        with open_archive(archive) as opened:
            rows = opened.read(0, 7)
            assert [isinstance(row, CropError) for row in rows] == [False] * 2 + [True] * 2 + [
                False
            ] * 3

    def test_rows_too_long_to_be_a_crop(self, archive, monkeypatch):
        monkeypatch.setattr(encoded_module, "MAX_ENCODED_BYTES", 100)
        monkeypatch.setattr(encoded_module, "MAX_SLICE_BYTES", 200)
        with open_archive(archive) as opened:
            assert all("bytes long" in row.reason for row in opened.read(0, 7))

    def test_bytes_whose_checksum_was_made_to_fit_are_still_decoded_with_care(self, archive):
        with h5py.File(archive, "r+") as file:
            offsets = file["offsets"][:]
            begin, end = int(offsets[2]), int(offsets[3])
            file["bytes"][begin:end] = 7
            sums = file["crc32"][:]
            sums[2] = zlib.crc32(bytes([7]) * (end - begin))
            file["crc32"][...] = sums
        with open_archive(archive) as opened:
            fault = opened.read(2, 3)[0]
            assert (fault.reason, fault.row, fault.where) == (
                "is no JPEG, PNG, TIFF or BMP image",
                2,
                archive,
            )

    def test_bytes_in_damaged_chunks_lose_only_their_rows(self, archive, images):
        with h5py.File(archive) as file:
            data = file["bytes"][:]
        replace(archive, "bytes", data, chunks=(64,), fletcher32=True)
        cells = open_cells(images)
        with h5py.File(archive) as file:
            begin = int(file["offsets"][3])
        middle = (begin // 64 + 2) * 64  # of the third chunk that holds part of row 3
        flip(archive, data[middle : middle + 64].tobytes())
        with open_archive(archive) as opened:
            rows = opened.read(0, 7)
            assert isinstance(rows[3], CropError)
            lost = [row for row, crop in enumerate(rows) if isinstance(crop, CropError)]
            assert set(lost) <= {2, 3, 4}
            with pytest.raises(CropError, match="cannot be read"):
                opened.encoded(3)
            for row in set(range(7)).difference(lost):
                np.testing.assert_array_equal(rows[row], cells.read(row))


class TestDamagedRows:
    def test_a_flipped_bit_costs_one_row(self, archive, images, encoding):
        cells = open_cells(images)
        stored = cells.encoded(4) if encoding == "jpeg" else cells.read(4).tobytes()
        flip(archive, stored)
        with open_archive(archive) as opened:
            rows = opened.read(0, 7)
            fault = rows[4]
            assert (fault.row, fault.where) == (4, archive)
            assert "checksum" in fault.reason
            for row in (0, 1, 2, 3, 5, 6):
                np.testing.assert_array_equal(rows[row], cells.read(row))
            with pytest.raises(CropError, match="checksum"):
                opened.encoded(4)

    @pytest.mark.parametrize("compression", ["gzip", "lz4", "zstd"])
    def test_a_damaged_chunk_costs_one_row(self, images, tmp_path, compression):
        cells = open_cells(images)
        path = tmp_path / "a.h5"
        write_archive(path, cells, encoding="raw", compression=compression)
        with h5py.File(path) as file:
            chunk = file["crops"].id.read_direct_chunk((2, 0, 0, 0))[1]
        content = path.read_bytes()
        assert content.count(chunk) == 1
        path.write_bytes(content.replace(chunk, b"\x55" * len(chunk)))
        with open_archive(path) as opened:
            rows = opened.read(0, 7)
            assert [row for row in range(7) if isinstance(rows[row], CropError)] == [2]
            with pytest.raises(CropError, match="damaged|checksum"):
                opened.encoded(2)
            for row in (0, 1, 3, 4, 5, 6):
                np.testing.assert_array_equal(rows[row], cells.read(row))

    @pytest.mark.parametrize(
        ("chunks", "written", "lost"),
        [
            ((1, 12, 10, 3), (0, 1, 3, 4, 5, 6), [2]),
            ((2, 12, 10, 3), (0, 1, 4, 5, 6), [2, 3]),
            ((2, 12, 5, 3), (0, 1, 4, 5), [2, 3, 6]),
            (None, (), list(range(7))),
        ],
    )
    def test_rows_that_were_never_written(self, images, tmp_path, chunks, written, lost):
        path = tmp_path / "a.h5"
        cells = open_cells(images)
        write_archive(path, cells, encoding="raw")
        with h5py.File(path, "r+") as file:
            del file["crops"]
            crops = file.create_dataset("crops", (7, 12, 10, 3), np.uint8, chunks=chunks)
            for row in written:
                crops[row] = cells.read(row)
        with open_archive(path) as opened:
            rows = opened.read(0, 7)
            assert [row for row in range(7) if isinstance(rows[row], CropError)] == lost
            assert {rows[row].reason for row in lost} == {"was never written"}

    @pytest.mark.parametrize("options", [{}, {"chunks": (5, 12, 10, 3), "compression": "gzip"}])
    @pytest.mark.parametrize("fill", [0, 255])
    def test_rows_that_no_index_tells_of_are_told_by_what_they_hold(self, tmp_path, options, fill):
        """What a tool leaves that was stopped: contiguous, or with several rows a chunk."""
        path = tmp_path / "a.h5"
        crops = np.random.default_rng(0).integers(0, 256, (7, 12, 10, 3), dtype=np.uint8)
        crops[0, 0] = fill  # a row that only begins with it
        with h5py.File(path, "w") as file:
            imgs = file.create_dataset("imgs", crops.shape, np.uint8, fillvalue=fill, **options)
            imgs[:3] = crops[:3]
            if options:
                imgs[5] = crops[5]  # or the second chunk would not be there
        with open_archive(path, options=ReadOptions(channel_order="rgb")) as opened:
            rows = opened.read(0, 7)
        lost = [row for row in range(7) if isinstance(rows[row], CropError)]
        assert lost == [row for row in range(3, 7) if not (options and row == 5)]
        assert {rows[row].reason for row in lost} == {
            f"holds nothing but {fill}, as rows do that were never written"
        }
        assert np.array_equal(rows[0], crops[0])

    def test_half_of_a_row_that_was_never_written(self, images, tmp_path):
        path = tmp_path / "a.h5"
        write_archive(path, open_cells(images), encoding="raw")
        with h5py.File(path, "r+") as file:
            del file["crops"]
            crops = file.create_dataset("crops", (7, 12, 10, 3), np.uint8, chunks=(1, 6, 10, 3))
            crops[:, :6] = 1
        with open_archive(path) as opened:
            assert {row.reason for row in opened.read(0, 7)} == {"was never written"}
