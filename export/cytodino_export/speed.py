"""Is INT8 worth it on this machine? Its variants against the best float one, calls by turns."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from cytodino.engines.base import Engine
from cytodino.engines.selection import open_model
from cytodino.engines.variants import file_of
from cytodino.errors import EngineError
from cytodino_export.chain import Speed, VariantResult

__all__ = ["compare_speeds"]

BATCH_SIZE = 8
ROUNDS = 5
"""Timed calls of each of the two; few, for the answer wanted is only which is faster."""


def compare_speeds(
    results: tuple[VariantResult, ...],
    models: Mapping[str, Path],
    crops: list[NDArray[np.uint8]],
    say: Callable[[str], None] = lambda text: None,
) -> tuple[VariantResult, ...]:
    """Time each INT8 variant that passed beside the float variant that was fastest in the gate.

    Two engines are open at a time, so that a large model's memory stays bounded.

    Parameters
    ----------
    results : what the gate found
    models : ONNX files by precision
    crops : uint8, (h, w, 3)
        Those of the most frequent size are used.
    say : callable

    Returns
    -------
    The results, those of INT8 with their speed where both run.
    """
    passed = [one for one in results if one.verdict.verdict == "passed" and one.links]
    floats = [one for one in passed if file_of(one.variant) != "int8"]
    int8 = [one for one in passed if file_of(one.variant) == "int8"]
    if not floats or not int8:
        return results
    best = min(floats, key=lambda one: one.links[0].seconds)
    say(f"timing INT8 beside {best.variant} on {best.verdict.engine}")
    batch = _batch(crops)
    try:
        with _open(best, models) as reference:
            timed = {id(one): _time(one, best, models, reference, batch) for one in int8}
    except EngineError:
        return results  # it passed a minute ago: a speed that cannot be had refuses nothing
    return tuple(one.model_copy(update={"speed": timed.get(id(one))}) for one in results)


def _time(
    one: VariantResult,
    best: VariantResult,
    models: Mapping[str, Path],
    reference: Engine,
    batch: NDArray[np.uint8],
) -> Speed:
    with _open(one, models) as candidate:
        calls: dict[bool, list[float]] = {True: [], False: []}
        for number in range(-1, ROUNDS):  # the first round warms up
            for is_candidate in (True, False) if number % 2 else (False, True):
                began = time.perf_counter()
                (candidate if is_candidate else reference).logits(batch)
                if number >= 0:
                    calls[is_candidate].append(time.perf_counter() - began)
    return Speed(
        images_per_second=round(len(batch) / median(calls[True]), 2),
        against=f"{best.variant} on {best.verdict.engine}",
        against_images_per_second=round(len(batch) / median(calls[False]), 2),
        batch_size=len(batch),
        rounds=ROUNDS,
    )


def _open(result: VariantResult, models: Mapping[str, Path]) -> Engine:
    assert result.description is not None
    return open_model(
        models[file_of(result.variant)],
        engine=result.verdict.engine,
        variant=result.variant,
        device=result.description.device,
        provider=result.verdict.provider,
    )


def _batch(crops: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    shapes = [crop.shape for crop in crops]
    most = max(set(shapes), key=lambda shape: (shapes.count(shape), shape))
    return np.stack([crop for crop in crops if crop.shape == most][:BATCH_SIZE])
