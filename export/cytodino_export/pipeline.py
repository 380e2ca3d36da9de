"""A run becomes a bundle, whole and proven, or nothing."""

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytodino.calibration.file import Confidence
from cytodino.engines.onnxruntime import import_onnxruntime
from cytodino.engines.selection import targets_found
from cytodino.errors import ExportError, MissingExtraError
from cytodino.limits import Limits
from cytodino.machine import describe_machine
from cytodino.run import Run, open_run
from cytodino_export.assembly import Parts, assemble, graph_metadata
from cytodino_export.chain import Link, ParityChain
from cytodino_export.confidence import Calibrator, choose_calibrator
from cytodino_export.deploy import fold
from cytodino_export.gate import Candidate, Gate
from cytodino_export.gate_cells import GateCells, choose_cells
from cytodino_export.lowering import Lowered, judge_file, lower
from cytodino_export.merge import load_unmerged, logits_of, merge
from cytodino_export.onnx_graph import write_graph
from cytodino_export.options import SEED, ExportOptions
from cytodino_export.parity_page import Evidence
from cytodino_export.partial_folder import partial_folder
from cytodino_export.quantisation_cells import CellSet, choose_quantisation_cells
from cytodino_export.refusal import clear_report, keep_report
from cytodino_export.speed import compare_speeds

__all__ = ["ExportOptions", "ExportResult", "export_run"]


@dataclass(frozen=True)
class ExportResult:
    """What came of an export."""

    bundle: Path | None
    """None where it was refused and not kept."""
    chain: ParityChain
    refused: str | None
    """Why, as a sentence; None where every requested precision has an engine that passes."""
    report: Path | None = None
    """Folder of the report of an export that was refused and not kept."""
    confidence: Confidence | None = None
    """What was found of each variant's confidence; None where it is not calibrated."""


def export_run(
    run_path: Path,
    out: Path,
    options: ExportOptions | None = None,
    *,
    say: Callable[[str], None] = lambda text: None,
) -> ExportResult:
    """Merge, fold, export, measure; write the bundle if it holds, else its report alone.

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
        If no engine is installed, or a library that a precision needs is missing.
    ParityError
        If PyTorch itself gives logits that are not finite.
    """
    options = options or ExportOptions()
    _require_free(out)
    _require_libraries(options.wanted)
    clear_report(out)
    run = open_run(run_path)
    say("reading cells")
    cells = choose_cells(
        run,
        data=options.data,
        golden=options.golden,
        max_cells=options.max_cells,
        seed=SEED,
    )
    sets = _choose_sets(run, cells, options)
    calibrator = choose_calibrator(run, cells, options, seed=SEED, say=say)
    with partial_folder(out) as folder:
        parts = _measure(run, folder, cells, sets, calibrator, options, say)
        refused = _refusal(parts.chain, options.required)
        if refused is not None and not options.allow_failing:
            report = keep_report(folder, out, run, cells, parts, refused, say)
            return ExportResult(None, parts.chain, refused, report)
        say("writing the bundle")
        assemble(folder, run, cells, parts)
        _require_free(out)
        os.rename(folder, out)
    return ExportResult(out, parts.chain, refused, confidence=parts.confidence)


Sets = tuple[CellSet, CellSet]


def _choose_sets(run: Run, cells: GateCells, options: ExportOptions) -> Sets | None:
    """Choose cells to calibrate and to tune with, where any precision needs them."""
    if options.wanted == ("fp32",):
        return None
    return choose_quantisation_cells(
        run,
        cells,
        calibration=options.calibration,
        sizes=(options.calibration_cells, options.tuning_cells),
        seed=SEED,
    )


def _measure(
    run: Run,
    folder: Path,
    cells: GateCells,
    sets: Sets | None,
    calibrator: Calibrator | None,
    options: ExportOptions,
    say: Callable[[str], None],
) -> Parts:
    limits = options.limits["fp32"]
    gate, links, model_path = _export_fp32(run, folder, cells, calibrator, limits, say)
    found = Lowered(
        models={"fp32": model_path},
        candidates=judge_file(gate, model_path, "fp32", options.limits),
    )
    chain = _chain(gate, links, found)
    if sets is not None and _is_worth_lowering(chain, options):
        lower(found, gate, sets, options.wanted, options.limits, say)
        chain = _chain(gate, links, found, sets)
        timed = compare_speeds(chain.variants, found.models, cells.pick(cells.golden), say)
        chain = chain.model_copy(update={"variants": timed})
    judged = {result.variant for result in chain.variants}
    return Parts(
        models=found.models,
        chain=chain,
        evidence=_evidence(gate, found),
        reference=gate.reference[cells.golden.rows],
        exported=_golden_logits(found.candidates),
        limits={name: limits for name, limits in options.limits.items() if name in judged},
        options=options.record(),
        sets=sets,
        confidence=None if calibrator is None else calibrator.compose(run, found.candidates),
    )


def _is_worth_lowering(chain: ParityChain, options: ExportOptions) -> bool:
    """Tell whether to go on from the FP32 file.

    What is made from one that strays would hide that under its own noise. One that is unproven,
    on too few cells, is refused in the end: the others are made only where that is kept for study.
    """
    return chain.usable("fp32") or (options.allow_failing and not chain.strays("fp32"))


def _evidence(gate: Gate, found: Lowered) -> Evidence:
    """Gather what the page shows beside the chain: acceptance cells and the answers on them."""
    cells, rows = gate.cells, gate.cells.acceptance.rows
    return Evidence(
        crops=cells.pick(cells.acceptance),
        labels=cells.labels[rows],
        ids=[cells.ids[row] for row in rows],
        reference=gate.reference[rows],
        candidates={
            (one.result.variant, one.result.verdict.engine, one.result.verdict.provider): logits
            for one in found.candidates
            if (logits := one.acceptance) is not None
        },
        fp16=found.fp16.conversion if found.fp16 else None,
        fp16_ranges=found.fp16.ranges if found.fp16 else None,
        int8=found.int8,
    )


def _export_fp32(
    run: Run,
    folder: Path,
    cells: GateCells,
    calibrator: Calibrator | None,
    limits: Limits,
    say: Callable[[str], None],
) -> tuple[Gate, tuple[Link, Link], Path]:
    """Merge, fold and export, each step measured; PyTorch's models are let go in the end."""
    say(f"PyTorch, adapter not merged, on {len(cells.crops)} cells")
    model = load_unmerged(run)
    gate = Gate(cells, logits_of(model, cells.crops), describe_machine(), say, calibrator)
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
        metadata=graph_metadata(run),
    )
    return gate, (first, second), model_path


def _chain(
    gate: Gate, links: tuple[Link, ...], found: Lowered, sets: Sets | None = None
) -> ParityChain:
    groups = (gate.cells.acceptance, gate.cells.golden, gate.cells.odd)
    counts = {group.name: len(group.rows) for group in groups}
    if sets is not None:
        counts |= {"calibration": len(sets[0].crops), "tuning": len(sets[1].crops)}
    return ParityChain(
        machine=gate.machine,
        cells=counts,
        links=links,
        variants=tuple(candidate.result for candidate in found.candidates),
        fp16=found.fp16,
        int8=found.int8,
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


def _require_libraries(precisions: tuple[str, ...]) -> None:
    """Say what is not installed before any work is done."""
    targets_found()
    import_onnxruntime()  # lower precisions are made with it, whatever runs them later
    needed = ["peft", "onnx", "onnxscript"]
    for name in [*needed, "nncf"] if "int8" in precisions else needed:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(name, "export")


def _require_free(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise ExportError("already exists", where=out, mend="choose another --out, or remove it")
