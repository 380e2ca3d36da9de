"""Archives and engines small enough to reason about."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from zlib import crc32

import h5py
import numpy as np
import pytest
from PIL import Image

from cytodino.engines.base import CheckedEngine, EngineDescription
from cytodino.limits import LIMITS
from cytodino_batch.batch_size import BatchChoice
from cytodino_batch.session import Session
from cytodino_batch.summary import Comparison

SIZES = ((12, 12), (16, 10), (9, 20))


class PixelEngine(CheckedEngine):
    """Logits that depend on a crop's own pixels alone, and remembers the batches it got."""

    name = "onnxruntime"
    variant = "fp32"
    device = "cpu"

    def __init__(self, *, shift: float = 0.0, fail_from: int | None = None) -> None:
        self.batches: list[tuple[int, ...]] = []
        self._weights = np.random.default_rng(5).normal(size=(3, 21))
        self._shift = shift
        self._fail_from = fail_from

    def _infer(self, crops: np.ndarray) -> np.ndarray:
        self.batches.append(crops.shape)
        if self._fail_from is not None and len(self.batches) > self._fail_from:
            raise KeyboardInterrupt
        means = [crop.mean(axis=(0, 1)) / 32 for crop in crops.astype(np.float64)]
        logits = np.stack([mean @ self._weights for mean in means])  # (n, 21)
        logits[:, 3] += self._shift
        white = (crops == 255).all(axis=(1, 2, 3))
        logits[white] = np.nan
        return logits.astype(np.float32)

    def describe(self) -> EngineDescription:
        return EngineDescription(
            engine=self.name,
            variant=self.variant,
            device=self.device,
            provider="CPUExecutionProvider",
            version="1.0",
            options={"threads": 1},
        )

    def _release(self) -> None:
        pass


def draw_crops(n: int, *, seed: int = 0) -> list[np.ndarray]:
    """Crops of three sizes, in no order, whose mean colours differ."""
    generator = np.random.default_rng(seed)
    crops = []
    for _ in range(n):
        height, width = SIZES[generator.integers(len(SIZES))]
        noise = generator.integers(0, 40, (height, width, 3))
        crops.append((generator.integers(0, 200, 3) + noise).astype(np.uint8))
    return crops


def write_crops(
    path: Path,
    crops: Sequence[np.ndarray],
    *,
    damaged: Sequence[int] = (),
    ids: Sequence[str] | None = None,
    coords: np.ndarray | None = None,
) -> Path:
    """Write an archive of PNG files; the checksums of damaged rows do not fit."""
    files = []
    for crop in crops:
        buffer = io.BytesIO()
        Image.fromarray(crop).save(buffer, format="PNG")
        files.append(buffer.getvalue())
    sums = np.array([crc32(data) for data in files], dtype=np.uint32)
    sums[list(damaged)] ^= 1
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        mark = np.bytes_(b"cytodino-archive")
        file.attrs.update({"format": mark, "version": 1, "slide": np.bytes_(b"S-7")})
        file["bytes"] = np.frombuffer(b"".join(files), dtype=np.uint8)
        file["offsets"] = np.cumsum([0, *(len(data) for data in files)])
        file["crc32"] = sums
        if ids is not None:
            file["ids"] = np.array(ids, dtype=h5py.string_dtype())
        if coords is not None:
            file["coords"] = coords
    return path


@pytest.fixture
def crops() -> list[np.ndarray]:
    return draw_crops(150)


@pytest.fixture
def make_session() -> Callable[..., Session]:
    def build(
        engine: CheckedEngine | None = None, *, batch_size: int = 4, **changes: object
    ) -> Session:
        bundle = SimpleNamespace(
            path=Path("bundle"), sha256="b" * 64, manifest=SimpleNamespace(limits=dict(LIMITS))
        )
        settings: dict[str, object] = {
            "bundle": bundle,
            "engine": engine or PixelEngine(),
            "batch": BatchChoice(batch_size),
            "golden": Comparison(
                cells=32,
                verdict="unproven",
                failures=(),
                logit_max=1e-6,
                probability_max=1e-7,
                agreement=1.0,
                flips=0,
                critical_flips=0,
                limits=LIMITS["fp32"],
            ),
        }
        return Session(**(settings | changes))  # type: ignore[arg-type]  # fakes on purpose

    return build
