"""A deliberately broken variant is caught, whatever is wrong with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cytodino.engines.selection import PROVIDERS, Target
from cytodino.engines.variants import file_of
from cytodino.limits import LIMITS
from cytodino.machine import describe_machine
from cytodino.modeling.preprocessing import MEAN
from cytodino.run import open_run
from cytodino_export import gate as gate_module
from cytodino_export.deploy import STEPS
from cytodino_export.fp16 import HALF_SUFFIX
from cytodino_export.gate import Candidate, Gate, Invariance, ParityChain
from cytodino_export.gate_cells import choose_cells
from cytodino_export.merge import load_unmerged, logits_of
from cytodino_export.pipeline import ExportResult

FP32 = LIMITS["fp32"]


@pytest.fixture(scope="module")
def gate(run_path: Path) -> Gate:
    run = open_run(run_path)
    cells = choose_cells(run, max_cells=2_000)
    return Gate(cells, logits_of(load_unmerged(run), cells.crops), describe_machine())


@pytest.fixture
def sound(exported: ExportResult) -> Path:
    assert exported.bundle is not None
    return exported.bundle / "model.fp32.onnx"


def constant(graph: onnx.GraphProto, name: str) -> onnx.TensorProto:
    """A constant, float32 or, in an FP16 file, half."""
    names = (name, name + HALF_SUFFIX)
    return next(tensor for tensor in graph.initializer if tensor.name in names)


def edit(tensor: onnx.TensorProto, change: Callable[[np.ndarray], np.ndarray]) -> None:
    values = numpy_helper.to_array(tensor)
    changed = np.ascontiguousarray(change(values.copy())).astype(values.dtype)
    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))


def swap_classes(graph: onnx.GraphProto) -> None:
    order = [1, 0, *range(2, 21)]
    for name in ("head.classifier.weight", "head.classifier.bias"):
        edit(constant(graph, name), lambda values: values[order])


def read_as_bgr(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == "crops":
                node.input[place] = "bgr"
    graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0]), "reversed"))
    graph.node.insert(0, onnx.helper.make_node("Gather", ["crops", "reversed"], ["bgr"], axis=3))


def take_another_mean(graph: onnx.GraphProto) -> None:
    """The mean is folded into the patch embedding's bias."""
    imagenet = np.array([0.485, 0.456, 0.406])
    weight = numpy_helper.to_array(constant(graph, "backbone.patches.weight"))  # (hidden, 3, p, p)
    a_channel = weight.astype(np.float64).sum(axis=(2, 3)) * 255 / STEPS
    edit(
        constant(graph, "backbone.patches.bias"),
        lambda values: values + a_channel @ (np.array(MEAN) - imagenet),
    )


def scale_a_layer(graph: onnx.GraphProto) -> None:
    """One block's `down` off by 3 %: an agreement limit alone would let it pass."""
    weight = next(tensor for tensor in graph.initializer if list(tensor.dims) == [64, 32])
    edit(weight, lambda values: values * 1.03)


def mix_the_batch(graph: onnx.GraphProto) -> None:
    """Let every cell see a little of its neighbours, as statistics over the batch do."""
    graph.node[-1].output[0] = "own"
    graph.initializer.append(numpy_helper.from_array(np.array([0]), "batch_axis"))
    graph.initializer.append(numpy_helper.from_array(np.array(0.05, np.float32), "share"))
    graph.node.extend(
        [
            onnx.helper.make_node("ReduceMean", ["own", "batch_axis"], ["mean_of_batch"]),
            onnx.helper.make_node("Mul", ["mean_of_batch", "share"], ["others"]),
            onnx.helper.make_node("Add", ["own", "others"], ["logits"]),
        ]
    )


def overflow(graph: onnx.GraphProto) -> None:
    edit(constant(graph, "head.norm.weight"), lambda values: values * np.inf)


