"""No constant of an FP16 file strays from the FP32 file's, whatever the logits say."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cytodino_export.fp16_constants import strayed_constants
from cytodino_export.fp16_ranges import examine_fp16
from cytodino_export.pipeline import ExportResult


@pytest.fixture
def files(exported: ExportResult) -> tuple[Path, Path]:
    assert exported.bundle is not None
    return exported.bundle / "model.fp32.onnx", exported.bundle / "model.fp16.onnx"


def floats(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    return [tensor for tensor in model.graph.initializer if tensor.data_type in kinds]


def scale(tensor: onnx.TensorProto) -> None:
    values = numpy_helper.to_array(tensor)
    changed = (values.astype(np.float32) * 1.03).astype(values.dtype)
    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))


def test_every_constant_off_by_3_percent_is_named(files: tuple[Path, Path]) -> None:
    source, half = (onnx.load(path) for path in files)
    assert strayed_constants(source, half) == ()
    tried = 0
    for tensor in floats(half):
        kept = onnx.TensorProto()
        kept.CopyFrom(tensor)
        scale(tensor)
        if tensor.raw_data != kept.raw_data:  # zeros and the smallest numbers have no 3 %
            (said,) = strayed_constants(source, half)
            assert tensor.name.removesuffix("__fp16") in said
            assert "off by 0.03" in said
            tried += 1
        tensor.CopyFrom(kept)
    assert tried >= 70


def test_a_strayed_constant_fails_the_examination(files: tuple[Path, Path], tmp_path: Path) -> None:
    half = onnx.load(files[1])
    scale(next(one for one in floats(half) if one.name.startswith("backbone.blocks.1.up.bias")))
    onnx.save(half, tmp_path / "model.onnx")
    crops = [np.full((32, 32, 3), 99, dtype=np.uint8)]
    ranges = examine_fp16(files[0], tmp_path / "model.onnx", crops, reference_crops=0)
    assert ["backbone.blocks.1.up.bias" in said for said in ranges.failures] == [True]


def test_constants_of_another_shape_or_of_no_source_are_named(files: tuple[Path, Path]) -> None:
    source, half = (onnx.load(path) for path in files)
    shorter = floats(half)[0]
    shorter.CopyFrom(numpy_helper.from_array(np.ones(3, np.float32), shorter.name))
    half.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float32), "own"))
    said = strayed_constants(source, half)
    assert any("off by inf" in one for one in said)
    assert any("own is not in the FP32 file" in one for one in said)
