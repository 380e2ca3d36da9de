"""What a training leaves behind from time to time, so that it can go on after a kill.

Everything lies in the run's folder below `FOLDER` until the run is whole: the plan, the Trainer's
checkpoints, and the best epoch's weights. Weights are safetensors. The state of optimiser,
schedule and random numbers are the Trainer's own files, in torch's format, which the Trainer reads
with `weights_only=True`: tensors, numbers and their containers, and nothing that could run.
"""

import json
import os
import time
import zipfile
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from cytodino.errors import TrainingError
from cytodino.recipe import Recipe
from cytodino.run_folder import UNFINISHED

PLAN = "plan.json"
STATE = "trainer_state.json"
SECONDS = 600.0
"""Between two checkpoints within an epoch: what a kill may cost."""


class Plan(BaseModel):
    """What decides the weights that a training ends with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    backbone: dict[str, str]
    """Its source, and the hashes of its files."""
    cells: str
    """Fingerprint of the data."""
    split: str
    """sha256 over ids and parts."""


def open_plan(out: Path, plan: Plan) -> Path:
    """Open the folder of a training that begins, or that was interrupted, and return it.

    Parameters
    ----------
    out : the run's folder
    plan : what shall be trained

    Raises
    ------
    TrainingError
        If what was interrupted there was another training.
    """
    folder = out / UNFINISHED
    folder.mkdir(exist_ok=True)
    path = folder / PLAN
    content = plan.model_dump(mode="json")
    if path.is_file() and last_checkpoint(folder) is not None:
        changed = _differences(json.loads(path.read_text(encoding="utf-8")), content)
        if changed:
            raise TrainingError(
                f"was begun differently: {', '.join(changed)}",
                where=out,
                mend="give the same data and options, or choose another --out",
            )
        return folder
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)
    return folder


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint that is whole; None if there is none."""
    found = folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    newest_first = sorted(found, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    return next((path for path in newest_first if _whole(path)), None)


class TimedCheckpoints(TrainerCallback):
    """Asks for a checkpoint within an epoch from time to time; the Trainer makes one after each.

    Parameters
    ----------
    steps_per_epoch : int
    seconds : float
        Between two of them.
    """

    def __init__(self, steps_per_epoch: int, seconds: float) -> None:
        self._steps_per_epoch = steps_per_epoch
        self._seconds = seconds
        self._last = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask, but not at the end of an epoch: it would seem to have been evaluated already."""
        due = time.monotonic() - self._last >= self._seconds
        if due and state.global_step % self._steps_per_epoch:
            control.should_save = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Begin to count anew."""
        self._last = time.monotonic()


def _whole(checkpoint: Path) -> bool:
    """Tell whether a checkpoint was written to its end: the state comes last."""
    try:
        json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        for path in (*checkpoint.glob("*.pt"), *checkpoint.glob("*.pth")):
            with zipfile.ZipFile(path) as file:  # torch's format; testzip looks at its checksums
                if file.testzip() is not None:
                    return False
        for path in checkpoint.glob("*.safetensors"):
            with safe_open(path, "pt"):  # its header has to account for every byte
                pass
    except (OSError, ValueError, zipfile.BadZipFile, SafetensorError):
        return False
    return True


def _differences(before: Any, now: Any, where: str = "") -> list[str]:
    """Name the fields of two JSON values that differ, and how."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            difference
            for key in sorted(before.keys() | now.keys())
            for difference in _differences(
                before.get(key), now.get(key), f"{where}.{key}" if where else key
            )
        ]
    return [] if before == now else [f"{where} {before} and now {now}"]
