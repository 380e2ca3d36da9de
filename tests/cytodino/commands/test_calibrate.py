from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from cytodino.calibration.file import read_confidence
from cytodino.cells import MemoryCells
from cytodino.cli import main
from cytodino.engines import pytorch
from cytodino.engines.base import CheckedEngine, EngineDescription
from cytodino.run import Run


class Reader(CheckedEngine):
    """Sees each cell's class in its first pixel, and is far too sure of it."""

    name, variant, device = "pytorch", "fp32", "cpu"

    def _infer(self, crops: np.ndarray) -> np.ndarray:
        logits = np.zeros((len(crops), 21), dtype=np.float32)
        logits[np.arange(len(crops)), crops[:, 0, 0, 0]] = 30
        return logits

    def describe(self) -> EngineDescription:
        return EngineDescription(
            engine=self.name, variant="fp32", device="cpu", provider="cpu", version="1", options={}
        )

    def _release(self) -> None:
        pass


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of 600 calibration cells, 2 % of which the model gets wrong."""
    generator = np.random.default_rng(0)
    labels = generator.choice([10, 12, 14], 600)  # LYT, MON, NGB
    seen = np.where(generator.random(600) < 0.02, 15, labels)
    crops = [np.full((2, 2, 3), value, dtype=np.uint8) for value in seen]
    cells = MemoryCells(crops, ids=[f"c{at}" for at in range(600)], labels=labels)
    path = tmp_path / "run"
    path.mkdir()
    opened = Run(path, SimpleNamespace(data=None, split=None), {"calibration": cells.ids})  # type: ignore[arg-type]  # a stand-in

    @contextmanager
    def open_reference(*args: object, **options: object) -> Iterator[Reader]:
        yield Reader()

    monkeypatch.setattr(Run, "open_cells", lambda self: cells)
    monkeypatch.setattr("cytodino.run.open_run", lambda path: opened)
    monkeypatch.setattr(pytorch, "open_reference", open_reference)
    return path


def calibrate(*args: object):
    return CliRunner().invoke(main, ["calibrate", *map(str, args)])


def test_a_run_is_calibrated_and_says_what_it_can_promise(run: Path) -> None:
    result = calibrate(run)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(run / "confidence.json")
    found = read_confidence(run)
    assert found is not None
    (one,) = found.models
    assert (one.variant, one.engine) == ("fp32", "pytorch")
    assert one.calibration.temperature > 3
    assert one.calibration.guarantee is not None
    assert found.source["n"] == 600
    assert "at least 95 % of the accepted cells are right, at 95 % confidence" in result.stderr
    assert "ECE" in result.stderr


def test_what_cannot_be_promised_is_refused_with_the_reason(run: Path) -> None:
    result = calibrate(run, "--accuracy", "0.999")
    assert result.exit_code == 0
    assert "no threshold can be promised: too few cells" in result.stderr
    found = read_confidence(run)
    assert found is not None
    assert found.models[0].calibration.guarantee is None
    assert found.targets.accuracy == 0.999


def test_a_rate_of_critical_errors_alone_is_a_target(run: Path) -> None:
    assert calibrate(run, "--critical-errors", "0.02", "--level", "0.9").exit_code == 0
    found = read_confidence(run)
    assert found is not None
    assert (found.targets.accuracy, found.targets.critical_rate) == (None, 0.02)
    assert found.targets.level == 0.9


def test_a_run_without_calibration_cells_is_told_what_to_do(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = Run(run, SimpleNamespace(data=None, split=None), {"train": ["c0"]})  # type: ignore[arg-type]  # a stand-in
    monkeypatch.setattr("cytodino.run.open_run", lambda path: bare)
    result = calibrate(run)
    assert result.exit_code == 1
    assert "no calibration part" in result.stderr
    assert "--data" in result.stderr
    assert not (run / "confidence.json").exists()


@pytest.mark.parametrize("option", ["--accuracy", "--critical-errors", "--level"])
@pytest.mark.parametrize("value", ["nan", "0", "1", "0.99999999999999", "1e-300"])
def test_no_promise_is_made_of_what_cannot_be_counted(run: Path, option: str, value: str) -> None:
    assert calibrate(run, option, value).exit_code == 2
    assert not (run / "confidence.json").exists()
