import io
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from PIL import Image

from cytodino.archive import open_archive
from cytodino.taxonomy import index_of
from cytodino_batch.classification import Classification
from cytodino_batch.extras import extra_files, name_extras
from cytodino_batch.options import ClassifyOptions
from cytodino_batch.review import ReviewCell
from cytodino_batch.review_sheet import COLUMNS, LEAST_WIDTH, MOST_SHOWN, draw_review_sheet

from .conftest import write_crops

COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (90, 90, 10)]


@pytest.fixture
def archive(tmp_path):
    crops = [np.full((20, 30, 3), colour, np.uint8) for colour in COLOURS]
    return write_crops(tmp_path / "a.h5", crops, damaged=[3])


def cell(row: int) -> ReviewCell:
    return ReviewCell(
        row=row, id=str(row), x=None, y=None, label="BLA", confidence=0.4, runner_up="MON",
        reason="critical class, doubtful",
    )  # fmt: skip


def draw(path, rows):
    with open_archive(path) as opened:
        return draw_review_sheet(opened, [cell(row) for row in rows])


def writer(archive, **read):
    """The writer of the sheet of an archive that is read with these options."""
    header = SimpleNamespace(extras=("review.png",), provenance=SimpleNamespace(read=read))
    (write,) = extra_files(header, archive).values()
    return write


def positions(sheet: Image.Image) -> dict[tuple[int, int, int], int]:
    """Leftmost pixel of each colour that is large on the sheet."""
    pixels = np.asarray(sheet)
    found = {}
    for colour in COLOURS:
        columns = np.flatnonzero((pixels == colour).all(axis=2).sum(axis=0) == 20)
        if columns.size == 30:
            found[colour] = int(columns[0])
    return found


def test_cells_stand_in_the_order_given_as_the_model_got_them(archive):
    found = positions(draw(archive, [2, 0, 1]))
    assert sorted(found, key=found.__getitem__) == [COLOURS[2], COLOURS[0], COLOURS[1]]


def test_a_small_crop_has_room_for_its_caption(archive):
    found = positions(draw(archive, [0, 1]))
    assert found[COLOURS[1]] - found[COLOURS[0]] >= LEAST_WIDTH


def test_a_crop_that_cannot_be_read_keeps_its_place(archive):
    assert draw(archive, [0, 3, 1]).size == draw(archive, [0, 2, 1]).size
    assert set(positions(draw(archive, [0, 3, 1]))) == {COLOURS[0], COLOURS[1]}


def test_nothing_to_review_is_said(archive):
    sheet = draw(archive, [])
    assert sheet.width >= LEAST_WIDTH
    assert np.asarray(sheet).min() < 255  # the words


def test_the_file_shows_the_worst_cells_and_is_the_same_again(tmp_path, archive):
    write = writer(archive)
    logits = np.zeros((3, 21), np.float32)
    logits[:, index_of("BLA")] = [9, 1, 5]
    result = Classification(np.arange(3), logits, (), ["a", "b", "c", "d"], None, 0.5)
    for name in ("one", "two"):
        write(tmp_path / name, result, {})
    data = (tmp_path / "one").read_bytes()
    assert data == (tmp_path / "two").read_bytes()
    found = positions(Image.open(io.BytesIO(data)))
    assert sorted(found, key=found.__getitem__) == [COLOURS[1], COLOURS[2], COLOURS[0]]


def test_a_sheet_is_bounded(tmp_path):
    crops = [np.full((90, 9, 3), 50, np.uint8)] * (MOST_SHOWN + 1)
    path = write_crops(tmp_path / "many.h5", crops)
    write = writer(path)
    n = len(crops)
    logits = np.zeros((n, 21), np.float32)
    write(tmp_path / "p", Classification(np.arange(n), logits, (), ["x"] * n, None, 0.5), {})
    with Image.open(tmp_path / "p") as sheet:
        rows = MOST_SHOWN // COLUMNS
        assert rows * 90 < sheet.height < (rows + 1) * 110


@pytest.mark.parametrize(
    "asked",
    [{}, {"parquet": True}, {"review_sheet": True}, {"parquet": True, "review_sheet": True}],
)
def test_what_is_written_is_what_was_asked_for(tmp_path, asked):
    options = ClassifyOptions(archives=(), bundle=tmp_path, out=tmp_path, **asked)
    names = {"parquet": "predictions.parquet", "review_sheet": "review.png"}
    assert name_extras(options) == tuple(names[option] for option in asked)


def test_the_archive_is_read_as_it_was_classified(tmp_path):
    crops = np.full((1, 20, 30, 3), COLOURS[0], np.uint8)
    with h5py.File(tmp_path / "bgr.h5", "w") as file:
        file["cells"] = crops[..., ::-1]
    write = writer(tmp_path / "bgr.h5", dataset="cells", channel_order="bgr")
    result = Classification(np.arange(1), np.zeros((1, 21), np.float32), (), ["x"], None, 0.5)
    write(tmp_path / "p", result, {})
    with Image.open(tmp_path / "p") as sheet:
        assert set(positions(sheet)) == {COLOURS[0]}
