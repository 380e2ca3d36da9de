import zlib

import h5py
import hdf5plugin  # noqa: F401 - registers its filters before a test hides one
import numpy as np
import pytest

from cytodino.archive import encoded as encoded_module
from cytodino.archive import open_archive
from cytodino.archive import pixels as pixels_module
from cytodino.cells import open_cells
from cytodino.images import decode_rgb

from .changes import replace
from .conftest import NAMES


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
