"""Quantise in a process of its own: NNCF's memory ends with it, and a crash is one line.

The parent writes a folder (`job.json`, `calibration.npz`, `tuning.npz`), the child answers with
the ONNX file and `report.json`. Lines of progress come over its standard error.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cytodino.errors import CytoDinoError, ExportError
from cytodino.limits import LIMITS, Limits
from cytodino.telemetry import OPT_OUTS
from cytodino_export.graph_file import save_graph
from cytodino_export.int8 import Int8Report, count_int8_products, to_int8
from cytodino_export.int8_tuning import tune_int8

__all__ = ["quantise_in_child"]

_PROGRESS = "progress: "
_FAILURE = "failure: "

Crops = Sequence[NDArray[np.uint8]]


class _Job(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Path
    target: Path
    limits: Limits
    float_nodes: tuple[str, ...]
    reduce_range: bool
    tuning_labels: tuple[int, ...] | None


def quantise_in_child(
    source: Path,
    target: Path,
    calibration: Crops,
    tuning: Crops = (),
    *,
    tuning_labels: NDArray[np.int64] | None = None,
    limits: Limits | None = None,
    float_nodes: Sequence[str] = (),
    reduce_range: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Int8Report:
    """Quantise a graph in another process, and tune it there.

    Parameters
    ----------
    source : Path
        FP32 ONNX file.
    target : Path
        The file to write.
    calibration, tuning : sequences of uint8, (h, w, 3), RGB
        Disjoint cells, of any sizes; without tuning cells nothing returns to float.
    tuning_labels : int64, (n,), optional
    limits : Limits, optional
        That the tuning cells are to keep; those of int8 unless given.
    float_nodes : names of nodes
        That stay float in any case.
    reduce_range : bool
        See `to_int8`.
    say : callable
        Told what the child is doing.

    Raises
    ------
    ExportError
        If it cannot be quantised, or the other process dies.
    """
    with tempfile.TemporaryDirectory(prefix="cytodino-int8-") as name:
        folder = Path(name)
        job = _Job(
            source=source.resolve(),
            target=target.resolve(),
            limits=limits or LIMITS["int8"],
            float_nodes=tuple(float_nodes),
            reduce_range=reduce_range,
            tuning_labels=None if tuning_labels is None else tuple(tuning_labels.tolist()),
        )
        (folder / "job.json").write_text(job.model_dump_json(), encoding="utf-8")
        _write_crops(folder / "calibration.npz", calibration)
        _write_crops(folder / "tuning.npz", tuning)
        _run_child(folder, say)
        return Int8Report.model_validate_json((folder / "report.json").read_text("utf-8"))


def _run_child(folder: Path, say: Callable[[str], None]) -> None:
    command = [sys.executable, "-m", "cytodino_export.int8_process", str(folder)]
    said: list[str] = []
    with subprocess.Popen(
        command,
        env={**os.environ, **OPT_OUTS},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if line.startswith(_PROGRESS):
                say(line.removeprefix(_PROGRESS).rstrip())
            elif line.strip():
                said = [*said[-19:], line.strip()]
    if child.returncode == 0 and (folder / "report.json").is_file():
        return
    for line in said:
        if line.startswith(_FAILURE):
            raise ExportError(line.removeprefix(_FAILURE))
    reason = said[-1] if said else "it said nothing"
    raise ExportError(
        f"the quantising process ended with code {child.returncode}: {reason}",
        mend="free some memory or give fewer calibration crops, then export again",
    )


def _write_crops(path: Path, crops: Crops) -> None:
    np.savez(path, **{f"{index:06}": crop for index, crop in enumerate(crops)})  # type: ignore[arg-type]  # numpy types the names as its own options


def _read_crops(path: Path) -> list[NDArray[np.uint8]]:
    with np.load(path, allow_pickle=False) as stored:
        return [stored[name] for name in sorted(stored.files)]


def work(folder: Path) -> None:
    """Do the job of a folder: the child's part."""
    import onnx

    started = time.monotonic()
    job = _Job.model_validate_json((folder / "job.json").read_text("utf-8"))
    report = to_int8(
        job.source,
        job.target,
        _read_crops(folder / "calibration.npz"),
        float_nodes=job.float_nodes,
        reduce_range=job.reduce_range,
        say=_tell,
    )
    tuning = _read_crops(folder / "tuning.npz")
    found: dict[str, object] = {}
    if tuning:
        _tell(f"measuring {len(tuning)} tuning crops")
        labels = None if job.tuning_labels is None else np.array(job.tuning_labels, np.int64)
        source = onnx.load(job.source)
        outcome = tune_int8(
            source, onnx.load(job.target), tuning, job.limits, labels=labels, say=_tell
        )
        if outcome.returned:
            save_graph(outcome.model, job.target, "INT8")
        found = {
            "products": count_int8_products(outcome.model),
            "tuning_crops": len(tuning),
            "returned": outcome.returned,
            "tuning_error": outcome.error,
            "tuning_probability": outcome.report.probability_max,
            "tuning_failures": outcome.report.failures,
        }
    found |= {"seconds": time.monotonic() - started, "peak_memory": _peak_memory()}
    (folder / "report.json").write_text(
        report.model_copy(update=found).model_dump_json(), encoding="utf-8"
    )


def _tell(text: str) -> None:
    print(_PROGRESS + text, file=sys.stderr, flush=True)


def _peak_memory() -> int | None:
    """Largest resident size of this process so far, bytes."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> int:
    """Run as ``python -m cytodino_export.int8_process FOLDER``."""
    try:
        work(Path(sys.argv[1]))
    except CytoDinoError as error:
        print(_FAILURE + str(error), file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
