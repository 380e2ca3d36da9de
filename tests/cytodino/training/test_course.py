from types import SimpleNamespace

import pytest
import torch

from cytodino.errors import DivergedError, TrainingError
from cytodino.modeling.loading import open_backbone
from cytodino.training.building import build_model
from cytodino.training.course import BestEpoch

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
def test_the_best_epoch_is_kept_whatever_comes_after(model, listener, tmp_path, epochs, best):
    keeper = BestEpoch(model, tmp_path, listener)
    for number, (f1, loss) in enumerate(epochs, start=1):
        end_epoch(keeper, model, float(number), f1, loss)
    assert keeper.best == best
    keeper.restore()
    assert model.head.classifier.bias.unique().tolist() == [float(best)]
    assert [record.epoch for record in keeper.history] == list(range(1, len(epochs) + 1))
    assert keeper.history[0].train_loss == 1.0


def test_training_stops_when_patience_is_at_an_end(model, listener, tmp_path):
    keeper = BestEpoch(model, tmp_path, listener, patience=2)
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


def test_an_interrupted_course_is_taken_up_with_its_best_weights(model, listener, tmp_path):
    first = BestEpoch(model, tmp_path, listener, patience=2)
    log = []
    for number, f1 in enumerate((0.3, 0.7, 0.5), start=1):
        control = SimpleNamespace(should_training_stop=False)
        with torch.no_grad():
            model.head.classifier.bias.fill_(float(number))
        figures = {"loss": 1.0, "weighted_f1": f1, "macro_f1": 0.1, "accuracy": 0.2}
        entry = {f"eval_{name}": value for name, value in figures.items()}
        log += [{"loss": 2.0 / number, "step": 4 * number}, {**entry, "step": 4 * number}]
        first.on_log(*NOTHING, logs=log[-2])
        first.on_evaluate(None, None, control, metrics=entry)
        first.on_save(*NOTHING)
    assert [path.name for path in tmp_path.iterdir()] == ["best-2.safetensors"]
    again = BestEpoch(model, tmp_path, listener, patience=2)
    assert not again.stale
    again.take_up(log)
    assert again.history == first.history and again.best == 2 and not again.stale
    again.restore()
    assert model.head.classifier.bias.unique().tolist() == [2.0]
    again.take_up(log[-2:])
    assert again.stale
    kept = tmp_path / "best-2.safetensors"
    kept.write_bytes(kept.read_bytes()[:50])
    with pytest.raises(TrainingError, match="best-2.safetensors: holds no weights any more"):
        again.restore()


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_training_that_diverged_ends_and_keeps_none_of_it(model, listener, tmp_path, loss):
    keeper = BestEpoch(model, tmp_path, listener)
    end_epoch(keeper, model, 1.0, 0.5, 1.0)
    with pytest.raises(DivergedError, match="not finite after epoch 2.*lower --learning-rate"):
        end_epoch(keeper, model, 2.0, 0.9, loss)
    assert keeper.best == len(keeper.history) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["best-1.safetensors"]
