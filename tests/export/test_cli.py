import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from cytodino.engines.onnxruntime import OnnxRuntimeEngine
from cytodino.run_folder import write_manifest
from cytodino.run_manifest import RunManifest
from cytodino_export import pipeline
from cytodino_export.cli import main
from cytodino_export.pipeline import ExportResult

PROGRAM = Path(sys.executable).parent / "cytodino-export"


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def given(exported: ExportResult, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let the export give a finished result, and keep what it was asked for."""
    asked: list[Any] = []

    def answer(run: Path, out: Path, options: Any, *, say: Any) -> ExportResult:
        asked.append((run, out, options))
        say("working")
        return exported

    monkeypatch.setattr(pipeline, "export_run", answer)
    return asked


def test_the_path_goes_to_stdout_and_the_table_to_stderr(
    exported: ExportResult, given: list[Any], tmp_path: Path
) -> None:
    result = invoke("onnx", "run", "--out", tmp_path / "b", "--precision", "fp32")
    assert result.exit_code == 0
    assert result.stdout == f"{exported.bundle}\n"
    assert "merged → folded" in result.stderr
    assert "passed" in result.stderr
    assert "working" in result.stderr
    ((run, out, options),) = given
    assert (run, out) == (Path("run"), tmp_path / "b")
    assert (options.precisions, options.max_cells, options.allow_failing) == (
        ("fp32",),
        2000,
        False,
    )


@pytest.mark.parametrize("kept", [True, False])
def test_a_refusal_is_exit_4_kept_or_not(
    exported: ExportResult, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    refused = ExportResult(
        exported.bundle if kept else None,
        exported.chain,
        "fp32 passes on no engine: because",
        None if kept else Path("b.refused"),
    )
    monkeypatch.setattr(pipeline, "export_run", lambda *a, **o: refused)
    result = invoke("onnx", "run", "--out", "b", "--allow-failing")
    assert result.exit_code == 4
    assert "fp32 passes on no engine" in result.stderr
    assert ("kept for study" in result.stderr) == kept
    assert (f"read {Path('b.refused', 'parity.html')}" in result.stderr) != kept
    assert (result.stdout == "") != kept


def test_an_imported_run_names_no_cells_and_is_told_the_option(
    run_path: Path, tmp_path: Path
) -> None:
    imported = Path(shutil.copytree(run_path, tmp_path / "run"))
    record = json.loads((imported / "run.json").read_text(encoding="utf-8")) | {"data": None}
    (imported / "run.json").write_text(json.dumps(record), encoding="utf-8")
    result = invoke("onnx", str(imported), "--out", str(tmp_path / "bundle"))
    assert result.exit_code == 2
    assert "names no cells of its own; name cells by option (--data, --golden)" in result.stderr


@pytest.fixture
def without_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open every engine here at once: the tests of `verify` itself see the children."""
    monkeypatch.setattr("cytodino.bundle.verification.probe", lambda *a, **o: None)


@pytest.mark.usefixtures("without_children")
def test_verify_shows_a_table_and_ends_with_0(exported: ExportResult) -> None:
    result = invoke("verify", exported.bundle)
    assert result.exit_code == 0
    assert "passed" in result.stdout
    assert "this box" not in result.stdout
    assert "recorded in" in result.stderr


@pytest.mark.usefixtures("without_children")
def test_verify_gives_json_on_stdout_alone(exported: ExportResult) -> None:
    result = invoke("verify", exported.bundle, "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["checks"][0]["verdict"]["verdict"] == "passed"
    assert found["machine"]["cpu"]


@pytest.mark.usefixtures("without_children")
def test_verify_refuses_what_the_export_refused(bundle_copy: Path) -> None:
    from cytodino.bundle.manifest import seal

    path = bundle_copy / "cytodino.json"
    document = json.loads(path.read_text())
    for variant in document["variants"].values():
        variant["usable"] = False
    path.write_bytes(seal(document))
    result = invoke("verify", bundle_copy)
    assert result.exit_code == 4
    assert "unusable" in result.stderr


@pytest.mark.usefixtures("without_children")
def test_verify_names_each_reason(bundle_copy: Path) -> None:
    from cytodino.bundle.manifest import seal

    path = bundle_copy / "cytodino.json"
    document = json.loads(path.read_text())
    document["limits"]["fp32"]["logit_absolute"] = 1e-12
    path.write_bytes(seal(document))
    result = invoke("verify", bundle_copy)
    assert result.exit_code == 4
    assert "a logit moved by" in result.stdout
    assert "fp32 on onnxruntime: not this box: the machine that exported" in result.stdout


@pytest.mark.usefixtures("without_children")
def test_verify_tells_a_box_that_drifts(
    exported: ExportResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer = OnnxRuntimeEngine._infer

    def drift(engine: OnnxRuntimeEngine, crops: Any) -> Any:
        return infer(engine, crops) + np.linspace(0, 1, 21, dtype=np.float32)

    monkeypatch.setattr(OnnxRuntimeEngine, "_infer", drift)
    result = invoke("verify", exported.bundle)
    assert result.exit_code == 4
    assert (
        "fp32 on onnxruntime: this box: a logit is 1 from what the same file gave" in result.stdout
    )


class TestBadInput:
    """Each a one-line error with the mend, the right exit code, nothing half-written."""

    def one_line(self, result: Any, code: int, *said: str) -> None:
        assert result.exit_code == code, result.stderr
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
        for text in said:
            assert text in line
        assert result.stdout == ""

    def test_a_run_that_is_not_there(self, tmp_path: Path) -> None:
        result = invoke("onnx", tmp_path / "none", "--out", tmp_path / "out")
        self.one_line(result, 2, "no such file or folder")
        assert not any(tmp_path.iterdir())

    def test_a_folder_that_is_no_run(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        result = invoke("onnx", tmp_path / "run", "--out", tmp_path / "out")
        self.one_line(result, 1, "is no run", "run.json")

    def test_cells_that_are_gone(self, run_path: Path, tmp_path: Path) -> None:
        run = shutil.copytree(run_path, tmp_path / "run")
        manifest = json.loads((run / "run.json").read_text())
        manifest["data"]["path"] = str(tmp_path / "gone")
        (run / "run.json").write_text(json.dumps(manifest))
        result = invoke("onnx", run, "--out", tmp_path / "out")
        self.one_line(result, 2, "gone", "--data")

    def test_an_adapter_whose_keys_do_not_fit(self, run_path: Path, tmp_path: Path) -> None:
        run = shutil.copytree(run_path, tmp_path / "run")
        path = run / "adapter" / "adapter_model.safetensors"
        state = load_file(path)
        del state[sorted(state)[0]]
        save_file(state, path)
        manifest = RunManifest.model_validate_json((run / "run.json").read_text())
        write_manifest(run, manifest)  # as if it had been written so
        result = invoke("onnx", run, "--out", tmp_path / "out")
        self.one_line(result, 1, "keys do not fit")
        assert not (tmp_path / "out").exists()
        assert [path.name for path in tmp_path.iterdir()] == ["run"]

    @pytest.mark.parametrize("name", ["adapter/adapter_model.safetensors", "head.safetensors"])
    def test_a_flipped_bit_in_the_weights(self, run_path: Path, tmp_path: Path, name: str) -> None:
        run = Path(shutil.copytree(run_path, tmp_path / "run"))
        weights = bytearray((run / name).read_bytes())
        weights[-1] ^= 1
        (run / name).write_bytes(weights)
        result = invoke("onnx", run, "--out", tmp_path / "out")
        self.one_line(result, 1, f"{name} has changed since the run was written")
        assert not (tmp_path / "out").exists()

    def test_an_out_that_exists(self, run_path: Path, tmp_path: Path) -> None:
        self.one_line(invoke("onnx", run_path, "--out", tmp_path), 1, "already exists")

    def test_a_precision_that_is_not_offered(self, run_path: Path, tmp_path: Path) -> None:
        result = invoke("onnx", run_path, "--out", tmp_path / "b", "--precision", "fp4")
        assert result.exit_code == 2

    def test_a_bundle_that_is_not_there_or_none(self, tmp_path: Path) -> None:
        self.one_line(invoke("verify", tmp_path / "none"), 2, "no such file")
        self.one_line(invoke("verify", tmp_path), 1, "is no bundle")

    def test_a_bundle_with_a_changed_file(self, bundle_copy: Path) -> None:
        (bundle_copy / "parity.json").write_text("{}")
        self.one_line(invoke("verify", bundle_copy), 1, "parity.json", "copy the bundle again")

    def test_a_box_without_torch_names_the_extra(
        self, run_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delitem(sys.modules, "cytodino_export.pipeline")
        monkeypatch.delitem(sys.modules, "cytodino_export.deploy")
        monkeypatch.setitem(sys.modules, "torch", None)
        result = invoke("onnx", run_path, "--out", tmp_path / "out")
        self.one_line(result, 1, "torch is not installed", "cytodino[export]")


HEAVY = ("torch", "transformers", "peft", "onnx", "onnxruntime", "openvino", "numpy", "h5py")


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_help_imports_nothing_heavy() -> None:
    loaded = modules_after(
        "from click.testing import CliRunner; from cytodino_export.cli import main\n"
        "assert 'verify' in CliRunner().invoke(main, ['--help']).output"
    )
    assert "cytodino_export.cli" in loaded
    assert not loaded & set(HEAVY)


def test_verify_imports_neither_torch_nor_onnx() -> None:
    loaded = modules_after(
        "import cytodino.bundle.verification, cytodino.engines, cytodino_export.tables"
    )
    assert not loaded & {"torch", "transformers", "peft", "onnx", "onnxruntime", "openvino"}


@pytest.mark.skipif(not PROGRAM.exists(), reason="the program is not installed here")
def test_the_installed_program_exports_and_verifies(
    run_path: Path, tmp_path: Path, cache: Path
) -> None:
    made = subprocess.run(
        [PROGRAM, "onnx", run_path, "--out", "bundle", "--precision", "fp32"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (made.returncode, made.stdout) == (0, "bundle\n"), made.stderr
    assert "Traceback" not in made.stderr
    seen = subprocess.run(
        [PROGRAM, "verify", "bundle"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert seen.returncode == 0, seen.stderr
    assert list(cache.rglob("*.json"))
