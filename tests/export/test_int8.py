import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx.numpy_helper import from_array, to_array
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from cytodino.errors import ExportError, MissingExtraError
from cytodino.limits import Limits
from cytodino.modeling.classifier import CytoDino
from cytodino.modeling.head import DecoderHead
from cytodino.modeling.preprocessing import Preprocess
from cytodino_bench.outliers import (
    add_outliers,
    compare_quantisers,
    openvino_logits,
)
from cytodino_export import int8_process
from cytodino_export.deploy import fold
from cytodino_export.graph_parts import float_logits
from cytodino_export.graph_regions import find_regions
from cytodino_export.int8 import Int8Report, count_int8_products, to_int8
from cytodino_export.int8_process import quantise_in_child
from cytodino_export.int8_tuning import rank_groups, relative_logit_error, tune_int8
from cytodino_export.onnx_graph import write_graph
from cytodino_export.qdq import restore_float

SIZE, HIDDEN, BLOCKS = 48, 64, 2
STRAY = "block 0 qkv"
LOOSE = Limits(margin=1.0, probability=1.0)

Crops = list[NDArray[np.uint8]]


def draw_model(*, gated: bool = False) -> CytoDino:
    config = DINOv3ViTConfig(
        hidden_size=HIDDEN,
        num_hidden_layers=BLOCKS,
        num_attention_heads=2,
        intermediate_size=128,
        num_register_tokens=4,
        image_size=SIZE,
        use_gated_mlp=gated,
    )
    generator = torch.Generator().manual_seed(0)
    model = CytoDino(DINOv3ViTModel(config), DecoderHead(HIDDEN, layers=2), Preprocess(SIZE))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lambda1" in name or ("norm" in name and name.endswith("weight")):
                weight.uniform_(0.3, 1.5, generator=generator)
            else:
                weight.normal_(0.0, 0.1, generator=generator)
    return model.eval()


def draw_crops(count: int, seed: int, *, one_size: bool = False) -> Crops:
    """Blobs on a ground: more like cells than noise is."""
    generator = np.random.default_rng(seed)
    crops = []
    for _ in range(count):
        height, width = (52, 52) if one_size else generator.integers(40, 70, 2)
        y, x = np.mgrid[:height, :width]
        inside = np.hypot(y - height / 2, x - width / 2) < generator.uniform(8, 22)
        ground, cell = generator.integers(0, 256, (2, 3))
        pixels = np.where(inside[..., None], cell, ground) + generator.normal(0, 15, (*y.shape, 3))
        crops.append(np.clip(pixels, 0, 255).astype(np.uint8))
    return crops


def logits_of(model: torch.nn.Module, crops: Crops) -> NDArray[np.float32]:
    with torch.inference_mode():
        return np.concatenate([model(torch.from_numpy(crop[None])).numpy() for crop in crops])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("int8")


@pytest.fixture(scope="module")
def source(folder: Path) -> Path:
    return write_graph(
        fold(draw_model()), folder / "model.fp32.onnx", image_size=SIZE, metadata={"a": "b"}
    )


@pytest.fixture(scope="module")
def quantised(source: Path, folder: Path) -> tuple[Path, Int8Report]:
    target = folder / "model.int8.onnx"
    return target, to_int8(source, target, draw_crops(16, 1))


def test_products_of_the_blocks_are_int8_and_all_else_is_float(
    source: Path, quantised: tuple[Path, Int8Report]
) -> None:
    target, report = quantised
    before, after = onnx.load(source), onnx.load(target)
    assert report.products == 4 * BLOCKS == count_int8_products(after)
    assert report.calibration_crops == 16 and report.returned == ()
    regions = find_regions(before)
    made = {name: node.op_type for node in after.graph.node for name in node.output}
    products = {name for names in regions.groups.values() for name in names}
    for node in after.graph.node:
        dequantised = [made.get(name) == "DequantizeLinear" for name in node.input]
        if node.name in products:
            assert all(dequantised)
        else:
            assert not any(dequantised), node.name


