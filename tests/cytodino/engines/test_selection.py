import sys
from pathlib import Path

import pytest

from cytodino.bundle import Bundle
from cytodino.bundle.manifest import EngineVerdict
from cytodino.bundle.verdicts import record_verdicts
from cytodino.engines import open_engine, selection
from cytodino.errors import BundleError, EngineError, MissingExtraError, ParityError
from cytodino.machine import describe_machine
from cytodino.parity import Verdict

CPU = "CPUExecutionProvider"


def record(bundle: Bundle, verdict: Verdict, provider: str = CPU) -> None:
    found = EngineVerdict(engine="onnxruntime", provider=provider, machine="here", verdict=verdict)
    record_verdicts(bundle, {"fp32": (found,)}, machine=describe_machine())


def test_auto_takes_what_passed(passed_bundle: Bundle) -> None:
    with open_engine(passed_bundle) as engine:
        assert (engine.name, engine.variant, engine.device) == ("onnxruntime", "fp32", "cpu")


def test_what_failed_is_refused_by_name_and_by_auto(failed_bundle: Bundle) -> None:
    with pytest.raises(ParityError, match="no variant has passed") as caught:
        open_engine(failed_bundle)
    assert caught.value.exit_code == 4
    with pytest.raises(ParityError, match="fp32 has not passed"):
        open_engine(failed_bundle, variant="fp32")


def test_a_variant_that_the_bundle_has_not(passed_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="no variant int8.*fp32"):
        open_engine(passed_bundle, variant="int8")


def test_an_engine_and_a_device_that_there_are_none_of(passed_bundle: Bundle) -> None:
    with pytest.raises(EngineError, match="no engine tflite"):
        open_engine(passed_bundle, engine="tflite")
    with pytest.raises(EngineError, match="no device tpu"):
        open_engine(passed_bundle, device="tpu")
    with pytest.raises(EngineError, match="does not read ONNX"):
        selection.open_model(passed_bundle.model_path("fp32"), engine="pytorch")


def test_a_failure_on_this_machine_stands_above_the_export(passed_bundle: Bundle) -> None:
    record(passed_bundle, "failed")
    with pytest.raises(ParityError):
        open_engine(passed_bundle)


def test_a_pass_on_this_machine_does_not_revive_what_the_export_refused(
    failed_bundle: Bundle,
) -> None:
    record(failed_bundle, "passed")
    with pytest.raises(ParityError):
        open_engine(failed_bundle)


def test_a_pass_on_this_machine_opens_a_device_that_the_export_never_saw(
    gpu_only_bundle: Bundle,
) -> None:
    with pytest.raises(ParityError, match="verify"):
        open_engine(gpu_only_bundle, device="cpu")
    record(gpu_only_bundle, "passed")
    with open_engine(gpu_only_bundle, device="cpu") as engine:
        assert engine.device == "cpu"


def test_a_damaged_record_counts_as_none(passed_bundle: Bundle, cache: Path) -> None:
    record(passed_bundle, "failed")
    (file,) = cache.rglob("*.json")
    file.write_text("{")
    with open_engine(passed_bundle) as engine:
        assert engine.variant == "fp32"


def test_auto_falls_to_the_cpu_aloud_where_cuda_does_not_load(
    gpu_only_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(gpu_only_bundle, "passed")
    monkeypatch.setattr(selection, "providers_found", lambda: ["cuda", "cpu"])
    with open_engine(gpu_only_bundle) as engine:
        assert engine.device == "cpu"
        assert any("cuda is not used" in warning for warning in engine.describe().warnings)


def test_auto_says_that_cuda_has_to_be_verified(
    passed_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "providers_found", lambda: ["cuda", "cpu"])
    with open_engine(passed_bundle) as engine:
        assert any("passed on onnxruntime, cuda" in note for note in engine.describe().warnings)


def test_pytorch_needs_the_run(passed_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="--reference RUN"):
        open_engine(passed_bundle, engine="pytorch")
    with pytest.raises(EngineError, match="runs fp32"):
        open_engine(passed_bundle, engine="pytorch", variant="int8", reference=tmp_path)


def test_pytorch_that_is_not_installed_names_the_extra(
    passed_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "cytodino.engines.pytorch", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"cytodino\[train\]"):
        open_engine(passed_bundle, engine="pytorch", reference=tmp_path)
