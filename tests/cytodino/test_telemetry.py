"""No library reports to its maker: seen by the identifier that onnxruntime would leave."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cytodino.console import CommandGroup
from cytodino.telemetry import OPT_OUTS, refuse_telemetry
from tests.batch.tiny_bundle import write_bundle

IDENTIFIER = "Microsoft"
"""Folder of what onnxruntime keeps."""

QUIETED_ELSEWHERE = ("CI", "ORT_RUNNING_UNIT_TESTS")
"""Variables that onnxruntime takes for a test of its own, in which it reports nothing."""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    pytest.importorskip("onnxruntime")
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything that a library may keep for its user, in a folder of its own."""
    for name in (*OPT_OUTS, *QUIETED_ELSEWHERE):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(home))
    return home


def kept(home: Path) -> list[Path]:
    return list(home.rglob(IDENTIFIER))


def run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


def test_an_engine_leaves_no_identifier(bundle: Path, home: Path) -> None:
    code = (
        "import pathlib, sys; from cytodino.bundle import open_bundle; "
        "from cytodino.engines import open_engine; "
        "open_engine(open_bundle(pathlib.Path(sys.argv[1])), engine='onnxruntime').close()"
    )
    run(sys.executable, "-c", code, bundle)
    assert not kept(home)


def test_a_program_leaves_no_identifier(bundle: Path, home: Path) -> None:
    run(Path(sys.executable).with_name("cytodino-bench"), "latency", bundle, "--rounds", 1)
    assert not kept(home)


def test_onnxruntime_by_itself_leaves_one(bundle: Path, home: Path) -> None:
    """Or the tests above show nothing."""
    import onnxruntime

    version = tuple(map(int, onnxruntime.__version__.split(".")[:2]))
    if version < (1, 29) or sys.platform == "win32":
        pytest.skip("this onnxruntime keeps none")
    code = "import onnxruntime, sys; onnxruntime.InferenceSession(sys.argv[1])"
    run(sys.executable, "-c", code, bundle / "model.fp32.onnx")
    assert kept(home)


def test_a_program_says_no_for_all_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OPT_OUTS:
        monkeypatch.setenv(name, "")  # so that what is set goes again after the test
        monkeypatch.delenv(name)
    found = {}

    @click.group(cls=CommandGroup)
    def main() -> None: ...

    @main.command()
    def look() -> None:
        found.update(os.environ)

    assert CliRunner().invoke(main, ["look"]).exit_code == 0
    assert {name: found[name] for name in OPT_OUTS} == OPT_OUTS


def test_who_wants_to_report_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    refuse_telemetry()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"
