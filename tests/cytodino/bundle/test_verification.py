import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cytodino.bundle import open_bundle, verification
from cytodino.bundle.verdicts import machine_verdicts, usable_here
from cytodino.bundle.verification import verify_bundle
from cytodino.engines.selection import PROVIDERS, Target
from cytodino.errors import BundleError, MissingExtraError

CPU = "CPUExecutionProvider"
Reseal = Callable[[Path, Callable[[dict[str, Any]], None]], None]


def test_a_sound_bundle_passes_and_the_machine_remembers(bundle_path: Path, cache: Path) -> None:
    before = {path: path.read_bytes() for path in bundle_path.iterdir()}
    said: list[str] = []
    found = verify_bundle(bundle_path, say=said.append)
    assert found.refused is None
    (check,) = found.checks
    assert (check.variant, check.verdict.verdict, check.verdict.n) == ("fp32", "passed", 210)
    assert check.description is not None
    assert check.description.provider == CPU
    assert check.drift is not None
    assert check.drift < 1e-4
    assert Path(found.record).is_relative_to(cache)
    assert {path: path.read_bytes() for path in bundle_path.iterdir()} == before
    bundle = open_bundle(bundle_path)
    assert machine_verdicts(bundle)["fp32"][0].verdict == "passed"
    assert usable_here(bundle, "onnxruntime", CPU) == ("fp32",)
    assert json.loads(found.model_dump_json())["checks"][0]["verdict"]["verdict"] == "passed"
    assert any("fp32" in line for line in said)


def test_a_model_that_strays_is_refused_and_not_used_here(
    bundle_path: Path, reseal: Reseal, linear: Callable[[Path, np.ndarray], None]
) -> None:
    weight = np.random.default_rng(0).normal(0, 8, (3, 21))
    linear(bundle_path / "model.fp32.onnx", weight[:, ::-1])
    reseal(bundle_path, lambda document: None)
    found = verify_bundle(bundle_path)
    assert "fp32 fails on onnxruntime" in str(found.refused)
    assert found.checks[0].verdict.flips
    assert usable_here(open_bundle(bundle_path), "onnxruntime", CPU) == ()


def test_a_model_that_gives_nan_is_a_failed_verdict(
    bundle_path: Path, reseal: Reseal, linear: Callable[[Path, np.ndarray], None]
) -> None:
    linear(bundle_path / "model.fp32.onnx", np.full((3, 21), np.nan))
    reseal(bundle_path, lambda document: None)
    (check,) = verify_bundle(bundle_path).checks
    assert check.verdict.verdict == "failed"
    assert "not finite" in check.verdict.reasons[0]
    assert check.description is not None


def test_an_engine_that_crashes_is_a_failed_verdict(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "probe", lambda *a, **o: "crashed (SIGSEGV)")
    found = verify_bundle(bundle_path)
    assert found.checks[0].verdict.reasons == ("crashed (SIGSEGV)",)
    assert found.refused is not None


def test_a_cuda_that_does_not_load_proves_nothing(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = verification.probe
    targets = [Target("onnxruntime", device, PROVIDERS[device]) for device in ("cuda", "cpu")]
    monkeypatch.setattr(verification, "targets_found", lambda: targets)
    monkeypatch.setattr(
        verification,
        "probe",
        lambda *a, device, **o: (
            "no libcudart" if device == "cuda" else probe(*a, device=device, **o)
        ),
    )
    found = verify_bundle(bundle_path)
    assert [check.verdict.verdict for check in found.checks] == ["unproven", "passed"]
    assert found.refused is None


def test_few_golden_cells_prove_nothing_and_refuse_nothing(
    build: Callable[..., Path], tmp_path: Path
) -> None:
    found = verify_bundle(build(tmp_path / "small", cells=30))
    assert found.checks[0].verdict.verdict == "unproven"
    assert "200 are needed" in found.checks[0].verdict.reasons[0]
    assert found.refused is None


def test_a_bundle_kept_for_study_stays_refused(build: Callable[..., Path], tmp_path: Path) -> None:
    found = verify_bundle(build(tmp_path / "failed", usable=False))
    assert found.checks[0].verdict.verdict == "passed"
    assert "unusable" in str(found.refused)


def test_a_tampered_bundle_is_not_even_tried(bundle_path: Path) -> None:
    (bundle_path / "parity.json").write_text("[]\n")
    with pytest.raises(BundleError, match=r"parity\.json"):
        verify_bundle(bundle_path)


def test_a_box_without_an_engine_names_the_extra(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"cytodino\[cpu\]"):
        verify_bundle(bundle_path)
