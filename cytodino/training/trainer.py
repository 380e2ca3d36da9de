"""From labelled cells to a run folder."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn import functional
from transformers import set_seed

from cytodino.cells import open_cells
from cytodino.metrics import score
from cytodino.modeling.classifier import CytoDino, count_parameters
from cytodino.modeling.inference import predict
from cytodino.modeling.libraries import quiet_libraries
from cytodino.modeling.loading import open_backbone, save_weights
from cytodino.modeling.preprocessing import Preprocess
from cytodino.recipe import DEFAULT_BACKBONE, Recipe
from cytodino.run import Run, new_run_folder, open_run, require_free, write_manifest, write_split
from cytodino.run_manifest import PartMetrics
from cytodino.training.augmentation import Augment
from cytodino.training.building import build_model, choose_device, default_workers
from cytodino.training.data import CellDataset
from cytodino.training.duplicates import refuse_duplicates
from cytodino.training.fitting import BestEpoch, fit
from cytodino.training.observer import Observer
from cytodino.training.parts import DividedCells, describe, divide, read_all
from cytodino.training.record import compose_manifest
from cytodino.training.tables import SplitTable


def train(
    data: Path,
    out: Path,
    *,
    recipe: Recipe,
    backbone: str = DEFAULT_BACKBONE,
    groups: Path | None = None,
    split: Sequence[SplitTable] = (),
    device: str = "auto",
    workers: int | None = None,
    observer: Observer | None = None,
) -> Run:
    """Train a classifier and write it as a run folder.

    Parameters
    ----------
    data : Path
        Image folder or archive; every cell labelled.
    out : Path
        The run: a folder that does not exist yet, or is empty.
    recipe : Recipe
    backbone : str
        Hub id, folder, earlier run, or the name of a configuration (random weights).
    groups : Path, optional
        Table of each image's patient or slide, which are kept whole.
    split : tables of images and parts, optional
        See `cytodino.training.tables.read_split`.
    device : auto, cpu or cuda
    workers : int, optional
        Processes that load cells, see `default_workers`. The result is the same.
    observer : Observer, optional

    Raises
    ------
    InputError
        If the cells or the backbone cannot be used, or `out` is taken.
    CropError
        If an image cannot be read.
    TrainingError
        If the device is not there, there are too few cells to divide, the split tears a group
        apart, or copies of a cell are in different parts.
    """
    started = time.monotonic()
    observer = observer or Observer()
    quiet_libraries()
    require_free(out)
    device = choose_device(device)
    divided = divide(
        open_cells(data), seed=recipe.seed, groups=groups, split=split, observer=observer
    )
    set_seed(recipe.seed)
    origin = open_backbone(backbone, image_size=recipe.image_size)
    model = build_model(origin, recipe, observer)
    parameters = count_parameters(model)
    describe(divided, observer)
    observer.say(
        f"training {parameters[0]:,} of {parameters[1]:,} parameters "
        f"({parameters[0] / parameters[1]:.1%}) on {device}, recipe {recipe.name}"
    )
    refuse_duplicates(divided, read_all(divided.cells, observer))
    with new_run_folder(out):
        course = _fit(model, divided, recipe, device, workers, out, observer)
        metrics = _judge(model, divided, recipe, observer)
        record = save_weights(model, out, origin)
        manifest = compose_manifest(
            model,
            record,
            divided,
            recipe=recipe,
            course=course,
            metrics=metrics,
            parameters=parameters,
            device=device,
            seconds=time.monotonic() - started,
            groups=groups,
            split=split,
        )
        write_split(out, divided.cells.ids, divided.parts.tolist())
        write_manifest(out, manifest)
    return open_run(out)


def _fit(
    model: CytoDino,
    divided: DividedCells,
    recipe: Recipe,
    device: str,
    workers: int | None,
    out: Path,
    observer: Observer,
) -> BestEpoch:
    def dataset(part: str, augment: Augment | None = None) -> CellDataset:
        rows = divided.rows(part)
        return CellDataset(divided.cells, rows, divided.labels[rows], preprocess, augment)

    # On the CPU: cells are prepared in the processes that load them.
    preprocess = Preprocess(recipe.image_size)
    with tempfile.TemporaryDirectory(dir=out, prefix="checkpoints-") as folder:
        return fit(
            model,
            dataset("train", Augment(recipe.augmentation, recipe.image_size)),
            dataset("validation"),
            recipe=recipe,
            device=device,
            workers=default_workers(device) if workers is None else workers,
            folder=Path(folder),
            observer=observer,
        )


def _judge(
    model: CytoDino, divided: DividedCells, recipe: Recipe, observer: Observer
) -> dict[str, PartMetrics]:
    """Score the best epoch on the validation part and, this once, on the test part."""
    metrics = {}
    for part in ("validation", "test"):
        rows = divided.rows(part)
        observer.begin(f"scoring the {part} part", len(rows))
        logits = predict(
            model, divided.cells, rows, batch_size=recipe.batch_size, progress=observer.advance
        )
        labels = divided.labels[rows]
        loss = functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))
        scores = score(labels, logits.argmax(axis=1))
        metrics[part] = PartMetrics(loss=float(loss), scores=scores)
        observer.say(
            f"{part}: weighted F1 {scores.weighted_f1:.4f}, macro F1 {scores.macro_f1:.4f}, "
            f"accuracy {scores.accuracy:.4f} on {scores.n} cells"
        )
    return metrics
