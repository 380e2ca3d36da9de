"""The last results of the scripts in `benchmarks/`: kept as JSON, with a chart beside it.

Each `draw_` takes what its script writes, as read from the JSON file.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cytodino_bench.charts import Bar, Panel, bar_chart
from cytodino_bench.drawing import Drawing
from cytodino_bench.files import write_chart, write_text

__all__ = [
    "draw_archive_size",
    "draw_export_cost",
    "draw_pipeline",
    "draw_reader",
    "keep_result",
]

Result = Mapping[str, Any]
"""What a script measured, as in its JSON file."""

EXPORT_COSTS = {
    "export_minutes": ("Merge, export and quantise: minutes, shorter is better", "min"),
    "gate_minutes": ("The gate, every variant on each CPU engine: minutes", "min"),
    "peak_gib": ("Largest process: GiB", "GiB"),
    "peak_together_gib": ("All processes together, at most: GiB", "GiB"),
}
"""Key of an entry -> the question it answers and the figure's unit."""

SIZES = ("tiny", "small", "base", "large")


def keep_result(path: Path, found: Result, draw: Callable[[Result], Drawing]) -> None:
    """Replace a script's last result: its JSON file, and the chart as SVG beside it.

    Raises
    ------
    InputError
        If a file cannot be written.
    """
    write_text(path, json.dumps(found, indent=2) + "\n")
    write_chart(path.with_suffix(".svg"), draw(found))


def draw_reader(found: Result) -> Drawing:
    """Draw the rates of two threads beside what the same file gives others, by storage."""
    height, width, _ = found["shape"]
    return bar_chart(
        "Reading crops, by storage",
        f"{found['machine']}; {found['crops']:,} crops of {height} x {width} px a file, best of "
        f"{found['rounds']} rounds by turns; the reader checks every crop",
        [
            Panel(f"{name}: {storage['mb']:.0f} MB, crops/s, longer is better", _rates(storage))
            for name, storage in found["storages"].items()
        ],
    )


def _rates(storage: Result) -> list[Bar]:
    """Draw the two ways whose ratio is promised: by the reader, and plainly."""
    ratio, rates = storage["ratio"], storage["crops_per_second"]
    plain, ours = ratio["to"], ratio["of"]
    return [
        Bar(ours, rates[ours], f"{rates[ours]:,}/s, {ratio['is']:.2f} x", "good"),
        Bar(plain, rates[plain], f"{rates[plain]:,}/s"),
    ]


def draw_pipeline(found: Result) -> Drawing:
    """Draw the pipeline's rates beside plain slices', and its memory by the archive's length."""
    panels = [
        Panel(
            f"{name}: crops/s, longer is better",
            [
                Bar(
                    "classify, an engine that does nothing",
                    rates["pipeline_crops_per_second"],
                    f"{rates['pipeline_crops_per_second']:,.0f}/s, {rates['ratio']:.2f} x",
                    "good",
                ),
                Bar(
                    "h5py's slices, nothing written",
                    rates["h5py_crops_per_second"],
                    f"{rates['h5py_crops_per_second']:,.0f}/s",
                ),
            ],
        )
        for name, rates in found["rates"].items()
    ]
    peaks = [
        Bar(f"{int(rows):,} crops", peak, f"{peak:.0f} MB", "good")
        for rows, peak in found["peak_memory_mb"].items()
    ]
    panels.append(Panel("Peak memory: MB, shorter is better", peaks))
    about = found["machine"]
    return bar_chart(
        "From an archive to results, without a model",
        f"{about['cores']} cores; crops of {found['crops']}; whole runs by turns",
        panels,
    )


def draw_export_cost(found: Result) -> Drawing:
    """Draw what an export costs, by the model's size."""
    names = [size for size in SIZES if size in found]
    panels = []
    for key, (question, unit) in EXPORT_COSTS.items():
        bars = [
            Bar(_model(name, found[name]), found[name][key], f"{found[name][key]:.2f} {unit}")
            for name in names
        ]
        panels.append(Panel(question, bars))
    about = found[names[-1]]
    cells, machine = about["cells"], about["machine"]
    return bar_chart(
        "What an export costs, by the model's size",
        f"{machine['cpu']}, {machine['cores']} cores; FP32, FP16 and INT8, calibrated on "
        f"{cells['calibration']} crops, judged on {cells['judged']}",
        panels,
    )


def _model(name: str, entry: Result) -> str:
    files = entry["bundle_mb"]
    fp32 = sum(size for file, size in files.items() if file.startswith("model.fp32"))
    return f"{name}, {fp32:,} MB in FP32"


def draw_archive_size(found: Result) -> Drawing:
    """Draw throughput and memory of whole runs, by the archive's number of crops."""
    entries = found["archives"].items()
    panels = [
        Panel(
            "From the program's start to its end: crops/s, longer is better",
            [Bar(_crops(n), e["whole"], f"{e['whole']:.1f}/s", "good") for n, e in entries],
        ),
        Panel(
            "From the first archive's opening on: crops/s",
            [Bar(_crops(n), e["classify"], f"{e['classify']:.1f}/s") for n, e in entries],
        ),
        Panel(
            "Peak memory: MB",
            [Bar(_crops(n), e["peak_mb"], f"{e['peak_mb']:.0f} MB") for n, e in entries],
        ),
    ]
    machine, engine = found["machine"], found["engine"]
    return bar_chart(
        "Throughput by the archive's size",
        f"{machine['cpu']}, {machine['cores']} cores; {engine['engine']} {engine['variant']}, "
        f"{found['model']}, crops of {found['crops']}",
        panels,
    )


def _crops(count: str) -> str:
    return f"{int(count):,} crops"
