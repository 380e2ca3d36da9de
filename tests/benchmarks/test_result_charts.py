import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cytodino_bench.drawing import Drawing, Rect, Word
from cytodino_bench.peers_report import PeersReport, draw_peers
from cytodino_bench.result_charts import (
    draw_archive_size,
    draw_export_cost,
    draw_pipeline,
    draw_reader,
    keep_result,
)

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"

DRAWN: dict[str, Callable[[Any], Drawing]] = {
    "archive_size": draw_archive_size,
    "export_cost": draw_export_cost,
    "peers": lambda found: draw_peers(PeersReport.model_validate(found)),
    "pipeline": draw_pipeline,
    "reader": draw_reader,
}

READER: Mapping[str, Any] = {
    "machine": "a processor",
    "crops": 1500,
    "rounds": 5,
    "shape": [250, 250, 3],
    "storages": {
        "gzip-4": {
            "mb": 213.7,
            "ratio": {"of": "reader, 2 threads", "to": "h5py", "is": 4.0},
            "crops_per_second": {
                "h5py": 1000,
                "reader, 1 thread": 2100,
                "reader, 2 threads": 4000,
            },
        }
    },
}


def cost(minutes: float, files: dict[str, int]) -> dict[str, Any]:
    return {
        "export_minutes": minutes,
        "gate_minutes": 1.0,
        "peak_gib": 2.0,
        "peak_together_gib": 3.0,
        "bundle_mb": files,
        "cells": {"calibration": 8, "judged": 32},
        "machine": {"cpu": "a processor", "cores": 2},
    }


def words(drawing: Drawing) -> list[str]:
    return [shape.said for shape in drawing.shapes if isinstance(shape, Word)]


def lengths(drawing: Drawing) -> list[float]:
    return [shape.width for shape in drawing.shapes if isinstance(shape, Rect)]


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_a_published_chart_shows_the_figures_beside_it(name: str) -> None:
    found = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    assert DRAWN[name](found).svg() == (RESULTS / f"{name}.svg").read_text("utf-8")


def test_the_reader_stands_beside_what_its_ratio_is_to() -> None:
    drawing = draw_reader(READER)
    ours, plain = lengths(drawing)
    assert ours == pytest.approx(4 * plain)
    assert "4,000/s, 4.00 x" in words(drawing)
    assert "1,000/s" in words(drawing)
    assert not any("2,100" in word for word in words(drawing))  # one thread: no promise


def test_export_costs_go_by_size_and_count_weights_beside_the_graph() -> None:
    found = {
        "large": cost(
            7.0, {"model.fp32.onnx": 5, "model.fp32.onnx.data": 2000, "model.int8.onnx": 9}
        ),
        "tiny": cost(0.5, {"model.fp32.onnx": 11}),
    }
    said = words(draw_export_cost(found))
    assert said.index("tiny, 11 MB in FP32") < said.index("large, 2,005 MB in FP32")
    assert "7.00 min" in said


def test_a_kept_result_is_both_files(tmp_path: Path) -> None:
    path = tmp_path / "reader.json"
    keep_result(path, READER, draw_reader)
    assert json.loads(path.read_text("utf-8")) == READER
    assert path.with_suffix(".svg").read_text("utf-8") == draw_reader(READER).svg()
