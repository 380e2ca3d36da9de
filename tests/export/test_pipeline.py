import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from cytodino.archive import open_archive
from cytodino.bundle import open_bundle
from cytodino.bundle.golden import check_golden, load_golden
from cytodino.bundle.verification import verify_bundle
from cytodino.cells import open_cells
from cytodino.engines import open_engine
from cytodino.engines.openvino import OpenVinoEngine
from cytodino.engines.openvino_library import supports_bf16
from cytodino.engines.pytorch import open_reference
from cytodino.engines.selection import Target
from cytodino.errors import BundleError, ExportError, MissingExtraError, ParityError
from cytodino.limits import LIMITS, Limits
from cytodino_export import gate, lowering, pipeline
from cytodino_export.chain import ParityChain
from cytodino_export.pipeline import ExportOptions, ExportResult, export_run

FILES = [
    "LICENSE-DINOV3-NOTICE.md",
    "config.json",
    "cytodino.json",
    "golden.h5",
    "model.fp16.onnx",
    "model.fp32.onnx",
    "model.int8.onnx",
    "parity.html",
    "parity.json",
]
ONNXRUNTIME = Target("onnxruntime", "cpu", "CPUExecutionProvider")
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
HAS_BF16 = supports_bf16()
PARTS = ("train", "validation", *["test"] * 11, "validation", "train", "train")
FP32_ONLY = ExportOptions(precisions=("fp32",))
IMPOSSIBLE = {**LIMITS, "fp32": Limits(margin=0.001, probability=0.0, logit_absolute=1e-12)}