def test_weights_have_a_scale_for_every_output_channel(quantised: tuple[Path, Int8Report]) -> None:
    model = onnx.load(quantised[0])
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    stored = [
        n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants
    ]
    assert len(stored) == 4 * BLOCKS
    for node in stored:
        weight, scale = (to_array(constants[name]) for name in node.input[:2])
        assert weight.dtype == np.int8 and scale.shape == (weight.shape[1],)


def test_preprocessing_and_head_are_the_same_to_the_bit(
    source: Path, quantised: tuple[Path, Int8Report]
) -> None:
    before, after = onnx.load(source), onnx.load(quantised[0])
    regions = find_regions(before)
    outside = regions.preprocessing | regions.patch_embedding | regions.head
    old = {node.name: node for node in before.graph.node if node.name in outside}
    new = {node.name: node for node in after.graph.node if node.name in outside}
    assert old == new
    constants = {tensor.name: tensor for tensor in after.graph.initializer}
    for tensor in before.graph.initializer:
        if any(tensor.name in node.input for node in old.values()):
            assert constants[tensor.name] == tensor
    assert before.graph.input == after.graph.input and before.graph.output == after.graph.output
    assert before.metadata_props == after.metadata_props


def test_both_engines_agree_with_float_on_any_batch_and_size(
    source: Path, quantised: tuple[Path, Int8Report]
) -> None:
    crops = draw_crops(6, 2)
    expected = float_logits(onnx.load(source), crops)
    by_onnxruntime = float_logits(onnx.load(quantised[0]), crops)
    by_openvino = openvino_logits(quantised[0], crops)
    assert 1e-6 < relative_logit_error(expected, by_onnxruntime) < 0.03
    assert 1e-6 < relative_logit_error(expected, by_openvino) < 0.03
    import onnxruntime

    session = onnxruntime.InferenceSession(quantised[0], providers=["CPUExecutionProvider"])
    stack = np.stack(draw_crops(5, 3, one_size=True))
    together = session.run(None, {"crops": stack})[0]
    alone = np.concatenate([session.run(None, {"crops": crop[None]})[0] for crop in stack])
    assert np.allclose(together, alone, atol=2e-3)


def test_named_nodes_stay_float(source: Path, tmp_path: Path) -> None:
    names = find_regions(onnx.load(source)).groups["block 0 up_proj"]
    report = to_int8(
        source, tmp_path / "q.onnx", draw_crops(2, 1), float_nodes=names, reduce_range=True
    )
    assert report.products == 4 * BLOCKS - 1


def test_a_gated_model_is_quantised_as_well(tmp_path: Path) -> None:
    path = tmp_path / "gated.onnx"
    write_graph(fold(draw_model(gated=True)), path, image_size=SIZE, metadata={})
    assert to_int8(path, tmp_path / "q.onnx", draw_crops(2, 1)).products == 4 * BLOCKS
    assert list(find_regions(onnx.load(path)).groups)[:4] == [
        "block 0 qkv",
        "block 0 o_proj",
        "block 0 up_proj",
        "block 0 down_proj",
    ]


def test_restoring_every_product_gives_the_float_model_back(
    source: Path, quantised: tuple[Path, Int8Report]
) -> None:
    before = onnx.load(source)
    names = [name for nodes in find_regions(before).groups.values() for name in nodes]
    restored = restore_float(onnx.load(quantised[0]), before, names)
    assert count_int8_products(restored) == 0
    assert not any("Quantize" in node.op_type for node in restored.graph.node)
    crops = draw_crops(3, 2)
    assert np.allclose(float_logits(restored, crops), float_logits(before, crops), atol=1e-6)


