"""What is installed: the wheel alone, in an environment without torch."""

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.batch.tiny_bundle import write_bundle

pytestmark = [pytest.mark.packaging, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PACKAGES = {"cytodino", "cytodino_export", "cytodino_batch", "cytodino_bench"}


def run(*command: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [str(part) for part in command],
        text=True,
        capture_output=True,
        env=environment,
    )
    assert result.returncode == code, f"{command}\n{result.stdout}\n{result.stderr}"
    return result


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel built from it, not from the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    return next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def edge_box(tmp_path_factory: pytest.TempPathFactory, distributions: tuple[Path, Path]) -> Path:
    """The scripts of an environment with the base and [cpu] alone."""
    folder = tmp_path_factory.mktemp("edge") / "venv"
    venv.create(folder, with_pip=True)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    run(scripts / "python", "-m", "pip", "install", "--quiet", f"{distributions[1]}[cpu]")
    return scripts


def test_the_wheel_holds_the_four_packages_and_nothing_else(
    distributions: tuple[Path, Path],
) -> None:
    names = zipfile.ZipFile(distributions[1]).namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == PACKAGES
    assert sum(name.endswith(".dist-info") for name in top) == 1
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("DINOV3-WEIGHTS.md") for name in names)


def test_the_sdist_holds_the_sources_and_no_data(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[0]) as archive:
        names = archive.getnames()
    assert any(name.endswith("/export/cytodino_export/cli.py") for name in names)
    assert not any(name.endswith((".jpg", ".h5", ".onnx", ".safetensors")) for name in names)


def test_pip_check_is_clean(edge_box: Path) -> None:
    assert "No broken requirements" in run(edge_box / "python", "-m", "pip", "check").stdout


def test_an_edge_box_inspects_classifies_and_verifies_without_torch(
    edge_box: Path, tmp_path: Path
) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    cells, archive = tmp_path / "cells", tmp_path / "slide.h5"
    for library in ("torch", "transformers", "peft", "onnx"):
        run(edge_box / "python", "-c", f"import {library}", code=1)
    run(edge_box / "cytodino", "synth", cells, "--cells-per-class", "1", "--size", "48")
    run(edge_box / "cytodino", "pack", cells, archive)
    inspected = run(edge_box / "cytodino-batch", "inspect", archive, "--json")
    assert json.loads(inspected.stdout)["n"] == 21
    out = tmp_path / "results"
    run(edge_box / "cytodino-batch", "classify", archive, "--bundle", bundle, "--out", out)
    (predictions,) = out.rglob("predictions.csv")
    assert len(predictions.read_text().splitlines()) == 22
    run(edge_box / "cytodino-export", "verify", bundle)
    scores = run(edge_box / "cytodino", "evaluate", bundle, archive)
    assert "accuracy" in scores.stdout.lower()


@pytest.mark.parametrize(
    ("command", "library"),
    [
        (("cytodino", "train", "{cells}", "--out", "{run}"), "train"),
        (("cytodino-export", "onnx", "{run}", "--out", "{run}2"), "export"),
    ],
)
def test_a_missing_extra_is_one_line_with_the_command_that_mends_it(
    edge_box: Path, tmp_path: Path, command: tuple[str, ...], library: str
) -> None:
    cells = tmp_path / "cells"
    run(edge_box / "cytodino", "synth", cells, "--cells-per-class", "1", "--size", "32")
    words = [part.format(cells=cells, run=tmp_path / "run") for part in command[1:]]
    result = run(edge_box / command[0], *words, code=1)
    (line,) = result.stderr.strip().splitlines()
    assert f"pip install 'cytodino[{library}]'" in line
    assert not (tmp_path / "run").exists()
