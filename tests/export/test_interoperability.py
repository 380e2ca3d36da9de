"""A bundle opens with the tools that others use."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from cytodino.bundle import open_bundle
from cytodino.bundle.golden import load_golden
from cytodino.taxonomy import CODES
from cytodino_export.pipeline import ExportResult

# In a process of its own: optimum changes how transformers and onnxruntime warn.
OPTIMUM = """
import json, sys
import numpy as np
from optimum.onnxruntime import ORTModelForCustomTasks

model = ORTModelForCustomTasks.from_pretrained(sys.argv[1], file_name="model.fp32.onnx")
answer = model(crops=np.load(sys.argv[2]))
names = [model.config.id2label[place] for place in range(21)]
print(json.dumps({"logits": answer.logits.tolist(), "names": names}))
"""


def test_a_bundle_opens_with_optimum(exported: ExportResult, tmp_path: Path) -> None:
    assert exported.bundle is not None
    golden = load_golden(open_bundle(exported.bundle), cells=32)
    some = [place for place in range(32) if golden.crops[place].shape == golden.crops[0].shape]
    np.save(tmp_path / "crops.npy", np.stack([golden.crops[place] for place in some]))
    done = subprocess.run(
        [sys.executable, "-c", OPTIMUM, str(exported.bundle), str(tmp_path / "crops.npy")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert tuple(found["names"]) == CODES
    assert np.abs(np.array(found["logits"]) - golden.reference[some]).max() < 1e-4
