"""The one interface of every engine, and the checks that hold for all of them.

Contract: `crops` are uint8 (n, h, w, 3), RGB, n >= 1, any h and w; the caller's array is never
changed; the logits are a fresh float32 array (n, 21).
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cytodino.errors import EngineError
from cytodino.taxonomy import N_CLASSES

__all__ = [
    "CheckedEngine",
    "Engine",
    "EngineDescription",
    "batched_logits",
    "check_crops",
    "gather_batches",
]


class EngineDescription(BaseModel):
    """What computed a result: part of its provenance."""

    model_config = ConfigDict(frozen=True)

    engine: str
    """onnxruntime, openvino or pytorch."""
    variant: str
    """fp32, bf16, fp16, int8 or int8-bf16."""
    device: str
    """cpu or cuda."""
    provider: str
    """The engine's own name for what computes, as found after opening, not as asked for."""
    version: str
    options: dict[str, str | int | bool]
    warnings: tuple[str, ...] = ()


@runtime_checkable
class Engine(Protocol):
    """One model, opened for inference on one device."""

    name: str
    variant: str
    device: str

    def logits(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Classify crops, uint8 (n, h, w, 3) RGB, into fresh float32 logits (n, 21).

        Raises
        ------
        EngineError
            If the crops are of another type or shape, the engine is closed, or it fails.
        """
        ...

    def describe(self) -> EngineDescription:
        """Say what computes: engine, variant, device, provider, version, options, warnings."""
        ...

    def close(self) -> None:
        """Let go of memory and device; closing twice does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class CheckedEngine(ABC):
    """Base of the engines here: checks what goes in and what comes out."""

    name: str
    variant: str
    device: str
    _closed = False

    def logits(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Classify crops, uint8 (n, h, w, 3) RGB, into fresh float32 logits (n, 21).

        Raises
        ------
        EngineError
            If the crops are of another type or shape, the engine is closed, or it fails.
        """
        if self._closed:
            raise EngineError(f"this {self.name} engine is closed", mend="open it again")
        check_crops(crops)
        logits = self._infer(crops)
        if logits.shape != (len(crops), N_CLASSES) or logits.dtype != np.float32:
            raise EngineError(
                f"{self.name} gave {logits.dtype} {logits.shape} for {len(crops)} crops, "
                f"not float32 ({len(crops)}, {N_CLASSES})",
                mend="export the run again",
            )
        return logits

    def close(self) -> None:
        """Let go of memory and device; closing twice does nothing."""
        if not self._closed:
            self._closed = True
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def describe(self) -> EngineDescription:
        """Say what computes: engine, variant, device, provider, version, options, warnings."""

    @abstractmethod
    def _infer(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits of checked crops; must not write to them nor keep them."""

    @abstractmethod
    def _release(self) -> None:
        """Drop what the engine holds."""


def check_crops(crops: Any) -> None:
    """Refuse what is not a uint8 array (n, h, w, 3) with at least one crop and one pixel.

    Raises
    ------
    EngineError
        With the type and shape that was found.
    """
    if not isinstance(crops, np.ndarray) or crops.dtype != np.uint8:
        found = crops.dtype if isinstance(crops, np.ndarray) else type(crops).__name__
        raise EngineError(f"crops are {found}", mend="give them as a uint8 array (n, h, w, 3)")
    if crops.ndim != 4 or crops.shape[3] != 3 or 0 in crops.shape:
        raise EngineError(
            f"crops have the shape {crops.shape}", mend="give them as (n, h, w, 3), n, h, w >= 1"
        )


def gather_batches(
    crops: Sequence[NDArray[np.uint8]], batch_size: int
) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
    """Put crops of one size together, in batches, in the order in which the sizes first occur.

    Parameters
    ----------
    crops : sequence of uint8 (h, w, 3)
    batch_size : int
        Most crops in one batch, at least 1.

    Yields
    ------
    list of int, uint8 (k, h, w, 3)
        Positions in `crops`, and their pixels: a view where they lie one after the other in one
        array already, as rows of a slice do, else a copy.
    """
    by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, crop in enumerate(crops):
        by_shape[crop.shape].append(index)
    for indices in by_shape.values():
        for start in range(0, len(indices), batch_size):
            batch = indices[start : start + batch_size]
            yield batch, _stack([crops[index] for index in batch])


def _stack(crops: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Crops of one shape as one array (k, h, w, 3)."""
    first, owner = crops[0], crops[0].base
    if isinstance(owner, np.ndarray) and owner.flags.c_contiguous:
        offset, size = _address(first) - _address(owner), first.nbytes
        if all(
            crop.base is owner
            and crop.flags.c_contiguous
            and _address(crop) - _address(owner) == offset + at * size
            for at, crop in enumerate(crops)
        ):
            shape = (len(crops), *first.shape)
            return np.ndarray(shape, first.dtype, buffer=owner.data, offset=offset)
    return np.stack(crops)


def _address(array: NDArray[np.uint8]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def batched_logits(
    engine: Engine,
    crops: Sequence[NDArray[np.uint8]],
    batch_size: int,
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Classify crops of any sizes, each size in batches of its own.

    Parameters
    ----------
    engine : Engine
    crops : sequence of uint8 (h, w, 3)
    batch_size : int
        Most crops in one call, at least 1.
    progress : callable, optional
        Called with the number of crops just done, after each batch.

    Returns
    -------
    float32, (n, 21)
        In the order of the crops.
    """
    logits = np.empty((len(crops), N_CLASSES), dtype=np.float32)
    for indices, batch in gather_batches(crops, batch_size):
        logits[indices] = engine.logits(batch)
        if progress is not None:
            progress(len(indices))
    return logits
