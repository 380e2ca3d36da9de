"""From the FP32 file that passed to the files of lower precision, each judged."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cytodino.engines.variants import FILES
from cytodino.limits import Limits
from cytodino.machine import Machine
from cytodino_export.chain import Fp16Result
from cytodino_export.fp16_ranges import to_examined_fp16
from cytodino_export.gate import Candidate, Gate
from cytodino_export.int8 import Int8Report
from cytodino_export.int8_process import quantise_in_child
from cytodino_export.memory import give_back
from cytodino_export.quantisation_cells import CellSet

__all__ = ["Lowered", "judge_file", "lower"]

RANGE_CROPS = 16
"""Calibration cells on which the range of every FP16 tensor is looked at."""


@dataclass
class Lowered:
    """Files of the bundle so far, and what the gate found."""

    models: dict[str, Path]
    """ONNX files by precision."""
    candidates: list[Candidate]
    fp16: Fp16Result | None = None
    int8: Int8Report | None = None


def lower(
    found: Lowered,
    gate: Gate,
    sets: tuple[CellSet, CellSet],
    precisions: tuple[str, ...],
    limits: Mapping[str, Limits],
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Make the files of lower precision that are wanted, beside the FP32 one, and judge them.

    Parameters
    ----------
    found : Lowered
        Holds the FP32 file; gets the others.
    gate : Gate
    sets : cells that calibrate, and cells that tune
    precisions : those wanted; fp32 is left alone
    limits : by variant
    say : callable
        Told what is being done.

    Raises
    ------
    ExportError
        If a file cannot be made.
    MissingExtraError
        If NNCF is not installed.
    """
    calibration, tuning = sets
    source = found.models["fp32"]
    if "fp16" in precisions:
        say("converting to fp16")
        found.models["fp16"] = source.with_name("model.fp16.onnx")
        conversion, ranges = to_examined_fp16(
            source, found.models["fp16"], calibration.crops[:RANGE_CROPS]
        )
        found.fp16 = Fp16Result(conversion=conversion, ranges=ranges)
        found.candidates += judge_file(
            gate, found.models["fp16"], "fp16", limits, also_broken=ranges.failures
        )
    if "int8" in precisions:
        say(f"quantising to int8, calibrated on {len(calibration.crops)} cells")
        found.models["int8"] = source.with_name("model.int8.onnx")
        give_back()
        found.int8 = quantise_in_child(
            source,
            found.models["int8"],
            calibration.crops,
            tuning.crops,
            tuning_labels=tuning.labels,
            limits=limits["int8"],
            reduce_range=_saturates(gate.machine),
            say=say,
        )
        found.candidates += judge_file(gate, found.models["int8"], "int8", limits)


def judge_file(
    gate: Gate,
    model: Path,
    precision: str,
    limits: Mapping[str, Limits],
    *,
    also_broken: tuple[str, ...] = (),
) -> list[Candidate]:
    """Judge every variant that a file can run as: fp32 also as bf16, int8 also as int8-bf16."""
    return [
        candidate
        for variant, file in FILES.items()
        if file == precision
        for candidate in gate.judge(model, variant, limits[variant], also_broken=also_broken)
    ]


def _saturates(machine: Machine) -> bool:
    """Tell whether this CPU's INT8 products saturate: x86 without VNNI or AMX."""
    if not machine.system.endswith(("x86_64", "AMD64")) or not machine.flags:
        return False
    return not any("vnni" in flag or flag == "amx_int8" for flag in machine.flags)
