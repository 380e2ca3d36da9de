"""From labelled cells to a run folder."""

import hashlib
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.nn import functional
from transformers import set_seed

from cytodino.cells import CellSource, open_cells
from cytodino.errors import InputError
from cytodino.metrics import score
from cytodino.modeling.backbone import Backbone
from cytodino.modeling.classifier import CytoDino, count_parameters, share
from cytodino.modeling.inference import predict
from cytodino.modeling.libraries import quiet_libraries
from cytodino.modeling.loading import open_backbone, save_weights
from cytodino.modeling.preprocessing import Preprocess
from cytodino.paths import hash_file
from cytodino.recipe import DEFAULT_BACKBONE, Recipe
from cytodino.run import Run, open_run
from cytodino.run_folder import (
    UNFINISHED,
    new_run_folder,
    require_free,
    write_manifest,
    write_split,
)
from cytodino.run_manifest import MANIFEST, PartMetrics
from cytodino.training.augmentation import Augment
from cytodino.training.building import build_model, choose_device, default_workers
from cytodino.training.checkpoints import SECONDS, Plan, open_plan
from cytodino.training.course import BestEpoch
from cytodino.training.data import CellDataset
from cytodino.training.duplicates import refuse_duplicates
from cytodino.training.examination import read_all
from cytodino.training.fitting import fit
from cytodino.training.observer import Observer
from cytodino.training.parts import DividedCells, describe, divide, warn_of_seen_cells
from cytodino.training.record import Asked, compose_manifest, differences
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
    resume: bool = False,
    checkpoint_seconds: float = SECONDS,
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
    resume : bool
        Go on with a training that was interrupted in `out`, to the same weights, or begin one; a
        run that is whole is left as it is, and refused if it is another than the one asked for.
    checkpoint_seconds : float
        Between two checkpoints within an epoch; there is one after each epoch too.
    observer : Observer, optional

    Raises
    ------
    InputError
        If the cells or the backbone cannot be used, or `out` is taken; without `resume`, by an
        interrupted training too.
    CropError
        If an image cannot be read.
    TrainingError
        If the device is not there, there are too few cells to divide, the split tears a group
        apart, copies of a cell are in different parts, or what was interrupted was another
        training.
    DivergedError
        If the loss is not finite any more; nothing of such a training stays in `out`.
    """
    started = time.monotonic()
    observer = observer or Observer()
    quiet_libraries()
    if resume and (out / MANIFEST).is_file():
        asked = Asked(recipe, backbone, groups, tuple(split))
        return _finished(out, open_cells(data), asked, observer)
    require_free(out, resume=resume)
    device = choose_device(device)
    divided = divide(
        open_cells(data), seed=recipe.seed, groups=groups, split=split, observer=observer
    )
    set_seed(recipe.seed)
    origin = open_backbone(backbone, image_size=recipe.image_size)
    model = build_model(origin, recipe, observer)
    parameters = count_parameters(model)
    describe(divided, observer)
    if origin.kind == "run":
        warn_of_seen_cells(divided, open_run(Path(backbone)), observer)
    observer.say(f"training {share(parameters)} on {device}, recipe {recipe.name}")
    refuse_duplicates(divided, read_all(divided.cells, observer))
    with _kept(out, observer), new_run_folder(out, resume=resume):
        folder = open_plan(out, _plan(divided, origin, recipe))
        course = _fit(model, divided, recipe, device, workers, folder, observer, checkpoint_seconds)
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


@contextmanager
def _kept(out: Path, observer: Observer) -> Iterator[None]:
    """Say of a training that ends early, where something of it was kept, that it can go on."""
    try:
        yield
    except BaseException:
        if (out / UNFINISHED).is_dir():
            observer.say(f"what was trained stays in {out}: --resume goes on with it")
        raise


def _fit(
    model: CytoDino,
    divided: DividedCells,
    recipe: Recipe,
    device: str,
    workers: int | None,
    folder: Path,
    observer: Observer,
    checkpoint_seconds: float,
) -> BestEpoch:
    def dataset(part: str, augment: Augment | None = None) -> CellDataset:
        rows = divided.rows(part)
        return CellDataset(divided.cells, rows, divided.labels[rows], preprocess, augment)

    # On the CPU: cells are prepared in the processes that load them.
    preprocess = Preprocess(recipe.image_size)
    return fit(
        model,
        dataset("train", Augment(recipe.augmentation, recipe.image_size)),
        dataset("validation"),
        recipe=recipe,
        device=device,
        workers=default_workers(device) if workers is None else workers,
        folder=folder,
        observer=observer,
        checkpoint_seconds=checkpoint_seconds,
    )


def _plan(divided: DividedCells, backbone: Backbone, recipe: Recipe) -> Plan:
    manifest = Path(backbone.source) / MANIFEST
    earlier = {MANIFEST: hash_file(manifest)} if backbone.kind == "run" else {}
    lines = (f"{name}\0{part}\n" for name, part in divided.placed())
    return Plan(
        recipe=recipe,
        backbone={"source": backbone.source, **backbone.sha256, **earlier},
        cells=divided.cells.fingerprint(),
        split=hashlib.sha256("".join(lines).encode()).hexdigest(),
    )


def _finished(out: Path, cells: CellSource, asked: Asked, observer: Observer) -> Run:
    """Open a run that is whole: --resume has nothing to do, if it is the one that was asked for."""
    run = open_run(out)
    others = differences(run.manifest, cells, asked)
    if others:
        raise InputError(
            f"holds a finished run of {' and '.join(f'another {one}' for one in others)}",
            where=out,
            mend="choose another --out, or remove it yourself",
        )
    shutil.rmtree(out / UNFINISHED, ignore_errors=True)
    observer.say(f"{out} is finished")
    return run


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
