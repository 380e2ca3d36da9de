import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cytodino.bundle import Bundle
from cytodino.bundle.manifest import EngineVerdict
from cytodino.bundle.verdicts import record_verdicts
from cytodino.engines import Engine, open_engine, selection
from cytodino.engines.openvino import VARIANTS as OPENVINO_VARIANTS
from cytodino.engines.openvino import OpenVinoEngine
from cytodino.engines.tensorrt import TENSORRT
from cytodino.engines.variants import FILES, VARIANTS, file_of
from cytodino.errors import BundleError, EngineError, MissingExtraError, ParityError
from cytodino.machine import describe_machine
from cytodino.parity import Verdict

CPU = "CPUExecutionProvider"


Build = Callable[..., Bundle]
Verdicts = Callable[..., tuple[str, EngineVerdict]]


def notes_of(engine: Engine) -> tuple[str, ...]:
    return engine.describe().warnings


def record(bundle: Bundle, verdict: Verdict, provider: str = CPU, *, variant: str = "fp32") -> None:
    found = EngineVerdict(engine="onnxruntime", provider=provider, machine="here", verdict=verdict)
    record_verdicts(bundle, {variant: (found,)}, machine=describe_machine())


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


def test_auto_takes_the_fastest_variant_that_passed_for_an_engine_that_is_here(
    build_bundle: Build, verdict: Verdicts, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        verdict("fp32", "passed"),
        verdict("fp32", "passed", "openvino", "CPU"),
        verdict("int8", "passed"),
        verdict("int8", "failed", "openvino", "CPU"),
        verdict("bf16", "passed", "openvino", "CPU"),
    ]
    bundle = build_bundle(*found)
    with open_engine(bundle, engine="onnxruntime") as engine:
        assert (engine.name, engine.variant) == ("onnxruntime", "int8")
    with open_engine(bundle, variant="fp32") as engine:
        assert engine.name == "openvino"
    with pytest.raises(ParityError, match="int8 has not passed on openvino"):
        open_engine(bundle, engine="openvino", variant="int8")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with open_engine(bundle) as engine:
        assert (engine.name, engine.variant) == ("onnxruntime", "int8")
    with pytest.raises(MissingExtraError, match=r"cytodino\[openvino\]"):
        open_engine(bundle, engine="openvino")


