"""The loop: transformers' Trainer, with this package's order of cells, best epoch and reports."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Sampler
from transformers import (
    EvalPrediction,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from cytodino.metrics import score
from cytodino.modeling.classifier import CytoDino
from cytodino.recipe import Recipe
from cytodino.run_manifest import EpochRecord
from cytodino.training.data import CellDataset, EpochSampler
from cytodino.training.observer import Observer


class LossModel(nn.Module):
    """What the Trainer sees: pixel values and labels in, loss and logits out."""

    def __init__(self, model: CytoDino) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Mean cross-entropy of a batch: (n, 3, S, S) and int64 (n,) to loss () and (n, 21)."""
        logits = self.model.classify(pixel_values)
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits}


class BestEpoch(TrainerCallback):
    """Keeps the history, and the trained weights of the best epoch, in memory.

    Best is the highest weighted F1 on the validation part; of equal ones, the lowest loss.
    """

    def __init__(self, model: CytoDino, observer: Observer) -> None:
        self.history: list[EpochRecord] = []
        self.best = 0
        self._model = model
        self._observer = observer
        self._weights: dict[str, torch.Tensor] = {}
        self._train_loss = float("nan")

    def restore(self) -> None:
        """Put the best epoch's weights back into the model."""
        self._model.load_state_dict(self._weights, strict=False)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Move the bar."""
        self._observer.advance()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Take the epoch's mean training loss."""
        self._train_loss = (logs or {}).get("loss", self._train_loss)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Record the epoch, and keep its weights if it is the best so far."""
        assert metrics is not None
        record = EpochRecord(
            epoch=len(self.history) + 1,
            train_loss=self._train_loss,
            validation_loss=metrics["eval_loss"],
            weighted_f1=metrics["eval_weighted_f1"],
            macro_f1=metrics["eval_macro_f1"],
            accuracy=metrics["eval_accuracy"],
        )
        best = not self.history or _rank(record) > _rank(self.history[self.best - 1])
        self.history.append(record)
        if best:
            self.best = record.epoch
            self._weights = {
                name: value.detach().cpu().clone()
                for name, value in self._model.named_parameters()
                if value.requires_grad
            }
        self._observer.epoch(record, best=best)


class CellTrainer(Trainer):
    """A Trainer that takes its cells in the order of an `EpochSampler`."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[Any]:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        assert isinstance(dataset, CellDataset)
        return EpochSampler(len(dataset), self.args.seed)


def fit(
    model: CytoDino,
    training: CellDataset,
    validation: CellDataset,
    *,
    recipe: Recipe,
    device: str,
    workers: int,
    folder: Path,
    observer: Observer,
) -> BestEpoch:
    """Train what requires gradients, and leave the best epoch's weights in the model.

    Parameters
    ----------
    model : CytoDino
    training, validation : CellDataset
    recipe : Recipe
    device : cpu or cuda
    workers : int
        Processes that load cells; 0 loads them between steps. The result is the same.
    folder : Path
        Where the Trainer may put files.
    observer : Observer

    Returns
    -------
    BestEpoch
        The history and which epoch was best.
    """
    keeper = BestEpoch(model, observer)
    arguments = _arguments(recipe, len(training), device=device, workers=workers, folder=folder)
    trainer = CellTrainer(
        model=LossModel(model),
        args=arguments,
        train_dataset=training,
        eval_dataset=validation,
        compute_metrics=_metrics,
        callbacks=[keeper],
    )
    trainer.remove_callback(PrinterCallback)
    observer.begin("training", _steps_per_epoch(recipe, len(training)) * recipe.epochs)
    trainer.train()
    keeper.restore()
    return keeper


def _arguments(
    recipe: Recipe, n: int, *, device: str, workers: int, folder: Path
) -> TrainingArguments:
    steps = _steps_per_epoch(recipe, n) * recipe.epochs
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr": min(recipe.final_learning_rate, recipe.learning_rate)},
        warmup_steps=round(recipe.warmup * steps),
        max_grad_norm=recipe.clip,
        optim="adamw_torch",
        seed=recipe.seed,
        use_cpu=device == "cpu",
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        dataloader_pin_memory=device != "cpu",
        remove_unused_columns=False,
        label_names=["labels"],
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _steps_per_epoch(recipe: Recipe, n: int) -> int:
    return -(-n // recipe.batch_size)


def _metrics(prediction: EvalPrediction) -> dict[str, float]:
    logits, labels = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    scores = score(labels, logits.argmax(axis=1))
    return {
        "weighted_f1": scores.weighted_f1,
        "macro_f1": scores.macro_f1,
        "accuracy": scores.accuracy,
    }


def _rank(record: EpochRecord) -> tuple[float, float]:
    return record.weighted_f1, -record.validation_loss
