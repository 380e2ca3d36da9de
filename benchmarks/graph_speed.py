"""Measure what the form of the graph is worth: our files against the plain export's, per engine.

Run ``python benchmarks/graph_speed.py``; it takes some minutes, prints a table and replaces
``benchmarks/results/graph_speed.json``. ViT-S/16 at 256 pixels, weights drawn from a seed, crops
of 250 x 250. The plain export is the unfolded classifier through the same exporter; its INT8 is
made by NNCF with the settings of ours, and nothing told to stay float.

What is compared is the CPU time of one thread, by turns: other work on the machine lengthens the
clock's time several-fold, and this by a tenth. Each engine is given the options of `classify` for
both files, so that what differs is the file.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cytodino.engines.onnxruntime_library import import_onnxruntime
from cytodino.engines.openvino import OpenVinoEngine
from cytodino.machine import describe_machine
from cytodino_export.deploy import fold
from cytodino_export.graph_parts import float_logits
from cytodino_export.int8 import quantise, to_int8
from cytodino_export.int8_tuning import relative_logit_error
from cytodino_export.onnx_graph import write_graph
from int8_outliers import SIZE, draw_crops, draw_model, logits_of

if TYPE_CHECKING:
    from cytodino.modeling.classifier import CytoDino

RESULT = Path(__file__).parent / "results" / "graph_speed.json"
CALIBRATION, CELLS, ROUNDS = 8, 8, 9
REQUESTS = (1, 8)
"""Crops in one request of ONNX Runtime: as `classify` has it for throughput, and a whole batch."""
PLAIN, OURS, EAGER = "plain", "ours", "PyTorch eager fp32"

Crops = NDArray[np.uint8]
Answer = Callable[[Crops], Any]


def main() -> None:
    """Measure, print, store."""
    import onnx

    with tempfile.TemporaryDirectory() as name:
        model = draw_model()
        files = write_files(model, Path(name))
        crops = draw_crops(CELLS, 2)
        reference = logits_of(model, crops)
        errors = {
            f"{file} {precision}": relative_logit_error(
                reference, float_logits(onnx.load(path), crops)
            )
            for (file, precision), path in files.items()
        }
        taken = race(open_all(model, files), np.stack(crops))
    result = {
        "model": f"ViT-S/16, {SIZE} px, random weights",
        "measured": datetime.now(UTC).date().isoformat(),
        "figure": "CPU milliseconds a crop, one thread, median of rounds taken by turns",
        "rounds": ROUNDS,
        "cpu_ms_a_crop": {key: round(statistics.median(times), 2) for key, times in taken.items()},
        "ours_against_plain": ratios(taken),
        "against_pytorch_eager": {
            key: round(ratio(taken[EAGER], times), 2) for key, times in taken.items()
        },
        "relative_logit_error_on_onnxruntime": errors,
        "machine": describe_machine().model_dump(mode="json"),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in result.items() if key != "machine"}, indent=2))


def write_files(model: "CytoDino", folder: Path) -> dict[tuple[str, str], Path]:
    """Write both forms in both precisions; ONNX files by (form, precision)."""
    import onnx

    files = {
        (form, precision): folder / f"{form}.{precision}.onnx"
        for form in (PLAIN, OURS)
        for precision in ("fp32", "int8")
    }
    calibration = draw_crops(CALIBRATION, 1)
    for form, module in ((PLAIN, model), (OURS, fold(model))):
        write_graph(module, files[form, "fp32"], image_size=SIZE, metadata={})
    to_int8(files[OURS, "fp32"], files[OURS, "int8"], calibration)
    quantised = quantise(
        onnx.load(files[PLAIN, "fp32"]),
        "crops",
        [crop[None] for crop in calibration],
        (),
        reduce_range=False,
    )
    onnx.save(quantised, str(files[PLAIN, "int8"]))
    return files


def open_all(model: "CytoDino", files: dict[tuple[str, str], Path]) -> dict[str, Answer]:
    """Open every file on every engine with one thread, and PyTorch; answers by their names."""
    import torch

    torch.set_num_threads(1)
    answers: dict[str, Answer] = {EAGER: lambda crops: model(torch.from_numpy(crops))}
    for (form, precision), path in files.items():
        run = open_onnxruntime(path)
        for size in REQUESTS:
            answers[f"onnxruntime {precision}, {size} a request: {form}"] = in_requests(run, size)
        for variant in {"fp32": ("fp32", "bf16"), "int8": ("int8", "int8-bf16")}[precision]:
            engine = OpenVinoEngine(path, variant=variant, threads=1)
            answers[f"openvino {variant}: {form}"] = engine.logits
    return answers


def open_onnxruntime(path: Path) -> Answer:
    """Open a file as the engine does, with one thread and fusions as they come."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda crops: session.run(None, {"crops": crops})


def in_requests(run: Answer, size: int) -> Answer:
    """Give the crops in requests of a size."""
    return lambda crops: [run(crops[at : at + size]) for at in range(0, len(crops), size)]


def race(answers: dict[str, Answer], crops: Crops) -> dict[str, list[float]]:
    """Time all by turns; CPU milliseconds a crop."""
    import torch

    taken: dict[str, list[float]] = {key: [] for key in answers}
    with torch.inference_mode():
        for turn in range(ROUNDS + 1):
            for key, answer in answers.items():
                began = time.process_time()
                answer(crops)
                if turn:  # the first warms up
                    taken[key].append((time.process_time() - began) / len(crops) * 1e3)
    return taken


def ratios(taken: dict[str, list[float]]) -> dict[str, float]:
    """How many times as fast as the plain export's file ours is, by engine and precision."""
    return {
        key.removesuffix(f": {OURS}"): round(ratio(taken[key.replace(OURS, PLAIN)], times), 3)
        for key, times in taken.items()
        if key.endswith(f": {OURS}")
    }


def ratio(slow: list[float], fast: list[float]) -> float:
    """Median over the rounds of one's time over another's."""
    return statistics.median(one / two for one, two in zip(slow, fast, strict=True))


if __name__ == "__main__":
    main()
