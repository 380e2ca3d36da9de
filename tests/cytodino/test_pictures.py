import numpy as np
import pytest

from cytodino.errors import InputError
from cytodino.pictures import contact_sheet


def crop(grey: int, high: int = 40, wide: int = 40) -> np.ndarray:
    return np.full((high, wide, 3), grey, np.uint8)


def test_every_crop_stands_whole_in_its_row_and_column() -> None:
    sheet = np.asarray(contact_sheet([crop(10 * k) for k in range(1, 6)], ["x"] * 5, 3))
    assert sheet.shape[1] == 3 * 46 + 6
    for k in range(1, 6):
        rows, columns = np.nonzero((sheet == 10 * k).all(axis=2))
        spot = sheet[rows.min() : rows.min() + 40, columns.min() : columns.min() + 40]
        assert len(rows) >= 1600
        if k != 2:  # the ink of a caption has the grey of the second crop
            assert (spot == 10 * k).all()
    first = np.argwhere((sheet == 10).all(axis=2))[0]
    fourth = np.argwhere((sheet == 40).all(axis=2))[0]
    assert fourth[0] > first[0] + 40
    assert fourth[1] == first[1]


def test_a_caption_is_written_above_its_crop_and_an_empty_one_leaves_paper() -> None:
    with_words = np.asarray(contact_sheet([crop(200)], ["BLA"], 1))
    without = np.asarray(contact_sheet([crop(200)], [""], 1))
    assert (with_words < 100).any()
    assert not (without < 100).any()


def test_crops_of_different_sizes_share_a_sheet() -> None:
    sheet = contact_sheet([crop(9, 20, 60), crop(9, 50, 30)], ["", ""], 2)
    assert sheet.width == 2 * 66 + 6
    assert sheet.height > 50


@pytest.mark.parametrize(
    ("crops", "captions", "columns", "said"),
    [
        ([], [], 1, "0 crops"),
        ([crop(1)], ["a"], 0, "0 columns"),
        ([crop(1)], ["a", "b"], 1, "1 crops but 2 captions"),
    ],
)
def test_what_cannot_be_laid_out_is_refused(
    crops: list[np.ndarray], captions: list[str], columns: int, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        contact_sheet(crops, captions, columns)
