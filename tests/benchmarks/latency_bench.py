"""A bundle whose engines answer at once, and what `latency` finds of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cytodino.bundle.golden import Golden
from cytodino.engines.base import CheckedEngine, EngineDescription
from cytodino.engines.selection import Target
from cytodino.engines.tuned import Configuration
from cytodino.errors import EngineError, MissingExtraError
from cytodino_bench.cold_start import ColdStart
from cytodino_bench.latency_report import LatencyReport, Timing


class MeanEngine(CheckedEngine):
    """Logits that depend on the crop's mean, and a record of every call."""

    device = "cpu"

    def __init__(self, name: str, variant: str, calls: list[Any], wrong: bool = False) -> None:
        self.name, self.variant = name, variant
        self.calls, self.wrong = calls, wrong
        self.open = True

    def _infer(self, crops: np.ndarray) -> np.ndarray:
        self.calls.append((self.name, self.variant, crops[:, 0, 0, 0].copy()))
        return -answer(crops) if self.wrong else answer(crops)

    def describe(self) -> EngineDescription:
        return EngineDescription(
            engine=self.name,
            variant=self.variant,
            device="cpu",
            provider="CPUExecutionProvider",
            version="1",
            options={},
        )

    def _release(self) -> None:
        self.open = False


def answer(crops: np.ndarray) -> np.ndarray:
    means = crops.reshape(len(crops), -1).mean(axis=1, dtype=np.float64)
    return np.cos(means[:, None] * np.arange(1, 22) / 7).astype(np.float32)


def golden() -> Golden:
    """Ten crops of one size, each marked by its number, and one of another."""
    crops = [np.full((5, 4, 3), mark, dtype=np.uint8) for mark in range(10)]
    crops.insert(3, np.full((9, 9, 3), 200, dtype=np.uint8))
    reference = np.concatenate([answer(crop[None]) for crop in crops])
    return Golden(crops=crops, labels=None, ids=[], reference=reference, exported={})


START = ColdStart(
    load_s=0.5,
    first_result_s=0.75,
    load_again_s=None,
    first_result_again_s=None,
    peak_memory=3 * 2**20,
)


class Bench:
    """A bundle with the variants fp32 and int8, opened as engines that record their calls."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls: list[Any] = []
        self.engines: list[MeanEngine] = []
        self.wrong_variant = ""
        self.started: list[tuple[Configuration, int]] = []

    def open_subject(
        self, _: object, configuration: Configuration, *, reference: object
    ) -> MeanEngine:
        engine = MeanEngine(
            configuration.engine,
            configuration.variant,
            self.calls,
            configuration.variant == self.wrong_variant,
        )
        self.engines.append(engine)
        return engine

    def cold_start(
        self, _: object, configuration: Configuration, *, batch_size: int, **__: object
    ) -> ColdStart:
        if configuration.device == "cuda":
            raise EngineError("CUDA does not load")
        self.started.append((configuration, batch_size))
        return START


def targets(*devices: str) -> Callable[[str], list[Target]]:
    """Let onnxruntime alone be found, on these devices."""

    def found(engine: str) -> list[Target]:
        if engine != "onnxruntime":
            raise MissingExtraError(engine, engine)
        return [Target(engine, device, device) for device in devices]

    return found


def offline(report: LatencyReport) -> list[list[Timing]]:
    return [[t for t in one.timings if t.scenario == "offline"] for one in report.loaded]
