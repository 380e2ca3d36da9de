from typing import Any

import numpy as np
import pytest
import torch

from cytodino.engines.pytorch import PyTorchEngine
from cytodino.errors import EngineError


def test_cuda_without_a_device_is_an_error(deployed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineError, match="no CUDA device"):
        PyTorchEngine(deployed, device="cuda")
    assert PyTorchEngine(deployed, device="auto").device == "cpu"


def test_a_device_that_there_is_none_of(deployed: Any) -> None:
    with pytest.raises(EngineError, match="no device tpu"):
        PyTorchEngine(deployed, device="tpu")


def test_dropout_is_off() -> None:
    class Noisy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = torch.nn.Dropout(0.5)

        def forward(self, crops: torch.Tensor) -> torch.Tensor:
            return self.drop(crops.float().mean(dim=(1, 2, 3))[:, None].expand(-1, 21))

    engine = PyTorchEngine(Noisy().train())
    crops = np.full((2, 4, 4, 3), 9, dtype=np.uint8)
    assert np.array_equal(engine.logits(crops), np.full((2, 21), 9, dtype=np.float32))