def coarsen(model: onnx.ModelProto, product: str, factor: float) -> onnx.ModelProto:
    """Make a product's activations coarser: what a badly chosen range does."""
    node = next(node for node in model.graph.node if node.name == product)
    made = {name: n for n in model.graph.node for name in n.output}
    scale = made[node.input[0]].input[1]
    for tensor in model.graph.initializer:
        if tensor.name == scale:
            tensor.CopyFrom(from_array(to_array(tensor) * np.float32(factor), scale))
    return model


def test_the_group_that_strays_returns_to_float_and_no_other(
    source: Path, quantised: tuple[Path, Int8Report]
) -> None:
    before = onnx.load(source)
    groups = find_regions(before).groups
    broken = coarsen(onnx.load(quantised[0]), groups[STRAY][0], 40.0)
    crops = draw_crops(8, 4)
    reference = float_logits(before, crops)
    good = np.abs(_softmax(float_logits(onnx.load(quantised[0]), crops)) - _softmax(reference))
    bad = np.abs(_softmax(float_logits(broken, crops)) - _softmax(reference))
    assert bad.max() > 2 * good.max()
    limits = Limits(margin=1.0, probability=float(1.5 * good.max()))
    said: list[str] = []
    outcome = tune_int8(before, broken, crops, limits, say=said.append)
    assert [group.name for group in outcome.returned] == [STRAY]
    group = outcome.returned[0]
    assert group.nodes == groups[STRAY]
    assert group.error_after < group.error_before / 2
    assert group.probability_after <= limits.probability < group.probability_before
    assert outcome.error == group.error_after and outcome.report.failures == ()
    assert count_int8_products(outcome.model) == 4 * BLOCKS - 1
    assert any(f"{STRAY} back to float" in line for line in said)
    assert rank_groups(before, broken, crops[:2], reference[:2])[0] == STRAY


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def test_within_the_limits_nothing_returns(
    source: Path, quantised: tuple[Path, Int8Report]
) -> None:
    model = onnx.load(quantised[0])
    outcome = tune_int8(onnx.load(source), model, draw_crops(3, 4), LOOSE)
    assert outcome.returned == () and outcome.model is model


def test_tuning_ends_where_nothing_is_gained(source: Path) -> None:
    before = onnx.load(source)
    shifted = onnx.ModelProto()
    shifted.CopyFrom(before)
    for tensor in shifted.graph.initializer:
        if tensor.name == "head.classifier.bias":  # no group can mend the head
            noise = np.linspace(-1, 1, 21, dtype=np.float32)
            tensor.CopyFrom(from_array(to_array(tensor) + noise, tensor.name))
    outcome = tune_int8(before, shifted, draw_crops(2, 4), Limits(margin=1.0, probability=1e-6))
    assert outcome.returned == () and outcome.report.failures


