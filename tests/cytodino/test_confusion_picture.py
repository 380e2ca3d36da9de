import numpy as np
import pytest

from cytodino.confusion_picture import CELL, DARKEST, EMPTY_ROW, LEFT, RED, TOP, draw_confusion
from cytodino.taxonomy import N_CLASSES, index_of


def corner(image: np.ndarray, true: str, called: str) -> tuple[int, ...]:
    """A pixel inside the field, away from its figure and its outline."""
    row, column = index_of(true), index_of(called)
    return tuple(image[TOP + CELL * row + 7, LEFT + CELL * column + 7])


def edge(image: np.ndarray, true: str, called: str) -> tuple[int, ...]:
    row, column = index_of(true), index_of(called)
    return tuple(image[TOP + CELL * row + CELL // 2, LEFT + CELL * column])


@pytest.fixture
def image() -> np.ndarray:
    matrix = np.zeros((N_CLASSES, N_CLASSES), dtype=np.int64)
    matrix[index_of("BLA"), index_of("BLA")] = 3
    matrix[index_of("BLA"), index_of("LYT")] = 1
    matrix[index_of("LYT"), index_of("LYT")] = 4
    matrix[index_of("LYT"), index_of("BLA")] = 0
    matrix[index_of("MON"), index_of("BLA")] = 12345
    return np.asarray(draw_confusion(matrix, title="a title", subtitle="b " * 400))


def test_the_picture_is_of_a_legible_size(image: np.ndarray) -> None:
    assert 1000 <= image.shape[1] <= 1400
    assert 1000 <= image.shape[0] <= 1400


def test_shading_is_the_share_of_the_true_class(image: np.ndarray) -> None:
    all_of_it, three_quarters = corner(image, "LYT", "LYT"), corner(image, "BLA", "BLA")
    quarter, none = corner(image, "BLA", "LYT"), corner(image, "LYT", "MON")

    assert all_of_it == tuple(DARKEST)
    assert none == (255, 255, 255)
    assert all_of_it[0] < three_quarters[0] < quarter[0] < none[0]


def test_a_class_without_a_cell_is_told_from_one_that_was_never_confused(
    image: np.ndarray,
) -> None:
    assert corner(image, "ABE", "ABE") == EMPTY_ROW


def test_only_critical_cells_called_safe_are_outlined_in_red(image: np.ndarray) -> None:
    assert edge(image, "BLA", "LYT") == RED
    assert edge(image, "BLA", "BLA") != RED
    # A safe class called critical costs a look, not a diagnosis.
    assert edge(image, "MON", "BLA") != RED


def test_a_field_where_it_could_have_happened_is_marked_more_faintly(image: np.ndarray) -> None:
    row, column = index_of("MYB"), index_of("NGS")
    pixel = image[TOP + CELL * row + CELL // 2, LEFT + CELL * column + 2].astype(int)
    assert tuple(pixel) not in (RED, (255, 255, 255))
    assert pixel[0] > pixel[2]


def test_counts_are_written_in_their_fields(image: np.ndarray) -> None:
    def ink(true: str, called: str) -> int:
        row, column = index_of(true), index_of(called)
        left, top = LEFT + CELL * column + 6, TOP + CELL * row + 6
        field = image[top : top + CELL - 12, left : left + CELL - 12].reshape(-1, 3)
        return len(np.unique(field, axis=0))

    assert ink("BLA", "LYT") > 1
    assert ink("MON", "BLA") > 1
    assert ink("LYT", "BLA") == 1


def test_headings_that_are_too_long_end_before_the_edge(image: np.ndarray) -> None:
    assert (image[:90, -20:] == 255).all()
    assert (image[10:50, LEFT : LEFT + 100] < 128).any()
