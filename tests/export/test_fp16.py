from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx.numpy_helper import from_array, to_array
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from cytodino.errors import ExportError
from cytodino.limits import LIMITS
from cytodino.modeling.classifier import CytoDino
from cytodino.modeling.head import DecoderHead
from cytodino.modeling.preprocessing import Preprocess
from cytodino.parity import compare
from cytodino_export import fp16
from cytodino_export.deploy import CentredPixels, fold
from cytodino_export.fp16 import HALF_SUFFIX, float_tensors, to_fp16
from cytodino_export.fp16_ranges import (
    RANGE_LIMIT,
    examine_fp16,
    reference_logits,
    tensor_ranges,
    to_examined_fp16,
)
from cytodino_export.graph_parts import float_logits
from cytodino_export.graph_regions import find_regions
from cytodino_export.onnx_graph import write_graph

SIZE, HIDDEN, HEAD_DIM = 32, 32, 16
FP16 = onnx.TensorProto.FLOAT16


def draw_model() -> CytoDino:
    config = DINOv3ViTConfig(
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_register_tokens=4,
        image_size=SIZE,
        key_bias=True,
    )
    generator = torch.Generator().manual_seed(0)
    model = CytoDino(DINOv3ViTModel(config), DecoderHead(HIDDEN, layers=2), Preprocess(SIZE))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lambda1" in name or ("norm" in name and name.endswith("weight")):
                weight.uniform_(0.5, 1.5, generator=generator)
            else:
                weight.normal_(0.0, 0.15, generator=generator)
    return model.eval()


def blocks_of(model: CytoDino) -> list:
    backbone = model.backbone
    return list(backbone.layer if hasattr(backbone, "layer") else backbone.model.layer)


