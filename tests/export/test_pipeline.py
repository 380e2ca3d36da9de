import json
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
from cytodino.engines.pytorch import open_reference
from cytodino.errors import BundleError, ExportError, MissingExtraError, ParityError
from cytodino.limits import LIMITS, Limits
from cytodino_export import pipeline
from cytodino_export.gate import ParityChain
from cytodino_export.pipeline import ExportOptions, ExportResult, export_run

FILES = [
    "LICENSE-DINOV3-NOTICE.md",
    "cytodino.json",
    "golden.h5",
    "model.fp32.onnx",
    "parity.json",
]
IMPOSSIBLE = {**LIMITS, "fp32": Limits(margin=0.001, probability=0.0, logit_absolute=1e-12)}


@pytest.fixture
def quick(exported: ExportResult, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the graph that was exported before: tracing it is most of an export's time."""

    def copy(model: Any, path: Path, **options: Any) -> Path:
        assert exported.bundle is not None
        path.write_bytes((exported.bundle / "model.fp32.onnx").read_bytes())
        return path

    monkeypatch.setattr(pipeline, "write_graph", copy)


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


def test_the_bundle_is_used_and_verified_like_any_other(exported: ExportResult) -> None:
    assert exported.bundle is not None
    bundle = open_bundle(exported.bundle)
    with open_engine(bundle, engine="onnxruntime", variant="fp32", device="cpu") as engine:
        assert check_golden(bundle, engine).verdict == "passed"
        assert check_golden(bundle, engine, cells=32).failures == ()
    found = verify_bundle(exported.bundle)
    assert found.refused is None
    drifts = [check.drift for check in found.checks if check.verdict.engine == "onnxruntime"]
    assert drifts[0] is not None
    assert drifts[0] < 1e-5


def test_the_parity_chain_can_be_read_back(exported: ExportResult) -> None:
    assert exported.bundle is not None
    text = (exported.bundle / "parity.json").read_text()
    chain = ParityChain.model_validate_json(text)
    assert chain == exported.chain
    assert [(link.reference, link.candidate) for link in chain.links] == [
        ("unmerged", "merged"),
        ("merged", "folded"),
    ]
    assert chain.cells == {"acceptance": 231, "golden": 256, "other sizes": 8}
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
        assert not any((tmp_path / "out").iterdir())

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
            export_run(run_path, tmp_path / "out" / "bundle")
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
    assert document["provenance"]["options"]["precisions"] == ["fp32"]
    assert document["provenance"]["run"]["tune"] == "lora"
    assert document["provenance"]["run"]["lora"]["rank"] == 4
    assert document["provenance"]["acceptance"]["n"] == 231
    assert document["provenance"]["machine"]["cpu"]
