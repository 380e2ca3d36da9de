"""One contract over every engine and variant."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cytodino.engines.base import Engine, batched_logits
from cytodino.engines.pytorch import PyTorchEngine
from cytodino.engines.selection import open_model, targets_found, why_unproven
from cytodino.engines.variants import file_of
from cytodino.errors import EngineError

HERE = [
    (target.engine, variant)
    for target in targets_found()
    if target.device == "cpu"
    for variant in target.variants
    if why_unproven(target, variant) is None
]
"""Every engine and variant of this machine's CPU: the contract holds for each."""

CLOSE = {"fp32": 1e-5, "fp16": 0.01, "bf16": 0.03, "int8": 0.15, "int8-bf16": 0.15}
"""Most that a logit may differ from PyTorch's, in standard deviations of these."""

Opener = Callable[[dict[str, Path], Any], Engine]


def opener(engine: str, variant: str) -> Opener:
    return lambda files, module: open_model(
        files[file_of(variant)], engine=engine, variant=variant, device="cpu", threads=2
    )


OPENERS: dict[str, Opener] = {
    "pytorch-fp32": lambda files, module: PyTorchEngine(module),
    **{f"{engine}-{variant}": opener(engine, variant) for engine, variant in HERE},
}


@pytest.fixture(scope="module", params=list(OPENERS))
def engine(
    request: pytest.FixtureRequest, model_files: dict[str, Path], deployed: Any
) -> Iterator[Engine]:
    with OPENERS[request.param](model_files, deployed) as opened:
        yield opened


def test_every_cpu_engine_and_variant_is_held_to_the_contract() -> None:
    assert {"onnxruntime-fp32", "onnxruntime-int8", "onnxruntime-fp16"} <= set(OPENERS)
    assert {"openvino-fp32", "openvino-int8", "openvino-fp16"} <= set(OPENERS)


def draw(n: int, height: int = 40, width: int = 36, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


class TestContract:
    def test_it_gives_one_row_of_21_finite_logits_a_crop(self, engine: Engine) -> None:
        logits = engine.logits(draw(5))
        assert logits.shape == (5, 21)
        assert logits.dtype == np.float32
        assert np.isfinite(logits).all()
        assert len({row.tobytes() for row in logits}) == 5

    def test_engines_agree(self, engine: Engine, deployed: Any) -> None:
        reference = PyTorchEngine(deployed).logits(draw(5))
        change = np.abs(engine.logits(draw(5)) - reference).max()
        assert change < CLOSE[engine.variant] * max(1.0, float(reference.std()))

    def test_the_callers_array_stays_as_it_was_after_any_sequence_of_calls(
        self, engine: Engine
    ) -> None:
        first, second = draw(3), draw(3, seed=1)
        kept = first.copy(), second.copy()
        frozen = draw(2)
        frozen.setflags(write=False)
        for crops in (first, second, first[:1], frozen, second, first[::-1], first):
            engine.logits(crops)
        assert np.array_equal(first, kept[0])
        assert np.array_equal(second, kept[1])

    def test_each_answer_is_a_fresh_array(self, engine: Engine) -> None:
        crops = draw(3)
        first = engine.logits(crops)
        kept = first.copy()
        engine.logits(draw(3, seed=1))
        assert np.array_equal(first, kept)
        first[:] = 0
        assert np.array_equal(engine.logits(crops), kept)

    @pytest.mark.parametrize("shape", [(1, 1), (7, 5), (32, 32), (33, 64), (250, 250)])
    def test_it_takes_any_height_and_width(self, engine: Engine, shape: tuple[int, int]) -> None:
        assert np.isfinite(engine.logits(draw(2, *shape))).all()

    def test_a_crop_alone_says_the_same_as_in_a_batch(self, engine: Engine) -> None:
        crops = draw(9)
        batched = engine.logits(crops)
        alone = np.concatenate([engine.logits(crops[row : row + 1]) for row in range(9)])
        assert np.abs(batched - alone).max() <= 1e-5

    def test_a_batch_shuffled_says_the_same(self, engine: Engine) -> None:
        crops = draw(8)
        order = np.random.default_rng(3).permutation(8)
        assert np.abs(engine.logits(crops[order]) - engine.logits(crops)[order]).max() <= 1e-5

    def test_views_of_an_array_say_the_same_as_copies(self, engine: Engine) -> None:
        crops = draw(4, 80, 72)
        view = crops[::-1, ::2, ::2]
        assert np.array_equal(engine.logits(view), engine.logits(view.copy()))

    @pytest.mark.parametrize(
        "crops",
        [
            np.zeros((2, 8, 8, 3), dtype=np.float32),
            np.zeros((8, 8, 3), dtype=np.uint8),
            np.zeros((2, 3, 8, 8), dtype=np.uint8),
            np.zeros((2, 8, 8, 4), dtype=np.uint8),
            np.zeros((0, 8, 8, 3), dtype=np.uint8),
            np.zeros((2, 0, 8, 3), dtype=np.uint8),
            [[1, 2, 3]],
        ],
        ids=["float", "3-D", "NCHW", "four channels", "no crop", "no row", "list"],
    )
    def test_other_types_and_shapes_are_refused(self, engine: Engine, crops: Any) -> None:
        with pytest.raises(EngineError, match="uint8 array|shape"):
            engine.logits(crops)

    def test_it_says_what_computes(self, engine: Engine) -> None:
        found = engine.describe()
        assert (found.engine, found.variant) == (engine.name, engine.variant)
        assert found.device == "cpu"
        assert found.version
        assert found.options["tf32"] is False

    def test_crops_of_mixed_sizes_keep_their_order(self, engine: Engine) -> None:
        crops = [*draw(3), *draw(3, 20, 50), *draw(2)]
        seen: list[int] = []
        logits = batched_logits(engine, crops, 2, seen.append)
        alone = np.concatenate([engine.logits(crop[None]) for crop in crops])
        assert np.abs(logits - alone).max() <= 1e-5
        assert sum(seen) == 8


@pytest.mark.parametrize("name", list(OPENERS))
def test_a_closed_engine_says_so_and_closes_twice(
    name: str, model_files: dict[str, Path], deployed: Any
) -> None:
    engine = OPENERS[name](model_files, deployed)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.logits(draw(1))
    assert isinstance(engine, Engine)
