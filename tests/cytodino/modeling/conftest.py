"""A DINOv3 of two blocks and width 32, and cells that are noise."""

import numpy as np
import pytest
import torch

from cytodino.cells import MemoryCells
from cytodino.modeling.classifier import CytoDino
from cytodino.modeling.head import DecoderHead
from cytodino.modeling.loading import open_backbone
from cytodino.modeling.lora import add_adapter
from cytodino.modeling.preprocessing import Preprocess
from cytodino.recipe import SHAPES


@pytest.fixture(autouse=True)
def mini(monkeypatch):
    monkeypatch.setitem(SHAPES, "mini", (32, 2, 2))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield "mini"
    torch.set_num_threads(threads)


@pytest.fixture
def backbone(mini):
    return open_backbone("mini", image_size=32)


@pytest.fixture
def adapted(backbone):
    """An adapter that does something: LoRA begins with B = 0."""
    model = add_adapter(backbone.model, rank=2, alpha=4)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture
def classifier(adapted):
    return CytoDino(adapted, DecoderHead(32, layers=1), Preprocess(32)).eval()


@pytest.fixture
def crops():
    return np.random.default_rng(0).integers(0, 256, (3, 40, 44, 3), dtype=np.uint8)


@pytest.fixture
def cells():
    random = np.random.default_rng(1)
    sizes = [(20, 20), (24, 30), (20, 20), (33, 20), (24, 30), (20, 20), (21, 21)]
    return MemoryCells([random.integers(0, 256, (*s, 3), dtype=np.uint8) for s in sizes])