def write_broken(sound: Path, folder: Path, change: Callable[[onnx.GraphProto], None]) -> Path:
    model = onnx.load(sound)
    change(model.graph)
    onnx.checker.check_model(model)
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def judge_one(gate: Gate, model: Path) -> Candidate:
    (candidate,) = [
        found
        for found in gate.judge(model, "fp32", FP32)
        if found.result.verdict.engine == "onnxruntime"
    ]
    return candidate


def test_a_sound_variant_passes_with_everything_measured(gate: Gate, sound: Path) -> None:
    candidate = judge_one(gate, sound)
    result = candidate.result
    assert (result.verdict.verdict, result.verdict.reasons) == ("passed", ())
    assert result.verdict.n == len(gate.cells.acceptance.rows) >= 200
    assert [(link.cells, link.batch_size) for link in result.links] == [
        ("acceptance", 8),
        ("golden", 8),
        ("golden", 1),
        ("golden", 7),
        ("other sizes", 8),
    ]
    assert result.links[0].report.labelled is not None
    assert result.invariance is not None
    assert result.invariance.failures == ()
    assert candidate.golden is not None
    assert candidate.golden.shape == (256, 21)


@pytest.mark.parametrize(
    "change", [swap_classes, read_as_bgr, take_another_mean, scale_a_layer, mix_the_batch]
)
def test_a_broken_variant_is_caught(
    gate: Gate, sound: Path, tmp_path: Path, change: Callable[[onnx.GraphProto], None]
) -> None:
    result = judge_one(gate, write_broken(sound, tmp_path, change)).result
    assert result.verdict.verdict == "failed"
    assert result.verdict.reasons


@pytest.mark.parametrize("change", [swap_classes, read_as_bgr, take_another_mean])
@pytest.mark.parametrize("variant", [name for name in LIMITS if name != "fp32"])
def test_a_broken_variant_is_caught_in_every_precision(
    gate: Gate,
    exported: ExportResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variant: str,
    change: Callable[[onnx.GraphProto], None],
) -> None:
    assert exported.bundle is not None
    monkeypatch.setattr(gate_module, "probe", lambda *a, **o: None)
    broken = write_broken(exported.bundle / f"model.{file_of(variant)}.onnx", tmp_path, change)
    found = [one.result.verdict for one in gate.judge(broken, variant, LIMITS[variant])]
    assert not [one for one in found if one.verdict == "passed"]
    tried = {one.engine for one in found if one.verdict == "failed"}
    assert tried or "no bf16" in found[0].reasons[0]


def is_a_layers_scale(name: str) -> bool:
    """Matrices, gains, the patch convolution: what scales a layer. What is left out is told why.

    Biases: 3 % of one moves the logits by less than FP16's own rounding does. `head.start` is read
    by norms alone where FP16 keeps it float32, and they take its scale out again. `sine` and
    `prefix` are constants beside the layers. `test_fp16_constants` has every one of them.
    """
    return not name.endswith(("bias", "head.start", "sine" + HALF_SUFFIX, "prefix" + HALF_SUFFIX))


