"""Cells, a run and a bundle whose answers are painted on the cells."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from cytodino.cells import open_cells
from cytodino.commands.evaluate import evaluate as evaluate_command
from cytodino.console import CommandGroup
from cytodino.evaluation import Evaluation, evaluate
from cytodino.run import Run
from cytodino.taxonomy import index_of
from tests.cytodino.evaluation.painted_model import ANSWERS, STEP, PaintedEngine


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for code, answers in ANSWERS.items():
        (root / code).mkdir(parents=True)
        for number, answer in enumerate(answers):
            grey = STEP * index_of(answer) + 3
            size = (8 + number % 2, 9)
            Image.new("RGB", size, (grey, grey, grey)).save(root / code / f"{code}_{number}.png")
    return root


def pretend_run(path: Path, fingerprint: str, split: dict[str, list[str]]) -> Run:
    path.mkdir()
    (path / "run.json").write_text("{}")
    (path / "head.safetensors").write_bytes(b"head")
    (path / "adapter").mkdir()
    (path / "adapter" / "adapter_model.safetensors").write_bytes(b"adapter")
    manifest: Any = SimpleNamespace(data=SimpleNamespace(path="gone", fingerprint=fingerprint))
    return Run(path, manifest, split)


@pytest.fixture
def engine() -> PaintedEngine:
    return PaintedEngine()


@pytest.fixture
def run(
    tmp_path: Path, images: Path, engine: PaintedEngine, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A run that was trained on `images`, its test part two cells of each of two classes."""
    ids = open_cells(images).ids
    test = ["LYT/LYT_2.png", "BLA/BLA_2.png", "BLA/BLA_0.png", "LYT/LYT_0.png"]
    split = {
        "train": [name for name in ids if name not in test][3:],
        "validation": [name for name in ids if name not in test][:1],
        "calibration": [name for name in ids if name not in test][1:3],
        "test": test,
    }
    path = tmp_path / "run"
    opened = pretend_run(path, open_cells(images).fingerprint(), split)
    monkeypatch.setattr("cytodino.run.open_run", lambda _: opened)
    monkeypatch.setattr("cytodino.engines.pytorch.open_reference", lambda _, device: engine)
    return path


@pytest.fixture
def bundle(tmp_path: Path, engine: PaintedEngine, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "bundle"
    path.mkdir()
    (path / "cytodino.json").write_text("{}")
    provenance = SimpleNamespace(data={"fingerprint": "of other cells"})
    opened = SimpleNamespace(
        path=path, sha256="b" * 64, manifest=SimpleNamespace(provenance=provenance, files={})
    )
    asked: dict[str, str] = {}

    def open_engine(given: object, **options: str) -> PaintedEngine:
        assert given is opened
        asked.update(options)
        return engine

    monkeypatch.setattr("cytodino.bundle.open_bundle", lambda _: opened)
    monkeypatch.setattr("cytodino.engines.open_engine", open_engine)
    return path


@pytest.fixture
def evaluation(bundle: Path, images: Path) -> Evaluation:
    return evaluate(bundle, images)


@pytest.fixture
def command() -> Callable[..., Result]:
    def invoke(*arguments: object) -> Result:
        group = CommandGroup("cytodino", commands=[evaluate_command])
        return CliRunner().invoke(group, ["evaluate", *map(str, arguments)])

    return invoke
