import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cytodino.bundle import open_bundle, verification
from cytodino.bundle.verdicts import machine_verdicts, usable_here
from cytodino.bundle.verification import Check, Verification, verify_bundle
from cytodino.engines.selection import PROVIDERS, Target
from cytodino.errors import BundleError, MissingExtraError
from cytodino.limits import LIMITS

CPU = "CPUExecutionProvider"
Reseal = Callable[[Path, Callable[[dict[str, Any]], None]], None]


def on(engine: str, found: Verification) -> Check:
    """The one check on an engine, on the CPU."""
    (check,) = [
        one
        for one in found.checks
        if one.verdict.engine == engine and "CUDA" not in one.verdict.provider
    ]
    return check


def test_a_sound_bundle_passes_and_the_machine_remembers(bundle_path: Path, cache: Path) -> None:
    before = {path: path.read_bytes() for path in bundle_path.iterdir()}
    said: list[str] = []
    found = verify_bundle(bundle_path, say=said.append)
    assert found.refused is None
    check = on("onnxruntime", found)
    assert (check.variant, check.verdict.verdict, check.verdict.n) == ("fp32", "passed", 210)
    assert on("openvino", found).verdict.verdict == "passed"
    assert check.description is not None
    assert check.description.provider == CPU
    assert check.drift is not None
    assert check.drift < 1e-4
    assert found.record is not None
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
    assert on("onnxruntime", found).verdict.flips
    assert usable_here(open_bundle(bundle_path), "onnxruntime", CPU) == ()


def test_a_model_that_gives_nan_is_a_failed_verdict(
    bundle_path: Path, reseal: Reseal, linear: Callable[[Path, np.ndarray], None]
) -> None:
    linear(bundle_path / "model.fp32.onnx", np.full((3, 21), np.nan))
    reseal(bundle_path, lambda document: None)
    check = on("onnxruntime", verify_bundle(bundle_path))
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


def test_a_variant_that_the_export_refused_on_an_engine_is_no_news(
    bundle_path: Path, reseal: Reseal, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = verification.probe
    monkeypatch.setattr(
        verification,
        "probe",
        lambda *a, engine, **o: "no" if engine == "openvino" else probe(*a, engine=engine, **o),
    )
    assert "fp32 fails on openvino" in str(verify_bundle(bundle_path).refused)

    def refuse(document: dict[str, Any]) -> None:
        (found,) = document["variants"]["fp32"]["verdicts"]
        failed = found | {"engine": "openvino", "provider": "CPU", "verdict": "failed"}
        document["variants"]["fp32"]["verdicts"] = [found, failed]

    reseal(bundle_path, refuse)
    found = verify_bundle(bundle_path)
    assert on("openvino", found).verdict.verdict == "failed"
    assert found.refused is None


def test_a_variant_is_checked_where_it_can_run(
    bundle_path: Path, reseal: Reseal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(document: dict[str, Any]) -> None:
        document["variants"]["bf16"] = document["variants"]["fp32"]
        document["limits"]["bf16"] = LIMITS["bf16"].model_dump()

    reseal(bundle_path, add)
    monkeypatch.setattr("cytodino.engines.selection.supports_bf16", lambda: False)
    checks = [one for one in verify_bundle(bundle_path).checks if one.variant == "bf16"]
    assert [one.verdict.engine for one in checks] == ["openvino"]
    assert (checks[0].verdict.verdict, checks[0].verdict.reasons) == (
        "unproven",
        ("this CPU has no bf16",),
    )


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
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"cytodino\[cpu\]"):
        verify_bundle(bundle_path)


def test_a_machine_that_cannot_remember_still_says_what_it_found(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    said: list[str] = []
    found = verify_bundle(bundle_path, say=said.append)
    assert on("onnxruntime", found).verdict.verdict == "passed"
    assert found.record is None
    assert any(line.startswith("not recorded") for line in said)
