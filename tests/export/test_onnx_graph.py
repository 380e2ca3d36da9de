import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from cytodino.engines.onnxruntime import OnnxRuntimeEngine
from cytodino.engines.openvino_library import openvino_core
from cytodino.errors import ExportError
from cytodino_export import onnx_graph
from cytodino_export.deploy import fold
from cytodino_export.onnx_graph import count_nodes, write_graph
from cytodino_export.pipeline import ExportResult

OPTIONS = {"INFERENCE_PRECISION_HINT": "f32", "SNIPPETS_MODE": "DISABLE"}


@pytest.fixture(scope="module")
def graph(exported: ExportResult) -> onnx.ModelProto:
    assert exported.bundle is not None
    return onnx.load(exported.bundle / "model.fp32.onnx")


def test_one_input_one_output_and_axes_with_names(graph: onnx.ModelProto) -> None:
    (crops,), (logits,) = graph.graph.input, graph.graph.output
    shape = [axis.dim_param or axis.dim_value for axis in crops.type.tensor_type.shape.dim]
    assert (crops.name, shape) == ("crops", ["n", "h", "w", 3])
    assert crops.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    shape = [axis.dim_param or axis.dim_value for axis in logits.type.tensor_type.shape.dim]
    assert (logits.name, shape) == ("logits", ["n", 21])
    assert logits.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_no_node_branches_and_rope_is_constant(graph: onnx.ModelProto) -> None:
    nodes = count_nodes(graph)
    assert not {"If", "Loop", "Scan", "Sin", "Cos", "Range", "Tile"} & set(nodes)
    assert nodes["LayerNormalization"] == 11
    assert nodes["Resize"] == 1


def test_gelu_is_one_node(graph: onnx.ModelProto) -> None:
    nodes = count_nodes(graph)
    assert nodes["Gelu"] == 4  # two blocks, two layers of the head
    assert "Erf" not in nodes


def test_openvino_sees_rope_as_one_operator(exported: ExportResult) -> None:
    assert exported.bundle is not None
    core = openvino_core()
    read = core.read_model(exported.bundle / "model.fp32.onnx")
    compiled = core.compile_model(read, "CPU", OPTIONS)
    kinds = [node.get_rt_info()["layerType"] for node in compiled.get_runtime_model().get_ops()]
    assert kinds.count("RoPE") == 4  # query and key of two blocks


def test_the_opset_is_20_and_the_checker_agrees(graph: onnx.ModelProto) -> None:
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 20)]
    onnx.checker.check_model(graph, full_check=True)


def test_the_metadata_name_classes_and_preprocessing(graph: onnx.ModelProto) -> None:
    found = {entry.key: entry.value for entry in graph.metadata_props}
    assert json.loads(found["cytodino.classes"])[:2] == ["ABE", "ART"]
    assert json.loads(found["cytodino.preprocessing"])["mean"] == [0.5631, 0.4959, 0.7355]
    assert found["cytodino.schema_version"] == "1"
    assert found["cytodino.image_size"] == "32"


def test_no_path_of_this_machine_is_in_the_file(exported: ExportResult) -> None:
    assert exported.bundle is not None
    data = (exported.bundle / "model.fp32.onnx").read_bytes()
    assert b".py" not in data
    assert str(Path.cwd()).encode() not in data


def test_a_gated_model_exports_and_the_exporter_is_silent(
    make_model: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = fold(make_model(3, gated=True))
    path = write_graph(model, tmp_path / "model.onnx", image_size=32, metadata={"a": "b"})
    assert capfd.readouterr() == ("", "")
    crops = np.random.default_rng(0).integers(0, 256, (3, 50, 20, 3), dtype=np.uint8)
    with torch.inference_mode(), OnnxRuntimeEngine(path) as engine:
        expected = model(torch.from_numpy(crops)).numpy()
        assert np.abs(engine.logits(crops) - expected).max() < 1e-5


def test_what_torch_cannot_trace_is_one_line(tmp_path: Path) -> None:
    class Branching(torch.nn.Module):
        def forward(self, crops: torch.Tensor) -> torch.Tensor:
            return crops.float() if crops.float().sum() > 0 else -crops.float()

    with pytest.raises(ExportError, match="cannot export the model") as caught:
        write_graph(Branching(), tmp_path / "model.onnx", image_size=32, metadata={})
    assert "\n" not in str(caught.value)


def test_a_graph_that_branches_is_refused(graph: onnx.ModelProto) -> None:
    branching = onnx.ModelProto()
    branching.CopyFrom(graph)
    branching.graph.node.add(op_type="If")
    with pytest.raises(ExportError, match="branches \\(If\\)"):
        onnx_graph._require_straight(branching)
