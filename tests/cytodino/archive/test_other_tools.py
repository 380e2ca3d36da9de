"""What scPortrait and PathML write, and what of it is refused."""

import h5py
import numpy as np
import pytest

from cytodino.archive import open_archive
from cytodino.archive.options import ReadOptions
from cytodino.errors import CropError
from tests.cytodino.archive.layout_files import CROPS, FILES, N, read, refused, write

from .published import write_clam, write_h5path, write_h5sc


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.h5"


class TestScPortrait:
    def change(self, path, **attributes):
        write_h5sc(path, CROPS, FILES)
        with h5py.File(path, "r+") as file:
            for name, values in attributes.items():
                file["obsm/single_cell_images"].attrs[name] = values
        return path

    def names(self, *last):
        return [b"seg_nucleus", b"seg_cytosol", *last]

    def test_names_say_the_order(self, path):
        self.change(path, channel_names=self.names(b"b", b"g", b"r"))
        with open_archive(path) as archive:
            assert archive.channel_order == "bgr"
        refused(path, "contradicts itself", channel_order="rgb")

    def test_other_names_want_the_option(self, path):
        self.change(path, channel_names=self.names(b"DAPI", b"488", b"568"))
        refused(path, "called dapi, 488, 568.*--channel-order rgb")
        np.testing.assert_array_equal(read(path, channel_order="rgb")[0], CROPS[0])

    @pytest.mark.parametrize("name", ["obs/cell_id", "obs/scportrait_cell_id"])
    def test_cells_are_called_as_every_version_calls_them(self, path, name):
        write_h5sc(path, CROPS, FILES, ids=name)
        with open_archive(path) as archive:
            assert archive.ids[:2] == ["100", "101"]
            assert not archive.notes

    def test_cells_without_a_name_are_said_aloud(self, path):
        write_h5sc(path, CROPS, FILES, ids="obs/index")
        with open_archive(path) as archive:
            assert archive.ids[:2] == ["0", "1"]
            assert "cells are called by their row; --ids NAME" in archive.notes[0]
        with open_archive(path, options=ReadOptions(ids="obs/index")) as archive:
            assert (archive.ids[0], archive.notes) == ("100", ())

    @pytest.mark.parametrize("masks", [1, 3])
    def test_another_number_of_image_channels(self, path, masks):
        mapping = [b"mask"] * masks + [b"image_channel"] * (5 - masks)
        refused(self.change(path, channel_mapping=mapping), f"has {5 - masks} image channels")

    def test_without_a_mapping(self, path):
        refused(self.change(path, channel_mapping=[b"mask"]), "tells 1 of them")

    def test_stretched_colours_are_said_aloud(self, path):
        with open_archive(self.change(path, normalization=True)) as archive:
            assert "not the colours of the slide" in archive.notes[0]

    def test_bytes_are_taken_as_they_are_and_other_integers_not(self, path):
        for kind in (np.uint8, np.uint16):
            self.change(path)
            with h5py.File(path, "r+") as file:
                kept = dict(file["obsm/single_cell_images"].attrs)
                del file["obsm/single_cell_images"]
                data = np.zeros((N, 5, 24, 20), kind)
                data[:, 2:] = CROPS.transpose(0, 3, 1, 2)
                file["obsm/single_cell_images"] = data
                file["obsm/single_cell_images"].attrs.update(kept)
            if kind is np.uint8:
                np.testing.assert_array_equal(read(path)[4], CROPS[4])
            else:
                refused(path, "is uint16, and how that maps to 8 bits is not said")

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (np.nan, "holds NaN or infinity"),
            (np.inf, "holds NaN or infinity"),
            (1.5, "not 0 to 1"),
            (-0.1, "not 0 to 1"),
        ],
    )
    def test_values_that_are_no_pixels_cost_a_row(self, path, value, reason):
        self.change(path)
        with h5py.File(path, "r+") as file:
            file["obsm/single_cell_images"][3, 4, 5, 6] = value
            file["obsm/single_cell_images"][5, 2:] = 0
            file["obsm/single_cell_images"][6, 0] = np.nan  # a mask is not looked at
        rows = read(path)
        assert reason in rows[3].reason
        assert "is black" in rows[5].reason
        lost = [row for row, crop in enumerate(rows) if isinstance(crop, CropError)]
        assert lost == [3, 5]


class TestPathml:
    @pytest.mark.parametrize(
        ("tile", "reason"),
        [
            (np.full((24, 20, 3), 0.5), "not whole numbers"),
            (np.ones((24, 20, 3)), "is black, or"),
            (np.full((24, 20, 3), np.nan), "NaN"),
            (np.full((24, 20, 3), 300.0), "not 0 to 255"),
            (np.zeros((24, 20)), "is an array"),
            (np.zeros((0, 20, 3)), "is an array"),
            (np.zeros((24, 20, 3), np.int64), "is int64"),
        ],
    )
    def test_a_tile_that_is_no_picture_costs_a_row(self, path, tile, reason):
        with h5py.File(write(path, "h5path"), "r+") as file:
            del file["tiles/(24, 1020)/array"]
            file["tiles/(24, 1020)/array"] = tile
            del file["tiles/(24, 1040)/array"]
        rows = read(path)
        assert reason in rows[1].reason
        assert rows[2].reason == "has no array"
        np.testing.assert_array_equal(rows[3], CROPS[3])

    def test_without_tiles(self, path):
        write_h5path(path, CROPS[:0], [])
        refused(path, "holds no tile")

    def test_a_link_in_the_place_of_a_tile_costs_a_row(self, path, tmp_path):
        write_clam(tmp_path / "other.h5", CROPS, FILES)
        with h5py.File(write(path, "h5path"), "r+") as file:
            del file["tiles/(24, 1020)"]
            file["tiles/(24, 1020)"] = h5py.ExternalLink("other.h5", "/")
        assert "is a link" in read(path)[1].reason
