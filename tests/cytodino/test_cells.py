import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import h5py
import numpy as np
import pytest
from PIL import Image

from cytodino.archive import write_archive
from cytodino.cells import MemoryCells, open_cells, require_labels
from cytodino.errors import ArchiveError, CropError, InputError, MissingPathError, TaxonomyError
from cytodino.images import decode_rgb
from cytodino.taxonomy import index_of

NAMES = ("BLA/a.png", "BLA/b.png", "EOS/deep/c.png", "NGS/d.png", "NGS/e.png")


def draw(seed, size=(9, 8)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    for seed, name in enumerate(NAMES):
        path = tmp_path / "slide" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(seed)).save(path)
    return tmp_path / "slide"


@pytest.fixture(params=["folder", "jpeg", "raw", "memory", "subset"])
def cells(request, folder, tmp_path):
    """Five cells, through each kind of source."""
    if request.param == "folder":
        return open_cells(folder)
    if request.param == "memory":
        labels = [index_of(name[:3]) for name in NAMES]
        return MemoryCells([draw(seed) for seed in range(5)], ids=NAMES, labels=labels)
    if request.param == "subset":
        return open_cells(folder).subset([4, 3, 2, 1, 0]).subset(np.arange(5)[::-1])
    write_archive(tmp_path / "a.h5", open_cells(folder), encoding=request.param)
    return open_cells(tmp_path / "a.h5")


class TestEverySource:
    def test_has_ids_labels_and_length(self, cells):
        assert len(cells) == 5
        assert cells.ids == list(NAMES)
        assert cells.labels.dtype == np.int64
        assert cells.labels.tolist() == [index_of(name[:3]) for name in NAMES]
        assert require_labels(cells).tolist() == cells.labels.tolist()

    def test_reads_fresh_pixels(self, cells):
        for index in range(5):
            crop = cells.read(index)
            np.testing.assert_array_equal(crop, draw(index))
            crop[:] = 0
            np.testing.assert_array_equal(cells.read(index), draw(index))

    def test_gives_the_bytes_of_an_image_file(self, cells):
        for index in range(5):
            data = cells.encoded(index)
            assert cells.encoded_size(index) == len(data)
            np.testing.assert_array_equal(decode_rgb(data), draw(index))

    def test_survives_pickling(self, cells):
        cells.read(0)
        copy = pickle.loads(pickle.dumps(cells))
        assert copy.ids == cells.ids
        assert copy.fingerprint() == cells.fingerprint()
        np.testing.assert_array_equal(copy.read(3), draw(3))

    def test_a_subset_is_a_source(self, cells):
        some = cells.subset(np.array([3, 1]))
        assert some.ids == [NAMES[3], NAMES[1]]
        assert some.labels.tolist() == [index_of("NGS"), index_of("BLA")]
        np.testing.assert_array_equal(some.read(0), draw(3))
        assert some.where(0) == cells.where(3)
        assert some.checksum(1) == cells.checksum(1)
        assert some.fingerprint() != cells.fingerprint()


class TestFingerprint:
    def test_folder_and_archive_of_its_files_agree(self, folder, tmp_path):
        write_archive(tmp_path / "a.h5", open_cells(folder))
        assert open_cells(folder).fingerprint() == open_cells(tmp_path / "a.h5").fingerprint()

    def test_changes_with_a_pixel_an_id_or_a_label(self, folder):
        seen = {open_cells(folder).fingerprint()}
        Image.fromarray(draw(99)).save(folder / NAMES[0])
        seen.add(open_cells(folder).fingerprint())
        (folder / NAMES[0]).rename(folder / "BLA" / "a2.png")
        seen.add(open_cells(folder).fingerprint())
        seen.add(MemoryCells([draw(0)], labels=[1]).fingerprint())
        seen.add(MemoryCells([draw(0)], labels=[2]).fingerprint())
        seen.add(MemoryCells([draw(0)]).fingerprint())
        assert len(seen) == 6

    def test_is_computed_once(self, folder):
        cells = open_cells(folder)
        before = cells.fingerprint()
        (folder / NAMES[0]).unlink()
        assert cells.fingerprint() == before


