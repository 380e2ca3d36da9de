import os
import subprocess
import sys
import zlib

import h5py
import hdf5plugin  # noqa: F401 - registers its filters before a test hides one
import numpy as np
import pytest

from cytodino.archive import encoded as encoded_module
from cytodino.archive import open_archive, write_archive
from cytodino.archive import pixels as pixels_module
from cytodino.cells import open_cells
from cytodino.errors import ArchiveError, CropError, MissingPathError, TaxonomyError
from cytodino.images import decode_rgb

from .conftest import NAMES


def replace(path, name, data, **options):
    with h5py.File(path, "r+") as file:
        if name in file:
            del file[name]
        if data is not None:
            file.create_dataset(name, data=data, **options)


def edit(path, name, change):
    with h5py.File(path, "r+") as file:
        values = file[name][:]
        change(values)
        file[name][...] = values


def flip(path, data):
    """Change one bit of the only place in a file where these bytes stand."""
    content = bytearray(path.read_bytes())
    at = content.find(data)
    assert at >= 0
    content[at + len(data) // 2] ^= 4
    path.write_bytes(bytes(content))


def refused(path, match):
    with pytest.raises(ArchiveError, match=match) as caught, open_archive(path) as opened:
        _ = opened.ids, opened.labels, opened.coords
    assert str(path) in str(caught.value)
    return caught.value


class TestReading:
    def test_rows_are_the_images(self, archive, images):
        cells = open_cells(images)
        with open_archive(archive) as opened:
            assert len(opened) == opened.n == 7
            rows = opened.read(0, 7)
            for row, crop in enumerate(rows):
                np.testing.assert_array_equal(crop, cells.read(row))
                assert crop.flags.writeable
            assert opened.ids == sorted(NAMES)
            assert opened.labels.tolist() == cells.labels.tolist()
            assert opened.coords is None
            assert (opened.slide, opened.channel_order) == ("slide 7", "rgb")

    @pytest.mark.parametrize(
        ("start", "stop", "count"), [(2, 5, 3), (6, 99, 1), (7, 9, 0), (3, 3, 0), (5, 2, 0)]
    )
    def test_slices_are_those_of_a_list(self, archive, start, stop, count):
        with open_archive(archive) as opened:
            rows = opened.read(start, stop)
            assert len(rows) == count
            whole = opened.read(0, 7)
            for row, crop in enumerate(rows, start=start):
                np.testing.assert_array_equal(crop, whole[row])

    @pytest.mark.parametrize("threads", [1, 3])
    def test_threads_change_nothing(self, archive, threads):
        with open_archive(archive, threads=threads) as opened:
            assert opened.threads == threads
            first = opened.read(0, 7)
        with open_archive(archive) as opened:
            for one, other in zip(first, opened.read(0, 7), strict=True):
                np.testing.assert_array_equal(one, other)

    def test_checksums_are_of_what_is_stored(self, archive, images, encoding):
        cells = open_cells(images)
        with open_archive(archive) as opened:
            for row in range(7):
                stored = cells.encoded(row) if encoding == "jpeg" else cells.read(row).tobytes()
                assert opened.crc32(row) == zlib.crc32(stored)

    def test_encoded_pixels_are_a_png_without_loss(self, archive, images):
        with open_archive(archive) as opened:
            for row in range(7):
                data = opened.encoded(row)
                assert opened.encoded_size(row) == len(data)
                np.testing.assert_array_equal(decode_rgb(data), opened.read(row, row + 1)[0])

    def test_rows_outside_are_an_index_error(self, archive):
        with open_archive(archive) as opened:
            for row in (-1, 7):
                with pytest.raises(IndexError):
                    opened.encoded(row)
                with pytest.raises(IndexError):
                    opened.crc32(row)

    def test_long_slices_are_read_row_by_row(self, archive, monkeypatch):
        with open_archive(archive) as opened:
            whole = opened.read(0, 7)
            monkeypatch.setattr(pixels_module, "MAX_SLICE_BYTES", 400)
            monkeypatch.setattr(encoded_module, "MAX_SLICE_BYTES", 1500)
            for one, other in zip(whole, opened.read(0, 7), strict=True):
                np.testing.assert_array_equal(one, other)

    def test_ids_are_row_numbers_where_there_are_none(self, archive):
        replace(archive, "ids", None)
        with open_archive(archive) as opened:
            assert not opened.has_ids
            assert opened.ids == [str(row) for row in range(7)]

    @pytest.mark.parametrize(
        ("values", "options"),
        [
            (["BLA", "", "EOS"] + ["ART"] * 4, {"dtype": h5py.string_dtype()}),
            ([b"BLA", b"", b"EOS"] + [b"ART"] * 4, {}),
            (np.array([3, -1, 5, 1, 1, 1, 1], dtype=np.int8), {}),
        ],
    )
    def test_labels_are_text_of_any_kind_or_numbers(self, archive, values, options):
        replace(archive, "labels", values, **options)
        with open_archive(archive) as opened:
            assert opened.labels.tolist() == [3, -1, 5, 1, 1, 1, 1]
            assert opened.labels.dtype == np.int64

    def test_attributes_may_be_text_of_any_kind(self, archive):
        with h5py.File(archive, "r+") as file:
            for name, text in {"format": "cytodino-archive", "slide": "grün 7"}.items():
                del file.attrs[name]
                file.attrs[name] = text
        with open_archive(archive) as opened:
            assert opened.slide == "grün 7"

    def test_slide_is_the_files_name_where_it_is_not_said(self, archive):
        with h5py.File(archive, "r+") as file:
            del file.attrs["slide"]
            file.attrs["channel_order"] = np.bytes_(b"rgb")
        with open_archive(archive) as opened:
            assert opened.slide == archive.stem


class TestRefusedArchives:
    def test_missing(self, tmp_path):
        with pytest.raises(MissingPathError):
            open_archive(tmp_path / "nowhere.h5")

    def test_folder(self, tmp_path):
        refused(tmp_path, "is a folder")

    @pytest.mark.parametrize("content", [b"", b"hello, world", bytes(5000)])
    def test_no_hdf5(self, tmp_path, content):
        (tmp_path / "a.h5").write_bytes(content)
        refused(tmp_path / "a.h5", "is not an HDF5 file")

    def test_unreadable(self, archive, monkeypatch):
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        refused(archive, "may not be read")

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
    def test_truncated(self, archive, share):
        content = archive.read_bytes()
        archive.write_bytes(content[: int(len(content) * share)])
        refused(archive, "is truncated")

    def test_broken_superblock(self, archive):
        content = bytearray(archive.read_bytes())
        content[12] ^= 0xFF
        archive.write_bytes(bytes(content))
        refused(archive, "cannot be opened")

    def test_open_for_writing_elsewhere(self, archive):
        code = (
            "import h5py, sys\n"
            f"file = h5py.File({str(archive)!r}, 'r+')\n"
            "print('open', flush=True)\n"
            "sys.stdin.read()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout.readline() == b"open\n"
            refused(archive, "is open for writing in another program")
            writer.stdin.close()

    def test_left_open_by_a_writer_that_was_killed(self, archive, tmp_path):
        with h5py.File(archive, "r+", libver="v110") as file:
            file.flush()
            (tmp_path / "copy.h5").write_bytes(archive.read_bytes())
        refused(tmp_path / "copy.h5", "or was when that was killed")

    def test_without_crops_lists_what_there_is(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["features"] = np.zeros((3, 8), dtype=np.float32)
            file["group/coords"] = np.zeros((3, 2), dtype=np.int64)
        found = str(refused(tmp_path / "a.h5", "holds coordinates but no crops"))
        assert "/features float32 (3, 8)" in found
        assert "/group/coords int64 (3, 2)" in found

    def test_long_listings_are_cut(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            for number in range(30):
                file[f"d{number:02}"] = np.zeros(1)
        assert "and more" in str(refused(tmp_path / "a.h5", "holds no crops"))

    def test_without_any_dataset(self, tmp_path):
        h5py.File(tmp_path / "a.h5", "w").close()
        refused(tmp_path / "a.h5", "no dataset")

    @pytest.mark.parametrize(
        ("attribute", "value", "match"),
        [
            ("version", 2, "version 2.*upgrade"),
            ("version", "one", "version one"),
            ("version", 0, "version 0"),
            ("version", None, "version None"),
            ("format", None, "holds no crops|lost the attribute format"),
            ("format", "another", "holds no crops|lost the attribute format"),
            ("channel_order", "bgr", "channel order 'bgr'"),
            ("slide", np.bytes_(b"\xff\xfe"), "attribute slide"),
        ],
    )
    def test_attributes(self, archive, attribute, value, match):
        with h5py.File(archive, "r+") as file:
            del file.attrs[attribute]
            if value is not None:
                file.attrs[attribute] = value
        refused(archive, match)

    @pytest.mark.parametrize(
        ("name", "data", "match"),
        [
            ("crc32", None, "no /crc32"),
            ("crc32", np.zeros(6, dtype=np.uint32), "no /crc32"),
            ("crc32", np.zeros(7, dtype=np.int64), "no /crc32"),
            ("labels", np.zeros(8, dtype=np.int64), r"/labels has the shape \(8,\)"),
            ("labels", np.zeros(7), "/labels is float64"),
            ("labels", np.full(7, 21), "numbers outside 0 to 20"),
            ("labels", np.full(7, -2), "numbers outside 0 to 20"),
            ("labels", [b"\xff\xff"] * 7, "/labels cannot be read"),
            ("ids", [b"a"] * 6, r"/ids has the shape \(6,\)"),
            ("ids", np.zeros(7, dtype=np.int64), "/ids is int64, not text"),
            ("ids", [b"\xff\xff"] * 7, "/ids cannot be read"),
            ("ids", np.zeros(7, dtype="S5000"), "entries of 5000 bytes"),
            ("coords", np.zeros((7, 3), dtype=np.int64), "/coords has the shape"),
            ("coords", np.zeros((7, 2)), "/coords is float64, not whole numbers"),
        ],
    )
    def test_tables_that_do_not_fit(self, archive, name, data, match):
        replace(archive, name, data)
        refused(archive, match)

    def test_labels_of_other_classes(self, archive):
        replace(archive, "labels", [b"BLA"] * 5 + [b"zebra", b"ant"])
        with open_archive(archive) as opened, pytest.raises(TaxonomyError, match="ant, zebra"):
            _ = opened.labels

    @pytest.mark.parametrize("name", ["labels", "ids", "crc32"])
    def test_a_flipped_bit_in_a_table_is_found(self, archive, name):
        with h5py.File(archive) as file:
            data = file[name][:].tobytes()
        flip(archive, data)
        refused(archive, f"/{name} cannot be read")

    def test_a_table_that_was_never_written(self, archive):
        with h5py.File(archive, "r+") as file:
            file.create_dataset("coords", shape=(7, 2), dtype=np.int64, chunks=(7, 2))
        refused(archive, "/coords was never written")

    @pytest.mark.parametrize("name", ["labels", "crc32"])
    def test_links_out_of_the_file(self, archive, tmp_path, name):
        with h5py.File(tmp_path / "other.h5", "w") as file:
            file[name] = np.zeros(7, dtype=np.uint32)
        with h5py.File(archive, "r+") as file:
            del file[name]
            file[name] = h5py.ExternalLink("other.h5", name)
        refused(archive, f"/{name} is a link")

    def test_data_stored_in_another_file(self, archive, tmp_path):
        (tmp_path / "secret").write_bytes(bytes(28))
        with h5py.File(archive, "r+") as file:
            del file["crc32"]
            file.create_dataset(
                "crc32", shape=(7,), dtype=np.uint32, external=[(str(tmp_path / "secret"), 0, 28)]
            )
        refused(archive, "/crc32 is a link or lies in another file")

    def test_a_virtual_dataset(self, archive, tmp_path):
        layout = h5py.VirtualLayout(shape=(7,), dtype=np.uint32)
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "crc32", shape=(7,))
        with h5py.File(archive, "r+") as file:
            del file["crc32"]
            file.create_virtual_dataset("crc32", layout)
        refused(archive, "/crc32 is a link or lies in another file")

    def test_a_filter_that_is_not_installed_is_named(self, archive, monkeypatch):
        replace(archive, "labels", [b"BLA"] * 7, compression="gzip")
        monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: code != 1)
        refused(archive, "/labels needs the HDF5 filter gzip")

    def test_a_group_in_the_place_of_a_table(self, archive):
        replace(archive, "crc32", None)
        with h5py.File(archive, "r+") as file:
            file.create_group("crc32")
        refused(archive, "no /crc32")

    def test_chunks_too_large_to_read(self, archive):
        with h5py.File(archive, "r+") as file:
            file.create_dataset(
                "coords", shape=(7, 2), dtype=np.int64, chunks=(1 << 27, 2), maxshape=(None, 2)
            )
        refused(archive, "/coords has chunks of 2147483648 bytes")

    @pytest.mark.parametrize("n", [0, 1 << 40])
    def test_absurd_counts(self, archive, encoding, n):
        with h5py.File(archive, "r+") as file:
            for name in ("crc32", "offsets", "crops"):
                if name in file:
                    del file[name]
            file.create_dataset(
                "crc32", shape=(n,), dtype=np.uint32, chunks=(64,), maxshape=(None,)
            )
            if encoding == "raw":
                chunks = (1, 12, 10, 3) if n else None
                file.create_dataset("crops", (n, 12, 10, 3), dtype=np.uint8, chunks=chunks)
            else:
                file.create_dataset(
                    "offsets", shape=(n + 1,), dtype=np.uint64, chunks=(64,), maxshape=(None,)
                )
        refused(archive, "holds no crop" if n == 0 else "declares more bytes than the file has")


class TestRefusedCrops:
    @pytest.fixture
    def encoding(self):
        return "raw"

    @pytest.mark.parametrize(
        ("shape", "dtype"),
        [((7, 12, 10, 3), np.float32), ((7, 12, 10), np.uint8), ((7, 12, 10, 4), np.uint8)],
    )
    def test_crops_of_another_kind(self, archive, shape, dtype):
        replace(archive, "crops", np.zeros(shape, dtype=dtype))
        refused(archive, "not uint8")

    @pytest.mark.parametrize("shape", [(7, 0, 10, 3), (7, 12, 0, 3), (7, 5000, 1, 3)])
    def test_crops_of_no_or_absurd_size(self, archive, shape):
        replace(archive, "crops", np.zeros(shape, dtype=np.uint8))
        refused(archive, "declares crops of")


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

    def test_half_of_a_row_that_was_never_written(self, images, tmp_path):
        path = tmp_path / "a.h5"
        write_archive(path, open_cells(images), encoding="raw")
        with h5py.File(path, "r+") as file:
            del file["crops"]
            crops = file.create_dataset("crops", (7, 12, 10, 3), np.uint8, chunks=(1, 6, 10, 3))
            crops[:, :6] = 1
        with open_archive(path) as opened:
            assert {row.reason for row in opened.read(0, 7)} == {"was never written"}
