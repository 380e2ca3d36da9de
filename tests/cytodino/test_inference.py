from collections.abc import Sequence

import numpy as np
import pytest

from cytodino.cells import CellSource
from cytodino.engines.base import CheckedEngine, EngineDescription
from cytodino.errors import CropError, EngineError, InputError
from cytodino.inference import BATCHES_A_BLOCK, predict_cells

SIZES = ((4, 5), (6, 6), (4, 5), (3, 7))


class MarkedCells(CellSource):
    """Cell i has every pixel i, and a size that changes from cell to cell."""

    kind = "memory"

    def __init__(self, n: int, damaged: Sequence[int] = ()) -> None:
        self.ids = [f"cell {index}" for index in range(n)]
        self.labels = None
        self.damaged = damaged
        self.reads: list[int] = []

    def read(self, index: int) -> np.ndarray:
        if index in self.damaged:
            raise CropError("truncated", where=self.ids[index])
        self.reads.append(index)
        return np.full((*SIZES[index % len(SIZES)], 3), index, dtype=np.uint8)

    def encoded(self, index: int) -> bytes:
        return b""

    def checksum(self, index: int) -> int:
        return index


class MarkEngine(CheckedEngine):
    """Answers with the mark of the crop in the first logit."""

    name, variant, device = "mark", "fp32", "cpu"

    def __init__(self, broken_mark: int = -1) -> None:
        self.batches: list[tuple[int, ...]] = []
        self.broken_mark = broken_mark

    def _infer(self, crops: np.ndarray) -> np.ndarray:
        self.batches.append(crops.shape)
        logits = np.zeros((len(crops), 21), dtype=np.float32)
        logits[:, 0] = crops[:, 0, 0, 0]
        logits[crops[:, 0, 0, 0] == self.broken_mark, 7] = np.nan
        return logits

    def describe(self) -> EngineDescription:
        return EngineDescription(
            engine="mark", variant="fp32", device="cpu", provider="mark", version="1", options={}
        )

    def _release(self) -> None:
        pass


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_answers_come_in_the_order_that_was_asked_for(batch_size: int) -> None:
    indices = np.random.default_rng(0).permutation(90)[:61]
    engine = MarkEngine()

    logits = predict_cells(engine, MarkedCells(90), indices, batch_size=batch_size)

    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits[:, 0], indices)
    assert max(shape[0] for shape in engine.batches) <= batch_size


def test_crops_of_one_size_share_a_batch() -> None:
    engine = MarkEngine()
    predict_cells(engine, MarkedCells(16), range(16), batch_size=8)
    assert sorted(engine.batches) == [(4, 3, 7, 3), (4, 6, 6, 3), (8, 4, 5, 3)]


def test_few_crops_are_held_at_a_time() -> None:
    cells, reads_at_call = MarkedCells(100), []
    predict_cells(
        MarkEngine(),
        cells,
        range(100),
        batch_size=2,
        progress=lambda _: reads_at_call.append(len(cells.reads)),
    )
    assert reads_at_call[0] == 2 * BATCHES_A_BLOCK


def test_progress_counts_every_cell_once() -> None:
    counts: list[int] = []
    predict_cells(MarkEngine(), MarkedCells(50), range(3, 45), batch_size=4, progress=counts.append)
    assert sum(counts) == 42
    assert len(counts) > 5


def test_no_cells_give_no_answers() -> None:
    assert predict_cells(MarkEngine(), MarkedCells(3), []).shape == (0, 21)


def test_a_damaged_crop_is_an_error_with_its_name() -> None:
    with pytest.raises(CropError, match="cell 3: truncated"):
        predict_cells(MarkEngine(), MarkedCells(5, damaged=[3]), range(5))


def test_logits_that_are_not_finite_are_no_answer() -> None:
    with pytest.raises(EngineError, match="cell 6: .*not finite"):
        predict_cells(MarkEngine(broken_mark=6), MarkedCells(9), range(9), batch_size=2)


def test_a_batch_needs_a_crop() -> None:
    with pytest.raises(InputError, match="batch of 0"):
        predict_cells(MarkEngine(), MarkedCells(2), [0], batch_size=0)