def overflow_scores(model: CytoDino) -> None:
    """Scores of a head get an offset of 65,600, which leaves the softmax as it was.

    Float32 itself has steps of 0.008 there, so one block has to do.
    """
    slow = HEAD_DIM // 4 - 1  # RoPE's lowest frequency: neighbours stay comparable
    attention = blocks_of(model)[1].attention
    for projection, value in ((attention.q_proj, 1024.0), (attention.k_proj, 256.25)):
        for row, bias in ((slow, value), (slow + HEAD_DIM // 2, 0.0)):  # the pair that turns
            projection.weight[row] = 0
            projection.bias[row] = bias


def overflow_residual(model: CytoDino) -> None:
    """Two channels of +-70,000 run through all blocks, and no LayerNorm lets them out.

    Little beyond what FP16 holds: rounding grows with them, and moves some crops' logits by more
    than the gate allows, however the graph is written.
    """
    embeddings = model.backbone.embeddings
    size = 7e4
    for sign, channel in ((1, 3), (-1, 17)):
        embeddings.patch_embeddings.bias[channel] = sign * size
        embeddings.cls_token[..., channel] = sign * size
        embeddings.register_tokens[..., channel] = sign * size
        for block in blocks_of(model):
            for linear in (block.attention.o_proj, block.mlp.down_proj):
                linear.weight[channel] = 0
                linear.bias[channel] = 0
    for norm in (
        *(n for block in blocks_of(model) for n in (block.norm1, block.norm2)),
        model.backbone.norm,
    ):
        norm.weight *= size / (HIDDEN / 2) ** 0.5
        norm.weight[[3, 17]] = 0.1


def overflow_feedforward(model: CytoDino) -> None:
    """Hidden activations of some 100,000, taken back by the next matrix."""
    mlp = blocks_of(model)[1].mlp
    mlp.up_proj.weight[:8] *= 3e5
    mlp.up_proj.bias[:8] *= 3e5
    mlp.down_proj.weight[:, :8] /= 3e5


OVERFLOWS = {
    "scores": overflow_scores,
    "residual": overflow_residual,
    "feedforward": overflow_feedforward,
}


def export(model: CytoDino, path: Path) -> Path:
    return write_graph(fold(model), path, image_size=SIZE, metadata={"classes": "21"})


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(draw_model(), tmp_path_factory.mktemp("fp16") / "model.fp32.onnx")


@pytest.fixture(scope="module", params=sorted(OVERFLOWS))
def overflowing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = draw_model()
    with torch.no_grad():
        OVERFLOWS[request.param](model)
    return export(model, tmp_path_factory.mktemp(request.param) / "model.fp32.onnx")


@pytest.fixture(scope="module")
def crops() -> list[NDArray[np.uint8]]:
    generator = np.random.default_rng(0)
    shapes = [(40, 40, 3), (33, 47, 3), (32, 32, 3)]
    return [generator.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]


def convert_naively(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the preprocessing in FP16: what a converter without islands does."""

    def without_islands(model: onnx.ModelProto):
        regions = find_regions(model)
        nothing = frozenset[str]()
        return type(regions)(**{**vars(regions), "attention": nothing, "norms": nothing})

    with monkeypatch.context() as patch:
        patch.setattr(fp16, "find_regions", without_islands)
        patch.setattr(fp16, "_fits_half", lambda values: True)
        with np.errstate(over="ignore"):
            to_fp16(source, target)


def test_weights_that_overflow_do_so_without_islands_and_not_with_them(
    overflowing: Path,
    crops: list[NDArray[np.uint8]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    single = onnx.load(overflowing)
    expected = float_logits(single, crops)
    naive, ours = tmp_path / "naive.onnx", tmp_path / "ours.onnx"
    convert_naively(overflowing, naive, monkeypatch)
    assert not np.isfinite(reference_logits(onnx.load(naive), crops)).all()
    conversion, ranges = to_examined_fp16(overflowing, ours, crops, reference_crops=3)
    assert ranges.failures == () and ranges.beyond == {}
    assert ranges.largest <= RANGE_LIMIT and ranges.reference_finite
    found = reference_logits(onnx.load(ours), crops)
    assert compare(expected, found, LIMITS["fp16"]).failures == ()
    assert conversion.half_nodes > sum(conversion.islands.values()) / 2


def test_examination_of_a_naive_graph_names_what_is_beyond(
    overflowing: Path,
    crops: list[NDArray[np.uint8]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    naive = tmp_path / "naive.onnx"
    convert_naively(overflowing, naive, monkeypatch)
    ranges = examine_fp16(overflowing, naive, crops)
    assert ranges.beyond and max(ranges.beyond.values()) == ranges.largest > 65_504
    assert set(ranges.islands) <= {node.name for node in onnx.load(overflowing).graph.node}
    assert not ranges.reference_finite and ranges.reference_probability_max is None
    assert any("beyond" in said for said in ranges.failures)
    assert any("not finite" in said for said in ranges.failures)


def test_the_usual_converter_overflows_between_two_nodes_kept_in_float32(
    crops: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = draw_model()
    with torch.no_grad():
        overflow_scores(model)
    single = onnx.load(export(model, tmp_path / "model.onnx"))
    regions = find_regions(single)
    blocked = [*regions.preprocessing, *regions.attention, *regions.norms]
    usual = OnnxModel(convert_float_to_float16(single, keep_io_types=True, node_block_list=blocked))
    usual.topological_sort()
    assert not np.isfinite(reference_logits(usual.model, crops)).all()


def test_harmless_weights_need_no_more_islands(
    source: Path, crops: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    conversion, ranges = to_examined_fp16(source, tmp_path / "half.onnx", crops)
    assert conversion.grown == () and conversion.constants == ()
    assert ranges.failures == () and ranges.crops == 3 and ranges.reference_crops == 2
    assert ranges.reference_probability_max is not None
    assert 0 < ranges.reference_probability_max < LIMITS["fp16"].probability


def test_islands_compute_in_float32_and_the_rest_in_fp16(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "half.onnx"
    report = to_fp16(source, target)
    model = onnx.load(target)
    half, regions = float_tensors(model, half=True), find_regions(model)
    islands = regions.attention | regions.norms
    # Scores and softmax, two of each in the blocks and in the head; norms: 5 there, 6 here.
    assert len(regions.attention) == 8 and len(regions.norms) == 11
    for node in model.graph.node:
        if node.op_type == "Cast":
            continue
        touched = half.intersection((*node.input, *node.output))
        if node.name in islands or node.op_type in ("Resize", "Sub"):
            assert not touched, node.name
        elif node.name in regions.blocks and node.op_type in ("MatMul", "Add", "Erf"):
            assert touched, node.name
    assert report.islands["norm"] == 11 and report.islands["attention"] == 8
    products = {name for names in regions.groups.values() for name in names}
    weights = {node.input[1] for node in model.graph.node if node.name in products}
    kinds = {t.name: t.data_type for t in model.graph.initializer}
    assert len(weights) == 8 and all(kinds[name] == FP16 for name in weights)
    assert target.stat().st_size < 0.7 * source.stat().st_size


def test_inputs_outputs_and_metadata_are_kept(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "half.onnx"
    to_fp16(source, target)
    before, after = onnx.load(source), onnx.load(target)
    assert before.graph.input == after.graph.input
    assert before.graph.output == after.graph.output
    assert after.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert after.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert before.metadata_props == after.metadata_props


def test_a_tensor_is_cast_once_in_a_direction(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "half.onnx"
    report = to_fp16(source, target)
    casts = [n for n in onnx.load(target).graph.node if n.name.startswith("cast_")]
    directions = [(node.input[0], node.attribute[0].i) for node in casts]
    assert len(casts) == report.casts == len(set(directions))
    cast_from = {name for name, _ in directions}
    assert not any(output in cast_from for node in casts for output in node.output)


@pytest.mark.parametrize("factor", [1e9, 1e-8])
def test_a_constant_that_fp16_cannot_hold_stays_float32(
    factor: float, source: Path, tmp_path: Path
) -> None:
    model = onnx.load(source)
    name = next(n for n in find_regions(model).groups["block 1 down_proj"])
    weight = next(node.input[1] for node in model.graph.node if node.name == name)
    changed = tmp_path / "changed.onnx"
    for tensor in model.graph.initializer:
        if tensor.name == weight:
            tensor.CopyFrom(from_array(to_array(tensor) * np.float32(factor), weight))
    onnx.save(model, changed)
    report = to_fp16(changed, tmp_path / "half.onnx")
    assert report.constants == (weight,) and report.islands["constant"] == 1
    kept = {t.name: t for t in onnx.load(tmp_path / "half.onnx").graph.initializer}
    assert weight + HALF_SUFFIX not in kept
    assert np.array_equal(to_array(kept[weight]), to_array(_named(model, weight)))


def _named(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def test_ranges_are_the_tensors_own_and_a_nan_is_infinite(
    source: Path, crops: list[NDArray[np.uint8]]
) -> None:
    model = onnx.load(source)
    pixels = find_regions(model).pixels
    with torch.no_grad():
        centred = CentredPixels(Preprocess(SIZE))
        expected = max(centred(torch.from_numpy(c[None])).abs().max().item() for c in crops)
    assert tensor_ranges(model, crops, [pixels])[pixels] == pytest.approx(expected, rel=1e-5)
    bias = next(t.name for t in model.graph.initializer if t.name.endswith("0.qkv.bias"))
    _named(model, bias).CopyFrom(from_array(np.full(3 * HIDDEN, np.nan, np.float32), bias))
    assert tensor_ranges(model, crops, [pixels, "logits"])["logits"] == np.inf


def test_without_crops_nothing_is_examined(source: Path) -> None:
    with pytest.raises(ExportError, match="no crops"):
        tensor_ranges(onnx.load(source), [], ["logits"])


def test_a_graph_that_is_no_classifier_is_refused(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Relu", ["x"], ["y"], name="relu")
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [out]))
    onnx.save(model, tmp_path / "g.onnx")
    with pytest.raises(ExportError, match="no patch convolution"):
        to_fp16(tmp_path / "g.onnx", tmp_path / "h.onnx")
    node.name = ""
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [out]))
    onnx.save(model, tmp_path / "g.onnx")
    with pytest.raises(ExportError, match="name each"):
        to_fp16(tmp_path / "g.onnx", tmp_path / "h.onnx")
