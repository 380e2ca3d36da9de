"""The loop: transformers' Trainer, with this package's order of cells, best epoch and reports."""

import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from torch.utils.data import Sampler
from transformers import (
    EvalPrediction,
    PrinterCallback,
    Trainer,
    TrainerState,
    TrainingArguments,
)

from cytodino.errors import TrainingError
from cytodino.metrics import score
from cytodino.modeling.classifier import CytoDino, trained_weights
from cytodino.modeling.loss import HierarchicalFocalLoss
from cytodino.recipe import Recipe
from cytodino.taxonomy import N_CLASSES
from cytodino.training.checkpoints import SECONDS, STATE, TimedCheckpoints, last_checkpoint
from cytodino.training.course import BestEpoch
from cytodino.training.data import CellDataset, EpochSampler, draw_weights
from cytodino.training.observer import Observer

WEIGHTS = "trained.safetensors"


class LossModel(nn.Module):
    """What the Trainer sees: pixel values and labels in, loss and logits out.

    Parameters
    ----------
    model : CytoDino
    loss : module of logits and labels, optional
        For training; cross-entropy unless given, and always in evaluation, so that what is
        reported of the validation part can be compared between recipes.
    """

    def __init__(self, model: CytoDino, loss: nn.Module | None = None) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Mean loss of a batch: (n, 3, S, S) and int64 (n,) to loss () and logits (n, 21)."""
        logits = self.model.classify(pixel_values)
        if self.training and self.loss is not None:
            loss = self.loss(logits, labels)
        else:
            loss = functional.cross_entropy(logits.float(), labels)
        return {"loss": loss, "logits": logits}


class CellTrainer(Trainer):
    """A Trainer that takes its cells in the order of a sampler of its own."""

    def __init__(self, *, sampler: EpochSampler, model: nn.Module, **options: Any) -> None:
        super().__init__(model=model, **options)
        self._own = model
        self._sampler = sampler

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[Any]:
        return self._sampler

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Write the weights that train, and no pickle of the arguments beside them."""
        assert output_dir is not None  # the Trainer names the checkpoint's folder
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        save_file(trained_weights(self._own), Path(output_dir) / WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Read them back."""
        weights = load_file(Path(resume_from_checkpoint) / WEIGHTS)
        self._own.load_state_dict(weights, strict=False)


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
    checkpoint_seconds: float = SECONDS,
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
        Where checkpoints are put. If some lie there, training goes on after the last.
    observer : Observer
    checkpoint_seconds : float
        Between two checkpoints within an epoch.

    Returns
    -------
    BestEpoch
        The history and which epoch was best.
    """
    if recipe.gradient_checkpointing:
        _checkpoint_blocks(model)
    keeper = BestEpoch(model, folder, observer, patience=recipe.patience)
    sampler = _sampler(recipe, training)
    per_epoch = steps_per_epoch(recipe, len(sampler))
    steps = per_epoch * recipe.epochs
    arguments = _arguments(recipe, steps, device=device, workers=workers, folder=folder)
    trainer: Any = CellTrainer(  # Any: transformers types only a part of it
        sampler=sampler,
        model=LossModel(model, _loss(recipe, training)),
        args=arguments,
        train_dataset=training,
        eval_dataset=validation,
        compute_metrics=_metrics,
        callbacks=[keeper, TimedCheckpoints(per_epoch, checkpoint_seconds)],
    )
    trainer.remove_callback(PrinterCallback)
    observer.begin("training", steps)
    checkpoint = last_checkpoint(folder)
    if checkpoint is not None:
        state = TrainerState.load_from_json(str(checkpoint / STATE))
        observer.say(f"going on after step {state.global_step} of {steps}")
        observer.advance(state.global_step)
        keeper.take_up(state.log_history)
    if not keeper.stale:
        _run(trainer, checkpoint)
    keeper.restore()
    return keeper


def _checkpoint_blocks(model: CytoDino) -> None:
    """Let the backbone compute its blocks again in the backward pass."""
    core: Any = model.backbone
    core = core.get_base_model() if isinstance(core, PeftModel) else core
    # The name in transformers 5, and in 4.57; the Trainer would look for it on the module it has.
    enable = getattr(core, "activation_checkpointing_enable", core.gradient_checkpointing_enable)
    enable({"use_reentrant": False})


def _run(trainer: Any, checkpoint: Path | None) -> None:
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    except UnpicklingError as error:  # what weights_only=True says of anything but tensors
        raise TrainingError(
            "holds what is no state of a training", where=checkpoint, mend="remove it"
        ) from error


def _sampler(recipe: Recipe, training: CellDataset) -> EpochSampler:
    weights = None
    if recipe.extra_draws is not None:
        weights = draw_weights(training.labels, recipe.extra_draws)
    return EpochSampler(len(training), recipe.seed, weights)


def _loss(recipe: Recipe, training: CellDataset) -> nn.Module | None:
    if recipe.loss is None:
        return None
    return HierarchicalFocalLoss(recipe.loss, np.bincount(training.labels, minlength=N_CLASSES))


def _arguments(
    recipe: Recipe, steps: int, *, device: str, workers: int, folder: Path
) -> TrainingArguments:
    gpus = 1 if device == "cpu" else torch.cuda.device_count()
    batch_size, accumulation = share_batch(recipe, gpus)
    # What accelerate goes by, and transformers leaves set (4.57): the training that follows in this
    # process, or one in a shell where it is set, would not be at the precision of its recipe.
    os.environ["ACCELERATE_MIXED_PRECISION"] = recipe.mixed_precision or "no"
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        per_device_eval_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr": min(recipe.final_learning_rate, recipe.learning_rate)},
        warmup_steps=round(recipe.warmup * steps),
        max_grad_norm=recipe.clip,
        optim="adamw_torch",
        seed=recipe.seed,
        bf16=recipe.mixed_precision == "bf16",
        fp16=recipe.mixed_precision == "fp16",
        use_cpu=device == "cpu",
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        dataloader_pin_memory=device != "cpu",
        remove_unused_columns=False,
        label_names=["labels"],
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,  # the last may be damaged
        report_to="none",
        disable_tqdm=True,
    )


def steps_per_epoch(recipe: Recipe, draws: int) -> int:
    """Return how often the weights change while so many cells are seen."""
    batches = -(-draws // recipe.batch_size)
    return -(-batches // recipe.accumulation)


def share_batch(recipe: Recipe, gpus: int) -> tuple[int, int]:
    """Return batch size and accumulation for each of some GPUs: the step stays that of one.

    Raises
    ------
    TrainingError
        If the cells of a step cannot be shared out evenly.
    """
    together = recipe.batch_size * recipe.accumulation
    most = max(1, recipe.batch_size // gpus)
    if together % gpus:
        raise TrainingError(
            f"{together} cells a step cannot be shared out among {gpus} GPUs",
            mend="choose another --batch-size or --accumulation, or name fewer GPUs in "
            "CUDA_VISIBLE_DEVICES",
        )
    share = together // gpus
    each = max(size for size in range(1, share + 1) if share % size == 0 and size <= most)
    return each, share // each


def _metrics(prediction: EvalPrediction) -> dict[str, float]:
    logits, labels = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    scores = score(labels, logits.argmax(axis=1))
    return {
        "weighted_f1": scores.weighted_f1,
        "macro_f1": scores.macro_f1,
        "accuracy": scores.accuracy,
    }
