from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytodino.archive import open_archive, write_archive
from cytodino.cells import open_cells

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data"

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not DATA.is_dir(), reason="the real images of ../shared/data are not here"),
]


@pytest.mark.parametrize(("name", "sizes"), [("bmc", 1), ("pbc", 3)])
def test_real_files_come_back_to_the_byte_and_the_pixel(tmp_path, name, sizes):
    cells = open_cells(DATA / name)
    chosen = cells.subset(range(0, len(cells), 3))
    written = write_archive(tmp_path / "a.h5", chosen)
    assert len(written.sizes) == sizes
    with open_archive(tmp_path / "a.h5") as opened:
        assert opened.ids == chosen.ids
        assert opened.labels.tolist() == chosen.labels.tolist()
        for row, crop in enumerate(opened.read(0, opened.n)):
            data = chosen.where(row).read_bytes()
            assert opened.encoded(row) == data
            np.testing.assert_array_equal(crop, np.array(Image.open(BytesIO(data))))
