"""A run becomes a bundle, whole and proven, or nothing."""

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytodino.bundle.manifest import SCHEMA_VERSION
from cytodino.engines.selection import targets_found
from cytodino.errors import ExportError, MissingExtraError
from cytodino.limits import LIMITS, Limits
from cytodino.machine import describe_machine
from cytodino.run import Run, open_run
from cytodino_export.assembly import Parts, assemble
from cytodino_export.deploy import fold
from cytodino_export.gate import Candidate, Gate, Link, ParityChain
from cytodino_export.gate_cells import GateCells, choose_cells
from cytodino_export.licence import licence_of
from cytodino_export.merge import load_unmerged, logits_of, merge
from cytodino_export.onnx_graph import write_graph

__all__ = ["ExportOptions", "ExportResult", "export_run"]

SEED = 0
"""Draws golden and acceptance cells; recorded in the manifest."""


@dataclass(frozen=True)
class ExportOptions:
    """What an export is asked for."""

    precisions: tuple[str, ...] = ("fp32",)
    data: Path | None = None
    """Cells in place of those that the run was trained on."""
    golden: Path | None = None
    """Cells in place of the run's for the golden ones."""
    allow_failing: bool = False
    """Keep a refused bundle for study, marked unusable."""
    max_cells: int = 2_000
    """Most acceptance cells."""
    limits: Mapping[str, Limits] = field(default_factory=lambda: LIMITS)


@dataclass(frozen=True)
class ExportResult:
    """What came of an export."""

    bundle: Path | None
    """None where it was refused and not kept."""
    chain: ParityChain
    refused: str | None
    """Why, as a sentence; None where every requested precision has an engine that passes."""


def export_run(
    run_path: Path,
    out: Path,
    options: ExportOptions | None = None,
    *,
    say: Callable[[str], None] = lambda text: None,
) -> ExportResult:
    """Merge, fold, export, measure; write the bundle if it holds.

    Parameters
    ----------
    run_path : Path
        The folder that `cytodino train` wrote.
    out : Path
        The bundle; must not exist.
    options : ExportOptions, optional
    say : callable
        Told what is being done.

    Raises
    ------
    ExportError
        If `out` exists or cannot be written, or the graph cannot be made.
    MissingPathError, InputError
        If the run, its backbone or its cells are gone or have changed.
    MergeError
        If adapter and backbone do not fit each other.
    MissingExtraError
        If no engine is installed.
    ParityError
        If PyTorch itself gives logits that are not finite.
    """
    options = options or ExportOptions()
    _require_free(out)
    _require_libraries()
    run = open_run(run_path)
    say("reading cells")
    cells = choose_cells(
        run,
        data=options.data,
        golden=options.golden,
        max_cells=options.max_cells,
        seed=SEED,
    )
    with _beside(out) as folder:
        parts = _measure(run, folder, cells, options, say)
        refused = _refusal(parts.chain, options.precisions)
        if refused is not None and not options.allow_failing:
            return ExportResult(None, parts.chain, refused)
        say("writing the bundle")
        assemble(folder, run, cells, parts)
        _require_free(out)
        os.rename(folder, out)
    return ExportResult(out, parts.chain, refused)


def _measure(
    run: Run,
    folder: Path,
    cells: GateCells,
    options: ExportOptions,
    say: Callable[[str], None],
) -> Parts:
    limits = options.limits["fp32"]
    machine = describe_machine()
    say(f"PyTorch, adapter not merged, on {len(cells.crops)} cells")
    model = load_unmerged(run)
    reference = logits_of(model, cells.crops)
    gate = Gate(cells, reference, machine, say)

    say("merging and folding")
    merged = merge(model)
    first, merged_logits = gate.link(
        ("unmerged", "merged"), cells.golden, lambda crops: logits_of(merged, [*crops]), limits
    )
    folded = fold(merged)
    second, _ = gate.link(
        ("merged", "folded"),
        cells.golden,
        lambda crops: logits_of(folded, [*crops]),
        limits,
        reference=merged_logits,
    )
    say("exporting fp32")
    model_path = write_graph(
        folded,
        folder / "model.fp32.onnx",
        image_size=run.manifest.image_size,
        metadata=_graph_metadata(run),
    )
    candidates = gate.judge(model_path, "fp32", limits)
    chain = _chain(gate, (first, second), candidates)
    return Parts(
        models={"fp32": model_path},
        chain=chain,
        reference=reference[cells.golden.rows],
        exported=_golden_logits(candidates),
        limits={"fp32": limits},
        options={
            "precisions": list(options.precisions),
            "data": None if options.data is None else str(options.data),
            "golden": None if options.golden is None else str(options.golden),
            "allow_failing": options.allow_failing,
            "max_cells": options.max_cells,
            "seed": SEED,
        },
    )


def _chain(gate: Gate, links: tuple[Link, ...], candidates: list[Candidate]) -> ParityChain:
    groups = (gate.cells.acceptance, gate.cells.golden, gate.cells.odd)
    return ParityChain(
        machine=gate.machine,
        cells={group.name: len(group.rows) for group in groups},
        links=links,
        variants=tuple(candidate.result for candidate in candidates),
    )


def _golden_logits(candidates: list[Candidate]) -> dict[str, NDArray[np.float32]]:
    """Each variant's own logits by `variant.engine`; the CPU's where both devices ran."""
    return {
        f"{candidate.result.variant}.{candidate.result.verdict.engine}": candidate.golden
        for candidate in candidates
        if candidate.golden is not None
    }


def _refusal(chain: ParityChain, precisions: tuple[str, ...]) -> str | None:
    """Say why the bundle is refused: a broken link, or a requested precision that never passes."""
    broken = chain.broken
    if broken is not None:
        reasons = "; ".join(broken.report.failures)
        return f"{broken.candidate} strays from {broken.reference}: {reasons}"
    for precision in precisions:
        if not chain.usable(precision):
            results = [result for result in chain.variants if result.variant == precision]
            found = "; ".join(
                f"{result.verdict.verdict} on {result.verdict.engine} "
                f"({', '.join(result.verdict.reasons)})"
                for result in results
            )
            return f"{precision} passes on no engine: {found}"
    return None


def _graph_metadata(run: Run) -> dict[str, Any]:
    manifest = run.manifest
    return {
        "cytodino.schema_version": str(SCHEMA_VERSION),
        "cytodino.classes": list(manifest.classes),
        "cytodino.image_size": str(manifest.image_size),
        "cytodino.preprocessing": {
            "input": "crops, uint8, (n, h, w, 3), RGB; resized and normalised inside",
            "mean": list(manifest.mean),
            "std": list(manifest.std),
        },
        "cytodino.licence": licence_of(run),
    }


def _require_libraries() -> None:
    """Say what is not installed before any work is done."""
    targets_found()
    for name in ("peft", "onnx", "onnxscript"):
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(name, "export")


def _require_free(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise ExportError("already exists", where=out, mend="choose another --out, or remove it")


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """Give a folder beside `out` that is gone in the end unless it was renamed."""
    folder = out.parent / f".{out.name}.{os.getpid()}.partial"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ExportError(
            f"cannot be written ({error.strerror})", where=out, mend="choose another --out"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
