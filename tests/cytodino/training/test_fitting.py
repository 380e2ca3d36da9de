import numpy as np
import pytest
import torch

from cytodino.errors import TrainingError
from cytodino.modeling.loading import open_backbone
from cytodino.training.building import build_model
from cytodino.training.data import CellDataset
from cytodino.training.fitting import BestEpoch, LossModel, fit, share_batch, steps_per_epoch


@pytest.fixture
def model(recipe, listener):
    return build_model(open_backbone("mini"), recipe, listener)


def test_fitting_ends_with_the_best_epochs_weights(model, recipe, listener, tmp_path, monkeypatch):
    class Worsening(BestEpoch):
        def on_evaluate(self, args, state, control, metrics=None, **rest):
            metrics["eval_weighted_f1"] = 1.0 - len(self.history)
            super().on_evaluate(args, state, control, metrics=metrics, **rest)
            self.seen = [*getattr(self, "seen", []), self._model.head.query.detach().clone()]

    class Noise(CellDataset):
        def __init__(self):
            self.rows = range(8)
            self.labels = np.ones(8, int)

        def __getitem__(self, draw):
            return {"pixel_values": torch.randn(3, 32, 32), "labels": torch.tensor(1)}

    monkeypatch.setattr("cytodino.training.fitting.BestEpoch", Worsening)
    keeper = fit(
        model,
        Noise(),
        Noise(),
        recipe=recipe,
        device="cpu",
        workers=0,
        folder=tmp_path,
        observer=listener,
    )
    assert keeper.best == 1
    assert torch.equal(model.head.query, keeper.seen[0])
    assert not torch.equal(model.head.query, keeper.seen[1])


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "gpus", "each"),
    [
        (16, 1, 1, (16, 1)),
        (1, 4, 1, (1, 4)),
        (1, 4, 2, (1, 2)),
        (1, 4, 4, (1, 1)),
        (16, 1, 4, (4, 1)),
        (6, 2, 4, (1, 3)),
    ],
)
def test_a_step_has_the_same_cells_on_any_number_of_gpus(
    recipe, batch_size, accumulation, gpus, each
):
    recipe = recipe.model_copy(update={"batch_size": batch_size, "accumulation": accumulation})
    assert share_batch(recipe, gpus) == each
    assert each[0] * each[1] * gpus == batch_size * accumulation


def test_a_step_that_cannot_be_shared_out_is_refused(recipe):
    with pytest.raises(TrainingError, match="8 cells a step cannot be shared out among 3 GPUs"):
        share_batch(recipe, 3)


def test_accumulation_makes_fewer_steps(recipe):
    recipe = recipe.model_copy(update={"batch_size": 2, "accumulation": 4})
    assert [steps_per_epoch(recipe, n) for n in (1, 8, 9, 17)] == [1, 1, 2, 3]


def test_what_is_reported_of_evaluation_is_cross_entropy_whatever_trains(model):
    whole = LossModel(model, lambda logits, labels: logits.sum() * 0 + 7)
    pixels, labels = torch.randn(2, 3, 32, 32), torch.tensor([1, 2])
    assert whole.train()(pixels, labels)["loss"] == 7
    found = whole.eval()(pixels, labels)
    expected = torch.nn.functional.cross_entropy(found["logits"], labels)
    torch.testing.assert_close(found["loss"], expected)
