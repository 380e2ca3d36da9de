"""Golden cells: real crops with the PyTorch model's logits, to prove an engine on a machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytodino.bundle.folder import Bundle
from cytodino.engines.base import Engine, batched_logits
from cytodino.errors import BundleError, CropError
from cytodino.parity import ParityReport, compare

__all__ = ["GOLDEN_NAME", "Golden", "add_logits", "check_golden", "choose_golden", "load_golden"]

GOLDEN_NAME = "golden.h5"
GOLDEN_CELLS = 256
"""Enough to pass the least number of cells for a verdict, few enough for seconds on a CPU."""

BATCH_SIZE = 8
"""Crops in one call of a check; the gate measured other sizes."""


@dataclass(frozen=True)
class Golden:
    """The golden cells of a bundle, or the first of them."""

    crops: list[NDArray[np.uint8]]
    """Each (h, w, 3), RGB; sizes may differ."""
    labels: NDArray[np.int64] | None
    """int64 (n,), -1 where a cell has none."""
    ids: list[str]
    reference: NDArray[np.float32]
    """float32 (n, 21), PyTorch, FP32."""
    exported: Mapping[str, NDArray[np.float32]]
    """float32 (n, 21) by `variant.engine`: what each gave on the machine that exported it."""


def choose_golden(
    labels: NDArray[np.int64], *, seed: int, count: int = GOLDEN_CELLS
) -> NDArray[np.int64]:
    """Draw cells by class and seed, in turns, so that the first few already span the classes.

    Parameters
    ----------
    labels : int64, (n,)
        Class indices; cells without a label (-1) count as one class.
    seed : int
    count : int
        Cells to draw; all where there are fewer.

    Returns
    -------
    int64, (min(n, count),)
        Rows, without repetition: one of each class, then a second of each, and so on.
    """
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(len(labels))
    turn = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        rows = shuffled[labels[shuffled] == label]
        turn[rows] = np.arange(len(rows))
    order = shuffled[np.lexsort((labels[shuffled], turn[shuffled]))]
    return np.asarray(order[:count])


def add_logits(
    path: Path, reference: NDArray[np.float32], exported: Mapping[str, NDArray[np.float32]]
) -> None:
    """Write the logits of the golden cells beside their pixels.

    Parameters
    ----------
    path : Path
        `golden.h5`, already an archive of the cells.
    reference : float32, (n, 21)
    exported : float32 (n, 21) by `variant.engine`

    Raises
    ------
    OSError
        If the disk refuses.
    """
    from cytodino.archive.sink import writing_hdf5

    with writing_hdf5(path, "r+") as writing:
        file = writing.hdf5
        file.create_dataset("reference", data=reference, fletcher32=True)
        for name, logits in exported.items():
            file.create_dataset(f"exported/{name}", data=logits, fletcher32=True)


def load_golden(bundle: Bundle, *, cells: int | None = None) -> Golden:
    """Read a bundle's golden cells, or the first so many: they stand in turns of the classes.

    Raises
    ------
    BundleError
        If a cell or its logits cannot be read.
    """
    import h5py

    from cytodino.archive import open_archive

    path = bundle.path / GOLDEN_NAME
    if GOLDEN_NAME not in bundle.manifest.files:
        raise BundleError(f"has no {GOLDEN_NAME}", where=bundle.path, mend="export the run again")
    with h5py.File(path, "r") as file:
        reference = np.asarray(file["reference"][:cells], dtype=np.float32)
        kept = file.get("exported", {})
        exported = {name: np.asarray(kept[name][:cells], dtype=np.float32) for name in kept}
    n = len(reference)
    with open_archive(path) as archive:
        rows = archive.read(0, n)
        labels = None if archive.labels is None else np.asarray(archive.labels[:n])
        ids = [str(name) for name in (archive.ids or range(n))][:n]
    crops: list[NDArray[np.uint8]] = []
    for row in rows:
        if isinstance(row, CropError):
            raise BundleError(f"golden cell: {row.reason}", where=path, mend="copy it again")
        crops.append(row)
    return Golden(crops=crops, labels=labels, ids=ids, reference=reference, exported=exported)


def check_golden(
    bundle: Bundle,
    engine: Engine,
    *,
    cells: int | None = None,
    batch_size: int = BATCH_SIZE,
) -> ParityReport:
    """Hold an engine on this machine against the PyTorch model's own logits.

    Parameters
    ----------
    bundle : Bundle
    engine : Engine
        Opened for one of the bundle's variants.
    cells : int, optional
        Use the first so many golden cells; with few the verdict is at best `unproven`, and what
        counts is that it is not `failed`.
    batch_size : int

    Raises
    ------
    BundleError
        If the golden cells cannot be read, or the bundle has no limits for the variant.
    EngineError
        If the engine fails.
    ParityError
        If the engine gives logits that are not finite.
    """
    limits = bundle.manifest.limits.get(engine.variant)
    if limits is None:
        raise BundleError(
            f"has no limits for {engine.variant}", where=bundle.path, mend="export the run again"
        )
    golden = load_golden(bundle, cells=cells)
    logits = batched_logits(engine, golden.crops, batch_size)
    return compare(golden.reference, logits, limits, golden.labels)