def scales(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    return [
        tensor
        for tensor in model.graph.initializer
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
        and len(tensor.dims) > 0
        and is_a_layers_scale(tensor.name.replace("bias" + HALF_SUFFIX, "bias"))
    ]


@pytest.mark.parametrize("variant", ["fp32", "fp16"])
def test_every_layer_off_by_3_percent_is_caught(
    gate: Gate,
    exported: ExportResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variant: str,
) -> None:
    """By the logits alone, in each layer in turn, on the engine that hides most."""
    assert exported.bundle is not None
    monkeypatch.setattr(gate_module, "probe", lambda *a, **o: None)
    cpu = Target("onnxruntime", "cpu", PROVIDERS["cpu"])
    monkeypatch.setattr(gate_module, "targets_found", lambda: [cpu])
    model = onnx.load(exported.bundle / f"model.{variant}.onnx")
    tried = [tensor.name for tensor in scales(model)]
    # 2 blocks of 6, 2 layers of the head of 10, and what lies around them
    assert len(tried) == {"fp32": 38, "fp16": 36}[variant]
    unseen = []
    for tensor in scales(model):
        kept = onnx.TensorProto()
        kept.CopyFrom(tensor)
        edit(tensor, lambda values: values * np.float32(1.03))
        onnx.save(model, tmp_path / "model.onnx")
        tensor.CopyFrom(kept)
        found = gate.judge(tmp_path / "model.onnx", variant, LIMITS[variant])
        if found[0].result.verdict.verdict != "failed":
            unseen.append(tensor.name)
    assert unseen == []
    onnx.save(model, tmp_path / "model.onnx")
    sound = gate.judge(tmp_path / "model.onnx", variant, LIMITS[variant])[0]
    assert sound.result.verdict.verdict == "passed"


def test_a_cell_that_sees_its_neighbours_is_told_by_its_batch(
    gate: Gate, sound: Path, tmp_path: Path
) -> None:
    result = judge_one(gate, write_broken(sound, tmp_path, mix_the_batch)).result
    assert result.invariance is not None
    assert any("alone" in reason for reason in result.invariance.failures)
    assert any("padded" in reason for reason in result.verdict.reasons)


def test_logits_that_are_not_finite_fail(gate: Gate, sound: Path, tmp_path: Path) -> None:
    candidate = judge_one(gate, write_broken(sound, tmp_path, overflow))
    assert candidate.result.verdict.verdict == "failed"
    assert "not finite" in candidate.result.verdict.reasons[0]
    assert candidate.result.description is not None
    assert candidate.golden is None


def test_a_file_that_no_engine_opens_fails_without_ending_the_export(
    gate: Gate, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    result = judge_one(gate, path).result
    assert result.verdict.verdict == "failed"
    assert "cannot open the model" in result.verdict.reasons[0]


def test_a_crash_in_the_child_is_a_failed_verdict(
    gate: Gate, sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_module, "probe", lambda *a, **o: "crashed (SIGSEGV)")
    assert judge_one(gate, sound).result.verdict.reasons == ("crashed (SIGSEGV)",)


def test_every_engine_is_opened_in_a_child_before_it_is_opened_here(
    gate: Gate, sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    probe, open_model = gate_module.probe, gate_module.open_model

    def probed(*arguments: Any, **options: Any) -> Any:
        order.append("child")
        return probe(*arguments, **options)

    def opened(*arguments: Any, **options: Any) -> Any:
        order.append("here")
        return open_model(*arguments, **options)

    monkeypatch.setattr(gate_module, "probe", probed)
    monkeypatch.setattr(gate_module, "open_model", opened)
    judge_one(gate, sound)
    assert order[:2] == ["child", "here"]


@pytest.mark.parametrize("moved", ["alone", "shuffled", "padded"])
def test_each_way_to_depend_on_the_batch_is_named(moved: str) -> None:
    still = {"alone": 0.0, "shuffled": 0.0, "padded": 0.0, "limit": 1e-4}
    assert Invariance(**still).failures == ()
    assert moved in Invariance(**still | {moved: 2e-4}).failures[0]
    assert Invariance(**still | {moved: float("nan")}).failures


def test_a_broken_link_in_pytorch_leaves_nothing_usable(exported: ExportResult, gate: Gate) -> None:
    chain = exported.chain
    assert chain.broken is None
    assert chain.usable("fp32")
    strayed, _ = gate.link(
        ("unmerged", "merged"),
        gate.cells.golden,
        lambda crops: gate.reference[gate.cells.golden.rows] * np.float32(1.03),
        FP32,
    )
    broken = ParityChain(
        machine=chain.machine, cells=chain.cells, links=(strayed,), variants=chain.variants
    )
    assert broken.broken == strayed
    assert not broken.usable("fp32")
    assert not broken.usable("int8")
    assert not chain.usable("int4")
