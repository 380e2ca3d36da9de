import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cytodino.errors import EngineError
from cytodino_export import speed
from cytodino_export.chain import VariantResult
from cytodino_export.pipeline import ExportResult
from cytodino_export.speed import ROUNDS, compare_speeds

MODELS = {name: Path(f"model.{name}.onnx") for name in ("fp32", "fp16", "int8")}
CROPS = [np.zeros((4, 4, 3), np.uint8)] * 9 + [np.zeros((5, 4, 3), np.uint8)]


class Clock:
    """Engines whose calls take as long as their variant says, and a record of the calls."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self.now = 0.0
        self.calls: list[str] = []

    def open(self, model: Path, *, engine: str, variant: str, device: str, provider: str) -> Any:
        def logits(batch: np.ndarray) -> None:
            assert batch.shape == (8, 4, 4, 3)
            self.calls.append(variant)
            self.now += self.seconds[variant]

        return _Engine(logits)


class _Engine(SimpleNamespace):
    def __init__(self, logits: Any) -> None:
        super().__init__(logits=logits)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *ended: object) -> None:
        pass


@pytest.fixture
def results(exported: ExportResult) -> tuple[VariantResult, ...]:
    """FP32 and INT8 on onnxruntime, as the gate found them."""
    return tuple(
        one.model_copy(update={"speed": None})
        for one in exported.chain.variants
        if one.verdict.engine == "onnxruntime" and one.variant in ("fp32", "int8")
    )


@pytest.mark.parametrize(("int8", "worth_it"), [(0.1, True), (0.4, False)])
def test_int8_is_worth_it_where_it_is_faster(
    results: tuple[VariantResult, ...],
    monkeypatch: pytest.MonkeyPatch,
    int8: float,
    worth_it: bool,
) -> None:
    clock = Clock({"fp32": 0.2, "int8": int8})
    monkeypatch.setattr(speed, "open_model", clock.open)
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    float32, quantised = compare_speeds(results, MODELS, CROPS)
    assert float32.speed is None
    found = quantised.speed
    assert found is not None
    assert found.worth_it == worth_it
    assert found.against == "fp32 on onnxruntime"
    assert found.images_per_second == pytest.approx(8 / int8)
    assert found.against_images_per_second == pytest.approx(40)
    assert len(clock.calls) == 2 * (ROUNDS + 1)
    assert all(set(clock.calls[i : i + 2]) == {"fp32", "int8"} for i in range(0, 12, 2))


def test_nothing_is_timed_without_both_and_a_failure_refuses_nothing(
    results: tuple[VariantResult, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compare_speeds(results[:1], MODELS, CROPS) == results[:1]

    def fail(*given: object, **options: object) -> None:
        raise EngineError("gone")

    monkeypatch.setattr(speed, "open_model", fail)
    assert compare_speeds(results, MODELS, CROPS) == results