@pytest.mark.parametrize("missing", [0, 1, 2, 3, 4, 5, 6, 7])
def test_the_order_of_preference_is_the_measured_one(
    missing: int, build_bundle: Build, verdict: Verdicts, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = [
        ("openvino", "int8-bf16"),
        ("openvino", "int8"),
        ("openvino", "bf16"),
        ("onnxruntime", "int8"),
        ("openvino", "fp32"),
        ("onnxruntime", "fp32"),
        ("openvino", "fp16"),
        ("onnxruntime", "fp16"),
    ]
    left = measured[missing:]
    providers = {"openvino": "CPU", "onnxruntime": CPU}
    found = [verdict(variant, "passed", name, providers[name]) for name, variant in left[::-1]]
    opened: list[tuple[str, str]] = []

    def remember(model: Path, *, engine: str, variant: str, **options: object) -> None:
        opened.append((engine, variant))
        assert model.name == f"model.{file_of(variant)}.onnx"

    monkeypatch.setattr(selection, "open_model", remember)
    open_engine(build_bundle(*found))
    assert opened == [left[0]]


def test_what_does_not_open_gives_way_to_the_next_aloud(
    build_bundle: Build, verdict: Verdicts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cytodino.engines.openvino.supports_bf16", lambda: False)
    bundle = build_bundle(
        verdict("int8-bf16", "passed", "openvino", "CPU"), verdict("fp32", "passed")
    )
    with open_engine(bundle) as engine:
        assert (engine.name, engine.variant) == ("onnxruntime", "fp32")
        assert any("int8-bf16 on openvino, cpu is not used" in note for note in notes_of(engine))
    with pytest.raises(EngineError, match="no bf16"):
        open_engine(bundle, variant="int8-bf16")


def test_fp16_on_cuda_needs_verify_on_that_box(
    build_bundle: Build, verdict: Verdicts, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = build_bundle(
        verdict("fp32", "passed"),
        verdict("fp16", "passed"),
        verdict("fp16", "unproven", provider="CUDAExecutionProvider"),
    )
    monkeypatch.setattr(selection, "providers_found", lambda: ["cuda", "cpu"])
    monkeypatch.setattr(selection, "require_device", lambda device: None)
    with pytest.raises(ParityError, match="fp16 has not passed.*cuda.*verify") as caught:
        open_engine(bundle, variant="fp16", device="cuda")
    assert caught.value.exit_code == 4
    opened: list[str] = []
    monkeypatch.setattr(
        selection, "open_model", lambda *a, variant, device, **o: opened.append(variant + device)
    )
    record(bundle, "passed", "CUDAExecutionProvider", variant="fp16")
    open_engine(bundle, device="cuda")
    assert opened == ["fp16cuda"]


def test_targets_are_what_is_installed_and_each_has_its_variants(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(selection, "providers_found", lambda: ["cuda", "cpu"])
    cuda, ort, openvino = selection.targets_found()
    assert [one.device for one in (cuda, ort, openvino)] == ["cuda", "cpu", "cpu"]
    assert cuda.variants == ("fp32", "fp16")
    assert ort.variants == ("fp32", "fp16", "int8")
    assert openvino.variants == tuple(VARIANTS) == tuple(OPENVINO_VARIANTS)
    assert {name: file for name, (file, _) in OPENVINO_VARIANTS.items()} == dict(FILES)
    assert "does not run bf16" in str(selection.why_unproven(ort, "bf16"))
    assert selection.why_unproven(openvino, "fp32") is None
    monkeypatch.setattr(selection, "supports_bf16", lambda: False)
    assert selection.why_unproven(openvino, "int8-bf16") == "this CPU has no bf16"
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert [one.engine for one in selection.targets_found()] == ["openvino"]
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"cytodino\[cpu\]"):
        selection.targets_found()


def test_tensorrt_is_a_provider_of_its_own_before_cuda_once_it_passed(
    build_bundle: Build, verdict: Verdicts, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [TENSORRT, "CUDAExecutionProvider", CPU]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: listed)
    monkeypatch.setattr(selection, "library_version", lambda: None)
    assert TENSORRT not in {one.provider for one in selection.targets_found()}
    monkeypatch.setattr(selection, "library_version", lambda: (10, 9, 0))
    first, second = selection.targets_found("onnxruntime")[:2]
    assert (first.provider, first.device, first.variants) == (TENSORRT, "cuda", ("fp32", "fp16"))
    assert second.provider == "CUDAExecutionProvider"
    assert selection.why_unproven(first, "fp32") is None
    assert "does not run int8" in str(selection.why_unproven(first, "int8"))
    opened: list[str] = []
    monkeypatch.setattr(selection, "open_model", lambda *a, provider, **o: opened.append(provider))
    cuda = verdict("fp32", "passed", provider="CUDAExecutionProvider")
    open_engine(build_bundle(cuda), device="cuda")
    open_engine(build_bundle(cuda, verdict("fp32", "passed", provider=TENSORRT)), device="cuda")
    assert opened == ["CUDAExecutionProvider", TENSORRT]
    monkeypatch.setattr(selection, "library_version", lambda: (10, 4, 0))
    assert "miscompiles DINOv3" in str(selection.why_unproven(first, "fp32"))


def test_openvino_has_no_cuda(passed_bundle: Bundle) -> None:
    with pytest.raises(EngineError, match="openvino computes on the CPU"):
        open_engine(passed_bundle, engine="openvino", device="cuda")


def test_compiled_models_are_kept_for_the_next_start(
    build_bundle: Build, verdict: Verdicts, cache: Path
) -> None:
    bundle = build_bundle(verdict("fp32", "passed", "openvino", "CPU"))
    told = []
    for loaded in (False, True):
        with open_engine(bundle) as engine:
            assert isinstance(engine, OpenVinoEngine)
            assert engine.from_cache is loaded
            told.append(engine.describe())
    # Results are made with the one as with the other: a run goes on, and is not begun again.
    assert told[0] == told[1]
    assert list((cache / "cytodino" / "openvino").iterdir())


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


@pytest.mark.parametrize("library", ["torch", "transformers", "peft"])
def test_pytorch_that_is_not_installed_names_the_extra(tmp_path: Path, library: str) -> None:
    """In a process of its own: modules that were imported before would not miss the library."""
    program = """
import sys
sys.modules[sys.argv[1]] = None
from pathlib import Path
from cytodino.engines.selection import open_engine
from cytodino.errors import MissingExtraError
try:
    open_engine(None, engine="pytorch", reference=Path(sys.argv[2]))  # reads no bundle
except MissingExtraError as error:
    print(error)
"""
    words = (library, str(tmp_path))
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    assert "cytodino[train]" in done.stdout, done.stderr
