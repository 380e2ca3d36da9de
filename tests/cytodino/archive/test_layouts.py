"""Every layout that is read gives the same pixels; what is ambiguous is refused or said aloud."""

import h5py
import numpy as np
import pytest

from cytodino.archive import ReadOptions, open_archive, write_archive
from cytodino.archive.channels import ASSUMED
from cytodino.archive.inspection import inspect_archive
from cytodino.cells import MemoryCells, open_cells
from cytodino.errors import TaxonomyError
from cytodino.images import decode_rgb
from tests.cytodino.archive.layout_files import CROPS, FILES, N, put, read, refused, write

from .published import WRITERS, plain


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.h5"


@pytest.mark.parametrize("writer", WRITERS)
class TestEveryLayout:
    def test_the_same_pixels(self, path, writer):
        with open_archive(write(path, writer)) as archive:
            assert archive.n == N
            rows = archive.read(0, N)
            for row, crop in enumerate(rows):
                assert crop.dtype == np.uint8
                assert crop.flags.c_contiguous
                np.testing.assert_array_equal(crop, CROPS[row])
            np.testing.assert_array_equal(archive.read(5, 6)[0], CROPS[5])
            assert archive.how

    def test_the_same_cells(self, path, writer):
        cells = open_cells(write(path, writer))
        assert len(cells) == N
        assert cells.labels is None
        for index in (0, N - 1):
            np.testing.assert_array_equal(cells.read(index), CROPS[index])
            np.testing.assert_array_equal(decode_rgb(cells.encoded(index)), CROPS[index])
        assert cells.fingerprint() == open_cells(path).fingerprint()

    def test_packing_keeps_the_pixels(self, path, writer, tmp_path):
        cells = open_cells(write(path, writer))
        write_archive(tmp_path / "b.h5", cells, encoding="raw")
        for one, other in zip(read(path), read(tmp_path / "b.h5"), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_inspection_names_it(self, path, writer):
        found = inspect_archive(write(path, writer))
        assert found.n == N
        assert found.sizes == {"20 x 24": N}
        assert not found.unusable
        assert found.checksums == writer.startswith("own")


class TestSlideAndCoordinates:
    def test_clam(self, path):
        with open_archive(write(path, "CLAM")) as archive:
            assert (archive.layout, archive.slide, archive.notes) == ("CLAM", "TCGA-01", ())
            assert archive.coords.tolist() == [[10 * row, 100] for row in range(N)]

    def test_a_slide_whose_name_is_no_utf8_can_be_read(self, path):
        with h5py.File(write(path, "CLAM"), "r+") as file:
            file.attrs["slide"] = np.bytes_("Müller".encode("latin-1"))
        with open_archive(path) as archive:
            assert archive.slide == r"M\xfcller"

    def test_so_can_one_whose_name_is_of_variable_length(self, path):
        with h5py.File(write(path, "CLAM"), "r+") as file:
            name = "Müller".encode("latin-1")
            file.attrs.create("slide", name, dtype=h5py.string_dtype())
        with open_archive(path) as archive:
            assert archive.slide == r"M\udcfcller"  # an escape; h5py gives half of a pair

    def test_an_attribute_of_the_file_names_the_slide_first(self, path):
        with h5py.File(write(path, "CLAM"), "r+") as file:
            file.attrs["slide"] = "S-1"
        with open_archive(path) as archive:
            assert archive.slide == "S-1"

    def test_pathml_counts_down_first(self, path):
        with open_archive(write(path, "h5path")) as archive:
            assert (archive.layout, archive.slide, archive.notes) == ("PathML", "CMU-1.svs", ())
            assert archive.coords.tolist() == [[1000 + 20 * row, 24] for row in range(N)]
            assert archive.ids[2] == "(24, 1040)"

    @pytest.mark.parametrize(
        "name", ["__import__('os').abort()", "(1,", "(1, 2, 3)", "7", "(" * 99]
    )
    def test_a_tiles_name_is_a_literal_or_no_place(self, path, name):
        with h5py.File(write(path, "h5path"), "r+") as file:
            file.move("tiles/(24, 1000)", f"tiles/{name}")
        with open_archive(path) as archive:
            assert archive.coords is None
            assert name in archive.ids

    def test_scportrait_has_the_ids_of_its_cells(self, path):
        with open_archive(write(path, "h5sc")) as archive:
            assert archive.ids[:2] == ["100", "101"]
            assert archive.slide == "a"

    def test_coordinates_that_do_not_fit_are_left_out_aloud(self, path):
        with h5py.File(write(path, "CLAM"), "r+") as file:
            del file["coords"]
            file["coords"] = np.arange(2 * N)
        with open_archive(path) as archive:
            assert archive.coords is None
            (note,) = archive.notes
            assert "/coords has the shape (24,), not (12, 2): it is left out" in note


class TestLabelsAndIds:
    def test_nobody_elses_labels_are_read(self, path):
        with open_archive(write(path, "PatchCamelyon")) as archive:
            assert archive.labels is None
        refused(path, r"/y has the shape \(12, 1, 1, 1\)", labels="y")

    def test_labels_and_ids_that_are_named(self, path):
        put(write(path, "nested"), slide__kind=["BLA"] * N, slide__cell=np.arange(N) + 7)
        options = ReadOptions(labels="slide/kind", ids="/slide/cell")
        with open_archive(path, options=options) as archive:
            assert archive.labels.tolist() == [3] * N
            assert archive.ids[0] == "7"
            assert archive.has_ids

    def test_labels_of_other_classes(self, path):
        put(write(path, "contiguous"), kind=["zebra"] * N)
        with (
            open_archive(path, options=ReadOptions(labels="kind")) as archive,
            pytest.raises(TaxonomyError, match="zebra"),
        ):
            _ = archive.labels

    @pytest.mark.parametrize("kind", ["labels", "ids"])
    def test_names_of_nothing_list_what_there_is(self, path, kind):
        said = refused(write(path, "nested"), f"no dataset gone.*--{kind}", **{kind: "gone"})
        assert "/slide/level0/area int64 (12,)" in said


class TestAmbiguity:
    def test_several_datasets(self, path):
        put(path, a=CROPS, b=CROPS[:, ::-1], group__c=np.frombuffer(FILES[0], np.uint8))
        said = refused(path, "2 datasets that can be crops.*--dataset NAME")
        assert "/a uint8 (12, 24, 20, 3), /b uint8 (12, 24, 20, 3)" in said
        np.testing.assert_array_equal(read(path, dataset="b")[0], CROPS[0, ::-1])

    def test_a_dataset_that_is_not_there(self, path):
        said = refused(put(path, a=CROPS), "has no dataset z.*--dataset", dataset="z")
        assert "/a uint8" in said

    @pytest.mark.parametrize("layout", ["nchw", "encoded"])
    def test_a_layout_that_none_of_the_crops_has(self, path, layout):
        said = refused(put(path, a=CROPS), f"no crops that --layout {layout} fits", layout=layout)
        assert "/a uint8" in said

    def test_channels_first_or_last(self, path):
        put(path, a=np.ones((5, 3, 3, 3), np.uint8))
        refused(path, "first or last.*--layout nhwc, or nchw")
        assert read(path, layout="nhwc")[0].shape == (3, 3, 3)
        put(path, b=CROPS.transpose(0, 3, 1, 2))
        assert read(path, dataset="b", layout="nchw")[0].shape == (24, 20, 3)

    def test_the_layout_settles_which_dataset(self, path):
        put(path, a=CROPS, b=CROPS.transpose(0, 3, 1, 2))
        refused(path, "--dataset")
        assert len(read(path, layout="nchw")) == N

    def test_a_layout_that_does_not_fit(self, path):
        refused(put(path, a=CROPS), "does not fit", dataset="a", layout="nchw")
        refused(path, "--layout nchw fits", layout="nchw")
        refused(path, "does not fit", dataset="a", layout="encoded")
        own = write(path.with_name("b.h5"), "own encoded")
        refused(own, "stores crops as encoded, not as nhwc", layout="nhwc")
        refused(write(path.with_name("c.h5"), "CLAM"), "is a CLAM archive", layout="nchw")

    def test_text_is_files_only_where_it_is_named(self, path):
        put(path, names=np.array([b"x"] * N), jpeg=np.array(FILES))
        refused(path, "holds no crops")
        np.testing.assert_array_equal(read(path, dataset="jpeg")[3], CROPS[3])

    def test_a_file_of_very_many_datasets_wants_a_name(self, path, monkeypatch):
        monkeypatch.setattr("cytodino.archive.contents.MAX_OBJECTS", 5)
        put(path, **{f"d{number}": CROPS for number in range(7)})
        refused(path, "more than 5 .*--dataset")
        assert len(read(path, dataset="d3")) == N


class TestChannelOrder:
    def test_it_is_assumed_aloud(self, path):
        with open_archive(write(path, "contiguous")) as archive:
            assert (archive.channel_order, archive.notes) == ("rgb", (ASSUMED,))

    def test_who_packs_or_trains_on_it_is_told_too(self, path, capsys):
        open_cells(write(path, "contiguous"))
        assert capsys.readouterr().err == f"warning: {path}: {ASSUMED}\n"
        open_cells(write(path.with_name("b.h5"), "BGR"))
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize("writer", ["CLAM", "PatchCamelyon", "h5path", "h5sc", "own raw"])
    def test_tools_that_document_it_need_no_word(self, path, writer):
        with open_archive(write(path, writer)) as archive:
            assert (archive.channel_order, archive.notes) == ("rgb", ())

    @pytest.mark.parametrize("writer", ["contiguous", "NCHW", "CLAM", "h5path", "opaque JPEG"])
    def test_the_option_decides(self, path, writer):
        with open_archive(write(path, writer), options=ReadOptions(channel_order="bgr")) as archive:
            assert (archive.channel_order, archive.notes) == ("bgr", ())
            np.testing.assert_array_equal(archive.read(1, 2)[0], CROPS[1, ..., ::-1])
            np.testing.assert_array_equal(decode_rgb(archive.encoded(1)), CROPS[1, ..., ::-1])

    @pytest.mark.parametrize("where", ["/", "images"])
    def test_an_attribute_decides(self, path, where):
        with h5py.File(write(path, "contiguous"), "r+") as file:
            file[where].attrs["channel_order"] = np.bytes_(b"BGR")
        with open_archive(path) as archive:
            assert (archive.channel_order, archive.notes) == ("bgr", ())

    def test_contradictions_are_refused(self, path):
        write(path, "BGR")
        refused(path, "contradicts itself: .*BGR by the attribute", channel_order="rgb")
        with h5py.File(path, "r+") as file:
            file["images"].attrs["channel_order"] = "rgb"
        refused(path, "contradicts itself")
        with h5py.File(path, "r+") as file:
            file["images"].attrs["channel_order"] = "HSV"
        refused(path, "channel order 'HSV'")

    def test_own_archives_are_rgb(self, path):
        refused(write(path, "own raw"), "contradicts itself", channel_order="bgr")


class TestOwnArchives:
    def test_naming_their_own_dataset_changes_nothing(self, path):
        with open_archive(write(path, "own raw"), options=ReadOptions(dataset="crops")) as archive:
            assert archive.layout == "cytodino raw"
            assert archive.checksums is not None

    def test_another_dataset_of_theirs_can_be_named(self, path):
        put(write(path, "own raw"), masked=CROPS // 2)
        np.testing.assert_array_equal(read(path, dataset="masked")[0], CROPS[0] // 2)

    @pytest.mark.parametrize("options", [{}, {"dataset": "crops"}])
    def test_without_their_mark_their_checksums_are_not_passed_over(self, path, options):
        with h5py.File(write(path, "own raw"), "r+") as file:
            del file.attrs["format"]
        refused(path, "lost the attribute format", **options)


class TestNoCrops:
    @pytest.mark.parametrize(
        ("datasets", "match"),
        [
            ({"coords": np.zeros((9, 2), int)}, "coordinates but no crops.*slide file"),
            ({"coords": np.zeros((9, 2), int), "features": np.zeros((9, 8))}, "slide file"),
            ({"imgs": np.zeros((9, 4, 4, 3), np.float32)}, "no crops of uint8.*float32"),
            ({"imgs": np.zeros((9, 4, 4, 4), np.uint8)}, "no crops of uint8"),
            ({"y": np.zeros((9, 1, 1, 1), np.uint8)}, "no crops of uint8"),
            ({"x": np.zeros(9)}, "no crops in a layout known here; it holds /x float64"),
        ],
    )
    def test_it_says_why(self, path, datasets, match):
        refused(put(path, **datasets), match)

    def test_entries_that_are_arrays_are_no_image_files(self, path):
        with h5py.File(path, "w") as file:
            file.create_dataset("imgs", (9,), np.dtype((np.uint8, (4, 4, 3))))
        refused(path, "no crops in a layout known here; it holds /imgs")
        refused(path, "give uint8 pixels", dataset="imgs")

    def test_crops_of_no_size_and_no_crops(self, path):
        put(path, a=np.zeros((3, 0, 4, 3), np.uint8))
        refused(path, "declares crops of 4 x 0 px")
        other = put(path.with_name("b.h5"), a=np.zeros((0, 4, 4, 3), np.uint8))
        refused(other, "holds no crop")


def test_their_pixels_are_read_as_ours_are(path):
    write_archive(path, MemoryCells(list(CROPS)), encoding="raw")
    plain(chunks=(1, 24, 20, 3))(path.with_name("b.h5"), CROPS, FILES)
    with open_archive(path) as one, open_archive(path.with_name("b.h5")) as other:
        assert one.how == other.how
