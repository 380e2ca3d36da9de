"""A box that classifies has no torch; a command that only says its help loads almost nothing."""

import json
import subprocess
import sys

import pytest

HEAVY = {
    "accelerate", "h5py", "hdf5plugin", "kornia", "nncf", "numpy", "onnx", "onnxruntime",
    "onnxscript", "openvino", "optimum", "peft", "PIL", "pydantic", "sklearn", "torch",
    "torchvision", "transformers",
}  # fmt: skip
TORCH_SIDE = {"accelerate", "kornia", "onnx", "optimum", "peft", "sklearn", "torch", "transformers"}

LIGHT_ROOMS = [
    "cytodino.archive",
    "cytodino.bundle.verification",
    "cytodino.calibration",
    "cytodino.cells",
    "cytodino.engines.selection",
    "cytodino.evaluation",
    "cytodino.parity",
    "cytodino.run",
    "cytodino.synthetic",
    "cytodino_batch.runner",
]


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after a statement."""
    code = (
        f"import json, sys\ntry:\n    {statement}\nexcept SystemExit:\n    pass\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})), file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(json.loads(result.stderr.splitlines()[-1]))


def test_the_probe_sees_what_is_loaded() -> None:
    assert "numpy" in loaded_by("import numpy")


@pytest.mark.parametrize(
    "module", ["cytodino.cli", "cytodino_export.cli", "cytodino_batch.cli", "cytodino_bench.cli"]
)
def test_help_loads_nothing_heavy(module: str) -> None:
    loaded = loaded_by(f"from {module} import main; main(['--help'])")
    assert "click" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("room", LIGHT_ROOMS)
def test_a_room_that_an_edge_box_uses_runs_without_torch(room: str) -> None:
    assert loaded_by(f"import {room}") & TORCH_SIDE == set()
