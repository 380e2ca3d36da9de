import h5py
import numpy as np
import pytest

from cytodino.archive import write_archive
from cytodino.archive.inspection import draw_contact_sheet, inspect_archive
from cytodino.cells import MemoryCells, open_cells
from cytodino.errors import ArchiveError

from .conftest import draw, write_images


def test_it_says_what_would_be_read(archive, encoding):
    found = inspect_archive(archive)
    assert found.n == found.sampled == 7
    assert found.layout == ("cytodino encoded" if encoding == "jpeg" else "cytodino raw")
    assert found.encoding == ("files" if encoding == "jpeg" else "pixels")
    assert found.sizes == {"10 x 12": 7}
    assert found.labels == {"BLA": 2, "EOS": 1, "LYT": 2, "NGS": 2}
    assert (found.unlabelled, found.unusable) == (0, {})
    assert found.ids and found.checksums and not found.coords
    assert found.slide == "slide 7"
    assert found.file_bytes == archive.stat().st_size
    assert found.crops_per_second > 0
    assert type(found).model_validate_json(found.model_dump_json()) == found


def test_sizes_filters_and_faults(tmp_path):
    images = write_images(tmp_path / "set", sizes=((12, 10), (9, 20)))
    write_archive(tmp_path / "a.h5", open_cells(images))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["bytes"][int(file["offsets"][2]) + 5] ^= 1
    found = inspect_archive(tmp_path / "a.h5")
    assert found.sizes == {"10 x 12": 3, "20 x 9": 3}
    assert list(found.unusable) == [2]
    assert "checksum" in found.unusable[2]
    write_archive(tmp_path / "b.h5", MemoryCells([draw()]), encoding="raw", compression="gzip")
    found = inspect_archive(tmp_path / "b.h5")
    assert found.filters == ("gzip",)
    assert (found.labels, found.unlabelled) == (None, 1)


def test_a_long_archive_is_sampled_from_end_to_end(tmp_path, encoding):
    crops = [np.full((4, 4, 3), row % 251, dtype=np.uint8) for row in range(700)]
    write_archive(tmp_path / "a.h5", MemoryCells(crops), encoding=encoding)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        sums = file["crc32"][:]
        sums[[0, 300, 699]] ^= 1
        file["crc32"][...] = sums
    found = inspect_archive(tmp_path / "a.h5")
    assert found.sampled == 256
    assert set(found.unusable) >= {0, 699}


def test_a_contact_sheet_shows_crops_with_row_and_label(archive):
    sheet = draw_contact_sheet(archive, crops=6, columns=3)
    assert sheet.width > 3 * 10
    assert sheet.height > 2 * 12


def test_a_contact_sheet_of_damaged_crops_is_refused(archive):
    with h5py.File(archive, "r+") as file:
        file["crc32"][...] = file["crc32"][:] ^ 1
    with pytest.raises(ArchiveError, match="no crop that can be shown"):
        draw_contact_sheet(archive)


def test_a_contact_sheet_leaves_out_damaged_crops_and_missing_labels(tmp_path):
    write_archive(tmp_path / "a.h5", MemoryCells([draw(seed=seed) for seed in range(3)]))
    whole = draw_contact_sheet(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        sums = file["crc32"][:]
        sums[1] ^= 1
        file["crc32"][...] = sums
    assert draw_contact_sheet(tmp_path / "a.h5").width < whole.width
