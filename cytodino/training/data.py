"""Cells as torch data sets: varied for training, exactly as in inference for evaluation."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from cytodino.modeling.preprocessing import Preprocess
from cytodino.training.augmentation import Augment

if TYPE_CHECKING:
    from cytodino.cells import CellSource

Draw = tuple[int, int]
"""Place in the part, and the seed of what chance does to the cell this time."""


class CellDataset(Dataset[dict[str, torch.Tensor]]):
    """The cells of one part, resized, varied if asked, and normalised.

    Parameters
    ----------
    cells : CellSource
    rows : int64, (n,), which of the cells
    labels : int64, (n,), their classes
    preprocess : Preprocess
    augment : Augment, optional
        For training; without it an item is what `CytoDino.forward` makes of the crop.
    """

    def __init__(
        self,
        cells: "CellSource",
        rows: np.ndarray,
        labels: np.ndarray,
        preprocess: Preprocess,
        augment: Augment | None = None,
    ) -> None:
        self.cells = cells
        self.rows = rows
        self.labels = labels
        self.preprocess = preprocess
        self.augment = augment

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: int | Draw) -> dict[str, torch.Tensor]:
        """Return pixel_values, float32 (3, S, S), and labels, int64 ()."""
        place, seed = draw if isinstance(draw, tuple) else (draw, 0)
        crop = torch.from_numpy(self.cells.read(int(self.rows[place])))
        pixels = self.preprocess.resize(crop[None])  # (1, 3, S, S)
        if self.augment is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                pixels = self.augment(pixels[0])[None]
        return {
            "pixel_values": self.preprocess.normalise(pixels)[0],
            "labels": torch.tensor(int(self.labels[place])),
        }


class EpochSampler(Sampler[Draw]):
    """Every cell once an epoch, or once and by weight, in an order of seed and epoch alone.

    Each draw carries a seed of its own, so that what chance does to a cell depends neither on how
    many processes load the cells nor on where an interrupted training began again.

    Parameters
    ----------
    n : int
        Cells.
    seed : int
    weights : float, (n,), together 1, optional
        With these, as many cells again are drawn an epoch, with replacement.
    """

    def __init__(self, n: int, seed: int, weights: np.ndarray | None = None) -> None:
        self.n = n
        self.seed = seed
        self.weights = weights
        self.epoch = 0

    def __len__(self) -> int:
        return self.n if self.weights is None else 2 * self.n

    def __iter__(self) -> Iterator[Draw]:
        random = np.random.default_rng([self.seed, self.epoch])
        places = np.arange(self.n)
        if self.weights is not None:
            again = random.choice(self.n, size=self.n, p=self.weights)
            places = np.concatenate([places, again])
        order = random.permutation(places).tolist()
        seeds = random.integers(0, 2**63 - 1, size=len(places)).tolist()
        return iter(zip(order, seeds, strict=True))

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next, from 0; the Trainer does."""
        self.epoch = epoch


def draw_weights(labels: np.ndarray, power: float) -> np.ndarray:
    """Return how likely each cell is to be drawn again, float64 (n,), together 1.

    Parameters
    ----------
    labels : int64, (n,), class index
    power : float
        A cell's weight is (cells of its class + 1) to this power, negative; published 0.7.
    """
    counts = np.bincount(labels)[labels]
    weights = (counts + 1.0) ** -power
    shares: np.ndarray = weights / weights.sum()
    return shares
