"""Cells that colour tells apart, and a DINOv3 small enough to train in a second."""

import numpy as np
import pytest
import torch
from PIL import Image

from cytodino.recipe import SHAPES, Recipe
from cytodino.training.observer import Observer

COLOURS = {"BLA": (200, 40, 40), "EOS": (40, 200, 40), "LYT": (40, 40, 200)}


@pytest.fixture(autouse=True)
def mini(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(SHAPES, "mini", (32, 2, 2))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield "mini"
    torch.set_num_threads(threads)


@pytest.fixture
def images(tmp_path):
    """Ten cells of each of three classes, one of MON, two of PLM, of differing sizes."""
    folder = tmp_path / "images"
    random = np.random.default_rng(0)
    for code, n in {**dict.fromkeys(COLOURS, 10), "MON": 1, "PLM": 2}.items():
        (folder / code).mkdir(parents=True)
        for number in range(n):
            size = (20 + number % 2 * 4, 20, 3)
            noise = random.integers(-30, 30, size)
            crop = np.clip(np.array(COLOURS.get(code, (90, 90, 90))) + noise, 0, 255)
            name = f"{code}_{number:02}.png"
            Image.fromarray(crop.astype(np.uint8)).save(folder / code / name)
    return folder


@pytest.fixture
def recipe():
    return Recipe(
        tune="full",
        image_size=32,
        epochs=2,
        batch_size=8,
        learning_rate=1e-3,
        head_layers=1,
        lora_rank=2,
        lora_alpha=4,
    )


class Listener(Observer):
    """Remembers what it hears."""

    def __init__(self):
        self.said = []
        self.tasks = []
        self.epochs = []

    def say(self, text):
        self.said.append(text)

    def begin(self, task, total):
        self.tasks.append([task, total, 0])

    def advance(self, steps=1):
        self.tasks[-1][2] += steps

    def epoch(self, record, *, best):
        self.epochs.append((record, best))


@pytest.fixture
def listener():
    return Listener()
