import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from cytodino.cells import open_cells
from cytodino.modeling.preprocessing import Preprocess
from cytodino.recipe import Augmentation
from cytodino.training.augmentation import Augment
from cytodino.training.data import CellDataset, EpochSampler, draw_weights


@pytest.fixture
def dataset(images):
    cells = open_cells(images)
    rows = np.arange(len(cells))[::2]
    return CellDataset(cells, rows, cells.labels[rows], Preprocess(32))


@pytest.fixture
def varied(dataset):
    dataset.augment = Augment(Augmentation(), 32)
    return dataset


def test_without_variation_an_item_is_what_the_model_makes_of_the_crop(dataset):
    item = dataset[3]
    crop = torch.from_numpy(dataset.cells.read(6))
    assert torch.equal(item["pixel_values"], Preprocess(32)(crop[None])[0])
    assert item["labels"] == dataset.cells.labels[6]
    assert len(dataset) == 17


def test_the_seed_of_the_draw_decides_the_variation_and_leaves_torchs_own_state_alone(varied):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = varied[(3, 11)]["pixel_values"]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert torch.equal(varied[(3, 11)]["pixel_values"], first)
    assert not torch.equal(varied[(3, 12)]["pixel_values"], first)


def test_every_epoch_has_every_cell_once_in_its_own_order():
    sampler = EpochSampler(20, seed=0)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(1)
    second = list(sampler)
    assert len(sampler) == 20
    assert sorted(p for p, _ in first) == sorted(p for p, _ in second) == list(range(20))
    assert [p for p, _ in first] != [p for p, _ in second]
    assert len({seed for _, seed in first + second}) == 40
    assert first != list(EpochSampler(20, seed=1))


def test_loading_in_other_processes_changes_nothing(varied):
    def batches(workers):
        loader = DataLoader(
            varied,
            batch_size=4,
            sampler=EpochSampler(len(varied), 0),
            num_workers=workers,
            # A fork of a process in which other tests left threads of OpenVINO crashed it once.
            multiprocessing_context="spawn" if workers else None,
        )
        return [batch["pixel_values"] for batch in loader]

    for here, there in zip(batches(0), batches(1), strict=True):
        assert torch.equal(here, there)


def test_each_epoch_has_every_cell_once_and_as_many_again_by_weight():
    weights = np.array([0.0, 0.5, 0.5, 0.0])
    sampler = EpochSampler(4, seed=0, weights=weights)
    assert len(sampler) == 8
    seen = []
    for epoch in range(200):
        sampler.set_epoch(epoch)
        draws = list(sampler)
        assert len({seed for _, seed in draws}) == 8
        counts = np.bincount([place for place, _ in draws], minlength=4)
        assert counts[0] == counts[3] == 1 and counts.sum() == 8 and counts.min() >= 1
        seen.append(counts[1])
    assert np.mean(seen) == pytest.approx(3, abs=0.2)


def test_cells_of_rare_classes_are_drawn_more_often():
    # (1 + 1)^-1 and three times (3 + 1)^-1
    assert draw_weights(np.array([5, 2, 2, 2]), 1.0).tolist() == [0.4, 0.2, 0.2, 0.2]
    labels = np.repeat([0, 20], [99, 9])
    weights = draw_weights(labels, 0.7)
    assert weights.sum() == pytest.approx(1)
    assert weights[-1] / weights[0] == pytest.approx((10 / 100) ** -0.7)