@pytest.fixture
def quick(exported: ExportResult, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the graph that was exported before: tracing it is most of an export's time."""

    def copy(model: Any, path: Path, **options: Any) -> Path:
        assert exported.bundle is not None
        path.write_bytes((exported.bundle / "model.fp32.onnx").read_bytes())
        return path

    def quantise(source: Path, target: Path, *sets: Any, **options: Any) -> Any:
        assert exported.bundle is not None
        shutil.copyfile(exported.bundle / target.name, target)
        return exported.chain.int8

    def convert(source: Path, target: Path, crops: Any) -> Any:
        assert exported.bundle is not None
        assert exported.chain.fp16 is not None
        shutil.copyfile(exported.bundle / target.name, target)
        return exported.chain.fp16.conversion, exported.chain.fp16.ranges

    monkeypatch.setattr(pipeline, "write_graph", copy)
    monkeypatch.setattr(lowering, "quantise_in_child", quantise)
    monkeypatch.setattr(lowering, "to_examined_fp16", convert)
    monkeypatch.setattr(gate, "probe", lambda *a, **o: None)
    monkeypatch.setattr(gate, "targets_found", lambda: [ONNXRUNTIME])


def test_the_bundle_holds_what_the_design_says(exported: ExportResult) -> None:
    assert exported.refused is None
    assert exported.bundle is not None
    assert sorted(path.name for path in exported.bundle.iterdir()) == FILES
    bundle = open_bundle(exported.bundle)
    manifest = bundle.manifest
    assert manifest.image_size == 32
    assert manifest.variants["fp32"].usable
    assert "onnxruntime" in {found.engine for found in manifest.variants["fp32"].verdicts}
    assert manifest.limits["fp32"] == LIMITS["fp32"]
    assert manifest.provenance.backbone["kind"] == "random"
    assert "does not apply" in manifest.provenance.licence
    assert manifest.provenance.versions["torch"] == torch.__version__.split("+")[0]
    assert len(manifest.provenance.golden.ids) == 256
    assert not [path for path in exported.bundle.parent.iterdir() if "partial" in path.name]


def test_every_variant_is_judged_on_every_engine_that_can_run_it(exported: ExportResult) -> None:
    found = {
        (one.variant, one.verdict.engine, one.verdict.provider): one.verdict
        for one in exported.chain.variants
    }
    assert {one for one in found if one[1] == "onnxruntime"} == {
        ("fp32", "onnxruntime", CPU),
        ("fp16", "onnxruntime", CPU),
        ("fp16", "onnxruntime", CUDA),
        ("int8", "onnxruntime", CPU),
    }
    assert {one[0] for one in found if one[1] == "openvino"} == set(LIMITS)
    cuda = found.pop(("fp16", "onnxruntime", CUDA))
    assert (cuda.verdict, cuda.n) == ("unproven", 0)
    assert "verify" in cuda.reasons[0]
    for variant in ("bf16", "int8-bf16"):
        if not HAS_BF16:
            assert found.pop((variant, "openvino", "CPU")).verdict == "unproven"
    assert {verdict.verdict for verdict in found.values()} == {"passed"}


def test_a_variant_is_a_file_and_a_precision(exported: ExportResult) -> None:
    assert exported.bundle is not None
    manifest = open_bundle(exported.bundle).manifest
    assert set(manifest.models) == {"fp32", "fp16", "int8"}
    assert {name: variant.file for name, variant in manifest.variants.items()} == {
        "fp32": "model.fp32.onnx",
        "bf16": "model.fp32.onnx",
        "fp16": "model.fp16.onnx",
        "int8": "model.int8.onnx",
        "int8-bf16": "model.int8.onnx",
    }
    assert set(manifest.limits) == set(LIMITS)


def test_the_manifest_says_which_cells_calibrated_tuned_and_judged(exported: ExportResult) -> None:
    assert exported.bundle is not None
    found = open_bundle(exported.bundle).manifest.provenance
    assert found.calibration is not None
    assert found.tuning is not None
    held = [set(group["ids"]) for group in (found.calibration, found.tuning, found.acceptance)]
    assert [len(ids) for ids in held] == [21, 42, 231]
    for first, second in itertools.combinations([*held[:2], held[2] | set(found.golden.ids)], 2):
        assert first.isdisjoint(second)
    assert {PARTS[int(Path(name).stem) % len(PARTS)] for name in held[0] | held[1]} == {"train"}


def test_what_was_made_of_fp16_and_int8_is_reported(exported: ExportResult) -> None:
    fp16, int8 = exported.chain.fp16, exported.chain.int8
    assert fp16 is not None
    assert int8 is not None
    assert fp16.conversion.islands["attention"]
    assert (fp16.ranges.crops, fp16.ranges.reference_crops) == (16, 2)
    assert (int8.products, int8.calibration_crops, int8.tuning_crops) == (8, 21, 42)
    timed = [one for one in exported.chain.variants if one.speed is not None]
    assert {one.variant for one in timed} <= {"int8", "int8-bf16"}
    assert all(one.speed and one.speed.images_per_second > 0 for one in timed)
    assert len(timed) >= 2


def test_golden_cells_carry_pytorchs_logits_and_each_variants_own(
    exported: ExportResult, run_path: Path, cells_path: Path
) -> None:
    assert exported.bundle is not None
    golden = load_golden(open_bundle(exported.bundle))
    source = open_cells(cells_path)
    with open_reference(run_path, merged=False) as engine:
        for row in (0, 5, 200):
            pixels = source.read(source.ids.index(golden.ids[row]))
            assert np.array_equal(golden.crops[row], pixels)
            found = engine.logits(golden.crops[row][None])[0]
            assert np.abs(found - golden.reference[row]).max() < 1e-5
    assert np.abs(golden.exported["fp32.onnxruntime"] - golden.reference).max() < 1e-4
    with open_archive(exported.bundle / "golden.h5") as archive:
        assert archive.encoding == "files"
        assert archive.encoded(0).startswith(b"\x89PNG")
    with h5py.File(exported.bundle / "golden.h5") as file:
        assert file["reference"].dtype == np.float32


def test_the_bundle_is_used_and_verified_like_any_other(
    exported: ExportResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert exported.bundle is not None
    monkeypatch.setattr("cytodino.bundle.verification.probe", lambda *a, **o: None)
    bundle = open_bundle(exported.bundle)
    with open_engine(bundle, engine="onnxruntime", variant="fp32", device="cpu") as engine:
        assert check_golden(bundle, engine).verdict == "passed"
        assert check_golden(bundle, engine, cells=32).failures == ()
    found = verify_bundle(exported.bundle)
    assert found.refused is None
    drifts = [check.drift for check in found.checks if check.verdict.engine == "onnxruntime"]
    assert drifts[0] is not None
    assert drifts[0] < 1e-5


def test_verify_leaves_the_compiled_models_that_classify_starts_from(
    exported: ExportResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert exported.bundle is not None
    monkeypatch.setattr("cytodino.bundle.verification.probe", lambda *a, **o: None)
    verify_bundle(exported.bundle)
    with open_engine(open_bundle(exported.bundle), engine="openvino", variant="fp32") as engine:
        assert isinstance(engine, OpenVinoEngine)
        assert engine.from_cache


def test_the_parity_chain_can_be_read_back(exported: ExportResult) -> None:
    assert exported.bundle is not None
    text = (exported.bundle / "parity.json").read_text()
    chain = ParityChain.model_validate_json(text)
    assert chain == exported.chain
    assert [(link.reference, link.candidate) for link in chain.links] == [
        ("unmerged", "merged"),
        ("merged", "folded"),
    ]
    assert chain.cells == {
        "acceptance": 231,
        "golden": 256,
        "other sizes": 8,
        "calibration": 21,
        "tuning": 42,
    }
    assert all(link.report.logit_max < 1e-4 for link in chain.links)


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_in_any_file_is_refused(bundle_copy: Path, name: str) -> None:
    path = bundle_copy / name
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)
    with pytest.raises(BundleError, match=name):
        verify_bundle(bundle_copy)


@pytest.mark.usefixtures("quick")
class TestRefusal:
    def impossible(self, variant: str) -> dict[str, Limits]:
        return {**LIMITS, variant: Limits(margin=0.0, probability=0.0, agreement=1.0)}

    def test_int8_that_was_asked_for_refuses_the_export_and_fp16_that_was_not_is_recorded(
        self, run_path: Path, tmp_path: Path
    ) -> None:
        options = ExportOptions(precisions=("int8",), limits=self.impossible("int8"))
        result = export_run(run_path, tmp_path / "one", options)
        assert str(result.refused).startswith("int8 passes on no engine")
        assert result.bundle is None
        options = ExportOptions(limits=self.impossible("fp16"))
        result = export_run(run_path, tmp_path / "two", options)
        assert result.refused is None
        bundle = open_bundle(tmp_path / "two")
        assert not bundle.manifest.variants["fp16"].usable
        assert bundle.manifest.limits["fp16"].probability == 0.0
        changed = bundle.manifest.provenance.options["changed_limits"]
        assert changed["fp16.probability"] == 0.0
        with pytest.raises(ParityError, match="fp16 has not passed"):
            open_engine(bundle, variant="fp16")

    def test_fp16_that_is_named_has_to_pass_somewhere_cuda_or_not(
        self, run_path: Path, tmp_path: Path
    ) -> None:
        options = ExportOptions(precisions=("fp16",))
        result = export_run(run_path, tmp_path / "one", options)
        assert result.refused is None
        assert set(open_bundle(tmp_path / "one").manifest.models) == {"fp32", "fp16"}
        options = ExportOptions(precisions=("fp16",), limits=self.impossible("fp16"))
        result = export_run(run_path, tmp_path / "two", options)
        assert str(result.refused).startswith("fp16 passes on no engine")

    def test_fp16_whose_values_overflow_fails_wherever_it_runs(
        self, run_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        convert = lowering.to_examined_fp16

        def overflow(*given: Any) -> Any:
            conversion, ranges = convert(*given)
            return conversion, ranges.model_copy(update={"failures": ("too large",)})

        monkeypatch.setattr(lowering, "to_examined_fp16", overflow)
        options = ExportOptions(precisions=("fp16",))
        result = export_run(run_path, tmp_path / "bundle", options)
        found = [one.verdict for one in result.chain.variants if one.variant == "fp16"]
        assert [one.verdict for one in found] == ["failed", "failed"]
        assert {one.provider for one in found} == {CPU, CUDA}
        assert "too large" in str(result.refused)

    def test_nothing_is_made_from_an_fp32_that_strays(self, run_path: Path, tmp_path: Path) -> None:
        options = ExportOptions(limits=IMPOSSIBLE, allow_failing=True)
        result = export_run(run_path, tmp_path / "bundle", options)
        assert (result.chain.fp16, result.chain.int8) == (None, None)
        assert set(open_bundle(tmp_path / "bundle").manifest.models) == {"fp32"}

    @pytest.mark.parametrize("kept", [True, False])
    def test_what_is_kept_for_study_is_made_whole_on_too_few_cells(
        self, run_path: Path, tmp_path: Path, kept: bool
    ) -> None:
        options = ExportOptions(precisions=("fp32", "fp16"), max_cells=24, allow_failing=kept)
        result = export_run(run_path, tmp_path / "bundle", options)
        assert "24 cells, 200 are needed" in str(result.refused)
        assert (result.chain.fp16 is not None) == kept == (tmp_path / "bundle").exists()

    def test_a_merge_that_strays_leaves_no_bundle(
        self, run_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        merge = pipeline.merge

        def merge_badly(model: Any) -> Any:
            merged = merge(model)
            with torch.no_grad():
                merged.backbone.norm.weight.mul_(1.03)
            return merged

        monkeypatch.setattr(pipeline, "merge", merge_badly)
        result = export_run(run_path, tmp_path / "out" / "bundle")
        assert result.bundle is None
        assert str(result.refused).startswith("merged strays from unmerged")
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["bundle.refused"]

    def test_limits_that_nothing_meets_refuse_and_may_be_kept_for_study(
        self, run_path: Path, tmp_path: Path
    ) -> None:
        options = ExportOptions(limits=IMPOSSIBLE, allow_failing=True)
        result = export_run(run_path, tmp_path / "bundle", options)
        assert result.refused is not None
        assert result.bundle == tmp_path / "bundle"
        bundle = open_bundle(tmp_path / "bundle")
        assert not bundle.manifest.variants["fp32"].usable
        assert bundle.manifest.limits["fp32"].logit_absolute == 1e-12
        with pytest.raises(ParityError):
            open_engine(bundle)
        assert verify_bundle(tmp_path / "bundle").refused is not None

    def test_a_refused_export_leaves_its_report_until_the_next_attempt(
        self, run_path: Path, tmp_path: Path
    ) -> None:
        report = tmp_path / "bundle.refused"
        refused = ExportOptions(precisions=("fp32",), limits=IMPOSSIBLE)
        for _ in range(2):
            result = export_run(run_path, tmp_path / "bundle", refused)
            assert (result.bundle, result.report) == (None, report)
            assert [path.name for path in tmp_path.iterdir() if path.suffix] == ["bundle.refused"]
            assert sorted(path.name for path in report.iterdir()) == ["parity.html", "parity.json"]
            text = (report / "parity.json").read_text(encoding="utf-8")
            assert ParityChain.model_validate_json(text) == result.chain
            page = (report / "parity.html").read_text(encoding="utf-8")
            assert f"no bundle was written: {result.refused}" in page
        with pytest.raises(BundleError, match="is no bundle"):
            open_bundle(report)
        (report / "note.txt").touch()
        result = export_run(run_path, tmp_path / "bundle", refused)
        assert result.report is None
        assert [path.name for path in report.iterdir()] == ["note.txt"]
        (report / "note.txt").unlink()
        assert export_run(run_path, tmp_path / "bundle", FP32_ONLY).report is None
        assert not report.exists()

    def test_too_few_cells_prove_nothing(self, run_path: Path, tmp_path: Path) -> None:
        result = export_run(run_path, tmp_path / "bundle", ExportOptions(max_cells=42))
        assert "42 cells, 200 are needed" in str(result.refused)
        assert not (tmp_path / "bundle").exists()

    def test_an_interrupted_export_leaves_nothing(
        self, run_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*arguments: Any, **options: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(pipeline, "assemble", interrupt)
        with pytest.raises(KeyboardInterrupt):
            export_run(run_path, tmp_path / "out" / "bundle", FP32_ONLY)
        assert not any((tmp_path / "out").iterdir())


def test_what_exists_is_not_written_over(run_path: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    with pytest.raises(ExportError, match="already exists"):
        export_run(run_path, tmp_path / "bundle")
    assert not any((tmp_path / "bundle").iterdir())


def test_a_place_that_cannot_be_written_is_one_line(run_path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written"):
        export_run(run_path, tmp_path / "file" / "bundle")


def test_a_library_that_is_missing_is_said_before_any_work(
    run_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = pipeline.importlib.util.find_spec
    monkeypatch.setattr(
        pipeline.importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "onnxscript" else find_spec(name, *rest),
    )
    with pytest.raises(MissingExtraError, match=r"onnxscript.*cytodino\[export\]"):
        export_run(run_path, tmp_path / "bundle")


def test_the_manifest_says_what_was_asked_and_from_which_run(exported: ExportResult) -> None:
    assert exported.bundle is not None
    document = json.loads((exported.bundle / "cytodino.json").read_text())
    assert document["provenance"]["options"]["precisions"] == ["fp32", "fp16", "int8"]
    assert document["provenance"]["options"]["required"] == ["fp32"]
    assert document["provenance"]["run"]["tune"] == "lora"
    assert document["provenance"]["run"]["lora"]["rank"] == 4
    assert document["provenance"]["acceptance"]["n"] == 231
    assert document["provenance"]["machine"]["cpu"]
