from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cytodino.errors import TrainingError
from cytodino.modeling.loading import open_backbone
from cytodino.training.building import build_model
from cytodino.training.data import CellDataset
from cytodino.training.fitting import BestEpoch, LossModel, fit, share_batch, steps_per_epoch

NOTHING = (None, None, None)  # the Trainer's arguments, state and control, which are not looked at


@pytest.fixture
def model(recipe, listener):
    return build_model(open_backbone("mini"), recipe, listener)


def end_epoch(keeper, model, value, f1, loss):
    """Let an epoch end with the classifier's bias at a value."""
    with torch.no_grad():
        model.head.classifier.bias.fill_(value)
    keeper.on_log(*NOTHING, logs={"loss": 1.0})
    figures = {"loss": loss, "weighted_f1": f1, "macro_f1": 0.1, "accuracy": 0.2}
    keeper.on_evaluate(*NOTHING, metrics={f"eval_{name}": v for name, v in figures.items()})


@pytest.mark.parametrize(
    ("epochs", "best"),
    [
        ([(0.2, 1.0), (0.6, 1.0), (0.4, 0.5)], 2),
        ([(0.6, 1.0), (0.6, 0.9), (0.6, 0.95)], 2),
        ([(0.6, 1.0), (0.6, 1.0)], 1),
        ([(0.0, 3.0)], 1),
    ],
)
def test_the_best_epoch_is_kept_whatever_comes_after(model, listener, epochs, best):
    keeper = BestEpoch(model, listener)
    for number, (f1, loss) in enumerate(epochs, start=1):
        end_epoch(keeper, model, float(number), f1, loss)
    assert keeper.best == best
    keeper.restore()
    assert model.head.classifier.bias.unique().tolist() == [float(best)]
    assert [record.epoch for record in keeper.history] == list(range(1, len(epochs) + 1))
    assert keeper.history[0].train_loss == 1.0


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


def test_training_stops_when_patience_is_at_an_end(model, listener):
    keeper = BestEpoch(model, listener, patience=2)
    stopped = []
    for f1 in (0.5, 0.4, 0.6, 0.6, 0.1):
        control = SimpleNamespace(should_training_stop=False)
        figures = {"loss": 1.0, "weighted_f1": f1, "macro_f1": 0.1, "accuracy": 0.2}
        keeper.on_evaluate(
            None, None, control, metrics={f"eval_{name}": v for name, v in figures.items()}
        )
        stopped.append(control.should_training_stop)
    assert stopped == [False, False, False, False, True]
    assert keeper.best == 3
    assert listener.said == ["no better epoch in 2: training stops"]


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
