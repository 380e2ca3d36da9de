import numpy as np
import pytest

from cytodino.errors import EngineError
from cytodino_batch.batch_size import CANDIDATES, BatchChoice, fixed_batch_size, measure_batch_size

from .conftest import PixelEngine, draw_crops


class Timed(PixelEngine):
    """Takes time by its own clock: so much a call, and so much a crop."""

    def __init__(self, *, device="cpu", call=0.0, crop=0.001, room=10_000):
        super().__init__()
        self.device = device
        self.now = 0.0
        self._call, self._crop, self._room = call, crop, room

    def _infer(self, crops):
        if len(crops) > self._room:
            raise EngineError("out of memory")
        self.now += self._call + self._crop * len(crops)
        return super()._infer(crops)


def choose(engine, crops=None, **options):
    cells = crops or draw_crops(40)
    return measure_batch_size(engine, cells, clock=lambda: engine.now, **options)


def test_calls_that_cost_much_want_large_batches():
    choice = choose(Timed(call=0.02))
    assert choice.size == 32
    assert [size for size, _ in choice.rates] == list(CANDIDATES["cpu"])
    assert choice.sentence().startswith("batches of 32 (crops/s by batch: 4: 166.7, 8: ")


def test_of_rates_that_hardly_differ_the_smallest_batch_is_taken():
    assert choose(Timed(call=0.0001)).size == 4


def test_a_slow_engine_is_not_tried_beyond_the_budget():
    engine = Timed(crop=0.25)
    choice = choose(engine)
    assert choice.size == 4
    assert engine.now <= 6


def test_a_size_that_there_is_no_memory_for_ends_the_trial():
    choice = choose(Timed(device="cuda", call=1e-2, crop=1e-4, room=100))
    assert choice.size == 64
    assert [size for size, _ in choice.rates] == [32, 64]


def test_where_the_smallest_is_too_much_it_is_halved():
    assert choose(Timed(device="cuda", room=9)) == BatchChoice(8)


def test_an_engine_that_fails_on_one_crop_fails():
    with pytest.raises(EngineError, match="out of memory"):
        choose(Timed(room=0))


def test_crops_of_the_commonest_size_are_used():
    engine = Timed()
    crops = [np.zeros((5, 5, 3), np.uint8), *[np.zeros((9, 7, 3), np.uint8)] * 2]
    choose(engine, crops)
    assert {shape[1:3] for shape in engine.batches} == {(9, 7)}


@pytest.mark.parametrize(("device", "size"), [("cpu", 8), ("cuda", 64)])
def test_the_fixed_batch_size_goes_by_device(device, size):
    assert fixed_batch_size(device) == size
