"""PyTorch: the validated model itself, which everything else is held against."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from cytodino.engines.base import CheckedEngine, EngineDescription
from cytodino.errors import EngineError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["PyTorchEngine", "open_reference"]


class PyTorchEngine(CheckedEngine):
    """A module that turns uint8 crops into logits, in float32.

    Parameters
    ----------
    model : nn.Module
        forward(uint8 (n, h, w, 3)) -> float32 (n, 21); it is put into evaluation mode.
    device : {"auto", "cpu", "cuda"}

    Raises
    ------
    EngineError
        If CUDA is asked for and cannot be had.
    """

    name = "pytorch"
    variant = "fp32"

    def __init__(self, model: "nn.Module", *, device: str = "cpu") -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise EngineError("PyTorch finds no CUDA device", mend="give --device cpu")
        if device not in ("cpu", "cuda"):
            raise EngineError(f"there is no device {device}", mend="use auto, cpu or cuda")
        self.device = device
        self._model: nn.Module | None = model.eval().to(device)

    def describe(self) -> EngineDescription:
        """Say what computes: engine, variant, device, provider, version, options, warnings."""
        return EngineDescription(
            engine=self.name,
            variant=self.variant,
            device=self.device,
            provider=self.device,
            version=torch.__version__,
            options={"threads": torch.get_num_threads(), "tf32": False},
        )

    def _infer(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert self._model is not None
        batch = torch.from_numpy(crops.copy()).to(self.device)
        # cuDNN's convolutions take TF32 by default, and with it lose three digits.
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            logits = self._model(batch)
        return np.array(logits.float().cpu().numpy())

    def _release(self) -> None:
        self._model = None


def open_reference(run: Path, *, device: str = "cpu", merged: bool = True) -> PyTorchEngine:
    """Open a run's own model in PyTorch, float32.

    Parameters
    ----------
    run : Path
        The folder that `cytodino train` wrote.
    merged : bool
        False keeps the adapter beside the weights, as it was trained.

    Raises
    ------
    InputError
        If the run cannot be read.
    MergeError
        If adapter and backbone do not fit each other.
    EngineError
        If the device cannot be had.
    """
    from cytodino.modeling.loading import load_run

    return PyTorchEngine(load_run(run, merged=merged), device=device)