class TestFaults:
    def test_missing_path(self, tmp_path):
        with pytest.raises(MissingPathError):
            open_cells(tmp_path / "nowhere")

    def test_unknown_classes(self, folder):
        (folder / "EOS").rename(folder / "eosino")
        with pytest.raises(TaxonomyError, match="eosino"):
            open_cells(folder)

    def test_a_broken_image_names_its_file(self, folder):
        cells = open_cells(folder)
        (folder / NAMES[2]).write_bytes(b"\x89PNG\r\n\x1a\n broken")
        with pytest.raises(CropError) as caught:
            cells.read(2)
        assert caught.value.where == folder / NAMES[2]

    def test_a_file_that_went_away_names_itself(self, folder):
        cells = open_cells(folder)
        (folder / NAMES[2]).unlink()
        for ask in (cells.read, cells.encoded, cells.encoded_size, cells.checksum):
            with pytest.raises(CropError, match="cannot be read") as caught:
                ask(2)
            assert caught.value.where == folder / NAMES[2]

    def test_a_damaged_row_names_itself(self, folder, tmp_path):
        path = tmp_path / "a.h5"
        write_archive(path, open_cells(folder), encoding="raw")
        with h5py.File(path, "r+") as file:
            file["crops"][2, 0, 0, 0] ^= 1
        with pytest.raises(CropError, match="row 2") as caught:
            open_cells(path).read(2)
        assert caught.value.where == path

    def test_ids_that_name_two_crops(self, folder, tmp_path):
        path = tmp_path / "a.h5"
        write_archive(path, open_cells(folder))
        with h5py.File(path, "r+") as file:
            ids = file["ids"][:]
            ids[1] = ids[0]
            file["ids"][...] = ids
        with pytest.raises(InputError, match="different crops alike"):
            open_cells(path)

    def test_an_archive_that_was_replaced_is_not_mixed_with_the_old_one(self, folder, tmp_path):
        path = tmp_path / "a.h5"
        write_archive(path, open_cells(folder))
        cells = open_cells(path)
        path.unlink()
        write_archive(path, open_cells(folder).subset([0]))
        with pytest.raises(ArchiveError, match="has changed"):
            pickle.loads(pickle.dumps(cells)).read(0)

    def test_memory_of_different_lengths(self):
        with pytest.raises(InputError, match="not of one length"):
            MemoryCells([draw(0)], ids=["a", "b"])
        with pytest.raises(InputError, match="not of one length"):
            MemoryCells([draw(0)], labels=[1, 2])


class TestRequireLabels:
    def test_refuses_cells_without_any(self, tmp_path):
        Image.fromarray(draw(0)).save(tmp_path / "a.png")
        with pytest.raises(InputError, match="has no labels"):
            require_labels(open_cells(tmp_path))
        with pytest.raises(InputError, match="has no labels"):
            require_labels(MemoryCells([draw(0)], labels=[-1]))

    def test_names_a_cell_without(self):
        cells = MemoryCells([draw(0)] * 3, ids=["a", "b", "c"], labels=[0, -1, 2])
        with pytest.raises(InputError, match="no label for 1 of 3 cells, such as b"):
            require_labels(cells)


CELLS = None


def read_in_child(index):
    crop = CELLS.read(index)
    return CELLS._opened_in, os.getpid(), crop


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_a_forked_process_opens_the_archive_itself(folder, tmp_path, encoding):
    global CELLS
    write_archive(tmp_path / "a.h5", open_cells(folder), encoding=encoding)
    CELLS = open_cells(tmp_path / "a.h5")
    CELLS.read(0)
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        for index, (opened_in, process, crop) in enumerate(pool.map(read_in_child, range(5))):
            assert opened_in == process != os.getpid()
            np.testing.assert_array_equal(crop, draw(index))
    np.testing.assert_array_equal(CELLS.read(4), draw(4))
