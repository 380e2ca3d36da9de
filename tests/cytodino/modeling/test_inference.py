import numpy as np
import pytest
import torch

from cytodino.errors import CropError
from cytodino.modeling.inference import infer, predict


def test_logits_come_in_the_order_asked_for_whatever_the_sizes(classifier, cells):
    indices = [6, 0, 1, 2, 3, 4, 5, 0]
    logits = predict(classifier, cells, indices, batch_size=2)
    assert logits.shape == (8, 21)
    assert logits.dtype == np.float32
    for place, index in enumerate(indices):
        alone = infer(classifier, cells.read(index)[None])[0]
        np.testing.assert_allclose(logits[place], alone, atol=1e-5)
    assert np.abs(logits[1] - logits[3]).max() > 1e-3


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_the_batch_size_does_not_matter(classifier, cells, batch_size):
    indices = np.arange(len(cells))
    reference = predict(classifier, cells, indices, batch_size=2)
    logits = predict(classifier, cells, indices, batch_size=batch_size)
    np.testing.assert_allclose(logits, reference, atol=1e-5)


def test_crops_of_equal_size_share_a_batch_and_few_are_held_back(classifier, cells, monkeypatch):
    batches = []

    def spy(model, crops):
        batches.append(crops.shape)
        return infer(model, crops)

    monkeypatch.setattr("cytodino.modeling.inference.infer", spy)
    predict(classifier, cells, [0, 1, 2, 3, 4, 5, 6], batch_size=3)
    assert batches[0] == (3, 20, 20, 3)
    assert sorted(batches[1:]) == [(1, 21, 21, 3), (1, 33, 20, 3), (2, 24, 30, 3)]


def test_crops_of_many_sizes_do_not_pile_up(classifier, cells, monkeypatch):
    events = []

    def spy(model, crops):
        events.append("infer")
        return infer(model, crops)

    read = cells.read
    monkeypatch.setattr(cells, "read", lambda index: events.append("read") or read(index))
    monkeypatch.setattr("cytodino.modeling.inference.infer", spy)
    monkeypatch.setattr("cytodino.modeling.inference._HELD", 1)
    predict(classifier, cells, [0, 1, 3, 6], batch_size=2)
    assert events == ["read", "read", "infer", "read", "infer", "read", "infer", "infer"]


def test_progress_adds_up(classifier, cells):
    done = []
    predict(classifier, cells, range(7), batch_size=2, progress=done.append)
    assert sum(done) == 7


def test_a_model_in_training_mode_answers_as_in_evaluation(classifier, cells):
    reference = predict(classifier, cells, [0, 1])
    classifier.train()
    np.testing.assert_array_equal(predict(classifier, cells, [0, 1]), reference)


def test_the_crops_are_left_as_they_are(classifier, crops):
    before = crops.copy()
    logits = infer(classifier, crops)
    assert isinstance(logits, np.ndarray)
    np.testing.assert_array_equal(crops, before)
    assert not torch.is_inference(torch.from_numpy(logits))


def test_a_cell_that_cannot_be_read_is_an_error(classifier, cells, monkeypatch):
    def fail(index):
        raise CropError("truncated", where="a.png")

    monkeypatch.setattr(cells, "read", fail)
    with pytest.raises(CropError, match=r"a\.png: truncated"):
        predict(classifier, cells, [0])
