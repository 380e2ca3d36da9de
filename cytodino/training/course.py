"""How a training went: its epochs, which was the best, and when to stop."""

import math
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from cytodino.errors import DivergedError, TrainingError
from cytodino.modeling.classifier import CytoDino, trained_weights
from cytodino.run_manifest import EpochRecord
from cytodino.training.observer import Observer


class BestEpoch(TrainerCallback):
    """Keeps the history in memory, and the trained weights of the best epoch on disk.

    Best is the highest weighted F1 on the validation part; of equal ones, the lowest loss. After
    `patience` epochs without a better one, training stops. One that was interrupted takes up its
    history from the Trainer's log, and finds the best weights where they were.

    Parameters
    ----------
    model : CytoDino
    folder : Path
        Where the weights may lie.
    observer : Observer
    patience : int, optional
    """

    def __init__(
        self, model: CytoDino, folder: Path, observer: Observer, *, patience: int | None = None
    ) -> None:
        self.patience = patience
        self.history: list[EpochRecord] = []
        self.best = 0
        self._model = model
        self._folder = folder
        self._observer = observer
        self._train_loss = float("nan")

    @property
    def stale(self) -> bool:
        """Whether patience is at an end."""
        return self.patience is not None and len(self.history) - self.best >= self.patience

    def take_up(self, log: list[dict[str, float]]) -> None:
        """Take up the history of a training that was interrupted, from the Trainer's log."""
        for entry in log:
            self._train_loss = entry.get("loss", self._train_loss)
            if "eval_loss" in entry:
                self._append(entry)

    def restore(self) -> None:
        """Put the best epoch's weights back into the model.

        Raises
        ------
        TrainingError
            If they cannot be read.
        """
        path = self._file(self.best)
        try:
            weights = load_file(path)
        except (OSError, SafetensorError) as error:
            raise TrainingError(
                f"holds no weights any more ({error})",
                where=path,
                mend="remove the folder that it lies in, and train again",
            ) from error
        self._model.load_state_dict(weights, strict=False)

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
        """Record the epoch, and keep its weights if it is the best so far.

        Raises
        ------
        DivergedError
            If the loss is not finite: such weights stay as they are, whatever comes after.
        """
        assert metrics is not None
        if not math.isfinite(metrics["eval_loss"]):
            raise DivergedError(
                f"the loss of the validation part is not finite after epoch "
                f"{len(self.history) + 1}: the training has diverged",
                mend="give a lower --learning-rate, and no --mixed-precision fp16",
            )
        record = self._append(metrics)
        best = self.best == record.epoch
        if best:
            self._keep()
        self._observer.epoch(record, best=best)
        if self.stale:
            self._observer.say(f"no better epoch in {self.patience}: training stops")
            control.should_training_stop = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Let go of the weights that were best before: no checkpoint refers to them any more."""
        for path in self._folder.glob("best-*"):
            if path != self._file(self.best):
                path.unlink()

    def _append(self, metrics: dict[str, float]) -> EpochRecord:
        record = EpochRecord(
            epoch=len(self.history) + 1,
            train_loss=self._train_loss,
            validation_loss=metrics["eval_loss"],
            weighted_f1=metrics["eval_weighted_f1"],
            macro_f1=metrics["eval_macro_f1"],
            accuracy=metrics["eval_accuracy"],
        )
        if not self.history or _rank(record) > _rank(self.history[self.best - 1]):
            self.best = record.epoch
        self.history.append(record)
        return record

    def _keep(self) -> None:
        partial = self._folder / "partial.safetensors"
        save_file(trained_weights(self._model), partial)
        os.replace(partial, self._file(self.best))

    def _file(self, epoch: int) -> Path:
        # A name for each epoch: one that is trained again after a kill may not be the best then.
        return self._folder / f"best-{epoch}.safetensors"


def _rank(record: EpochRecord) -> tuple[float, float]:
    return record.weighted_f1, -record.validation_loss