def test_the_child_quantises_tunes_and_reports(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.int8.onnx"
    said: list[str] = []
    report = quantise_in_child(
        source,
        target,
        draw_crops(4, 1),
        draw_crops(4, 2),
        tuning_labels=np.array([0, 1, 2, 3]),
        limits=Limits(margin=1.0, probability=1e-7),
        say=said.append,
    )
    assert report.calibration_crops == 4 and report.tuning_crops == 4
    assert report.returned and report.products == count_int8_products(onnx.load(target))
    assert report.products <= 4 * BLOCKS - len(report.returned)
    assert report.tuning_error is not None and report.seconds > 0
    assert report.peak_memory is None or report.peak_memory > 50e6
    assert "quantising" in said and any("ranking" in line for line in said)


def test_without_crops_nothing_is_quantised(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no crops to calibrate"):
        quantise_in_child(source, tmp_path / "q.onnx", [])
    assert not (tmp_path / "q.onnx").exists()


def test_a_child_that_dies_is_an_export_error(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = subprocess.Popen

    def dying(command: list[str], **options: object):
        code = "import os, sys; print('bad alloc', file=sys.stderr, flush=True); os.abort()"
        return real([command[0], "-c", code], **options)

    monkeypatch.setattr(int8_process.subprocess, "Popen", dying)
    with pytest.raises(ExportError, match=r"code -?\d+: bad alloc"):
        quantise_in_child(source, tmp_path / "q.onnx", draw_crops(1, 1))


def test_a_graph_whose_blocks_read_the_crops_is_refused(source: Path, tmp_path: Path) -> None:
    model = onnx.load(source)
    regions = find_regions(model)
    shape = next(node for node in model.graph.node if node.op_type == "Shape")
    first = next(i for i, n in enumerate(model.graph.node) if n.name in regions.blocks)
    node = model.graph.node[first]
    cast = onnx.helper.make_node("Cast", [shape.output[0]], ["n_float"], name="c", to=1)
    zero = onnx.helper.make_node("Sub", ["n_float", "n_float"], ["zero"], name="z")
    add = onnx.helper.make_node("Add", [node.output[0], "zero"], ["more"], name="a")
    for other in model.graph.node[first + 1 :]:
        for place, name in enumerate(other.input):
            if name == node.output[0]:
                other.input[place] = "more"
    for place, extra in enumerate((cast, zero, add)):
        model.graph.node.insert(first + 1 + place, extra)
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(ExportError, match="more than the tokens"):
        to_int8(tmp_path / "odd.onnx", tmp_path / "q.onnx", draw_crops(1, 1))


def test_outliers_leave_the_float_model_and_our_int8_alone_but_not_a_naive_one(
    tmp_path: Path,
) -> None:
    crops = draw_crops(12, 5, one_size=True)
    calibration = draw_crops(8, 6, one_size=True)
    model = draw_model()
    before = logits_of(model, crops)
    assert add_outliers(model, share=0.05) == 2 * BLOCKS + 1 + 3 * 2 + 1
    reference = logits_of(model, crops)
    assert np.abs(reference - before).max() <= 1e-5 * before.std()
    assert max(p.detach().abs().max().item() for p in model.parameters()) > 10
    source, target = tmp_path / "model.onnx", tmp_path / "int8.onnx"
    write_graph(fold(model), source, image_size=SIZE, metadata={})
    to_int8(source, target, calibration)
    errors = compare_quantisers(reference, target, source, crops, calibration, tmp_path)
    assert errors["float onnxruntime"] < 1e-5
    assert errors["shipped onnxruntime"] <= 0.05 and errors["shipped openvino"] <= 0.05
    peer = errors["onnxruntime's static quantiser"]
    assert peer > 2 * max(errors["shipped onnxruntime"], errors["shipped openvino"])


@pytest.mark.parametrize("probability", [1.0, 1e-7])
def test_the_childs_part_done_here_leaves_file_and_report(
    probability: float,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run_here(folder: Path, say: object) -> None:
        monkeypatch.setattr("sys.argv", ["int8_process", str(folder)])
        assert int8_process.main() == 0

    monkeypatch.setattr(int8_process, "_run_child", run_here)
    report = quantise_in_child(
        source,
        tmp_path / "q.onnx",
        draw_crops(2, 1),
        draw_crops(2, 2),
        limits=Limits(margin=1.0, probability=probability),
    )
    assert bool(report.returned) == (probability < 1)
    assert report.tuning_crops == 2 and report.tuning_probability is not None
    assert report.products == count_int8_products(onnx.load(tmp_path / "q.onnx"))
    assert "progress: quantising" in capsys.readouterr().err


def test_the_childs_deliberate_error_is_one_line(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run_here(folder: Path, say: object) -> None:
        monkeypatch.setattr("sys.argv", ["int8_process", str(folder)])
        assert int8_process.main() == 1

    monkeypatch.setattr(int8_process, "_run_child", run_here)
    with pytest.raises(FileNotFoundError, match="report"):
        quantise_in_child(source, tmp_path / "q.onnx", [])
    assert capsys.readouterr().err.startswith("failure: no crops to calibrate")


def test_without_nncf_the_extra_is_named(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(MissingExtraError, match=r"cytodino\[export\]"):
        to_int8(source, tmp_path / "q.onnx", draw_crops(1, 1))
