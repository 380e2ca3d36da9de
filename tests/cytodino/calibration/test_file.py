import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cytodino.calibration import Targets, calibrate
from cytodino.calibration.file import (
    CONFIDENCE_NAME,
    Confidence,
    ModelCalibration,
    read_confidence,
    write_confidence,
)
from cytodino.errors import InputError

from .test_record import draw


def make(*models: tuple[str, str, str]) -> Confidence:
    found = calibrate(*draw(80))
    return Confidence(
        created=datetime(2025, 1, 1, tzinfo=UTC),
        cytodino_version="0.1.0",
        targets=Targets(),
        source={"path": "cells", "part": "calibration"},
        models=tuple(
            ModelCalibration(
                variant=variant, engine=engine, provider=provider, machine="m", calibration=found
            )
            for variant, engine, provider in models
        ),
    )


def test_what_is_written_is_read(tmp_path: Path):
    confidence = make(("fp32", "onnxruntime", "CPU"))
    assert write_confidence(tmp_path, confidence) == tmp_path / CONFIDENCE_NAME
    assert read_confidence(tmp_path) == confidence
    assert [path.name for path in tmp_path.iterdir()] == [CONFIDENCE_NAME]


def test_a_folder_without_it_is_not_calibrated(tmp_path: Path):
    assert read_confidence(tmp_path) is None


def test_a_variant_on_an_engine_has_its_own_and_no_other():
    found = make(("fp32", "onnxruntime", "CPU"), ("fp32", "onnxruntime", "CUDA"),
                 ("int8", "openvino", "CPU"))  # fmt: skip

    def provider(variant: str, engine: str, provider: str) -> str | None:
        one = found.find(variant=variant, engine=engine, provider=provider)
        return one and one.provider

    assert provider("fp32", "onnxruntime", "CUDA") == "CUDA"
    assert provider("fp32", "onnxruntime", "TensorRT") == "CPU"
    assert provider("int8", "openvino", "CPU") == "CPU"
    assert provider("int8", "onnxruntime", "CPU") is None
    assert provider("fp16", "onnxruntime", "CUDA") is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 2}, "upgrade"),
        ({"schema_version": None}, "damaged"),
        ({"targets": {"accuracy": 2}}, "targets.accuracy"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, change: dict, words: str):
    path = write_confidence(tmp_path, make(("fp32", "onnxruntime", "CPU")))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=words):
        read_confidence(tmp_path)


def test_half_a_file_is_refused(tmp_path: Path):
    path = write_confidence(tmp_path, make(("fp32", "onnxruntime", "CPU")))
    path.write_text(path.read_text()[:100])
    with pytest.raises(InputError, match="damaged"):
        read_confidence(tmp_path)
