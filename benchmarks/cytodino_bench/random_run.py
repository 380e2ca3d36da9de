"""A run with random weights and drawn cells, for what depends on a model's size and not on data.

Its last layer is solved on the drawn cells by least squares, without training: so its answers have
margins, and agreement with them means something.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cytodino import __version__
from cytodino.cells import CellSource, open_cells
from cytodino.recipe import Recipe
from cytodino.run_folder import write_manifest, write_split
from cytodino.run_manifest import DataRecord, LoraRecord, RunManifest, SplitRecord
from cytodino.synthetic import draw_cell
from cytodino.taxonomy import CODES

if TYPE_CHECKING:
    from cytodino.modeling.classifier import CytoDino

__all__ = ["SEED", "draw_cells", "write_run"]

SEED = 0
CROP = 250
"""Side of a crop, pixels."""

STRENGTH = 8.0
"""Logit of the right class above the others' that the last layer is solved for."""

RIDGE = 1.0
"""By the features' mean square: random features hold noise too, and weights fitted to it would blow
up every rounding error."""


def draw_cells(folder: Path, *, count: int = 8 * len(CODES), seed: int = SEED) -> None:
    """Draw cells of all classes in turn, unless they are there."""
    if folder.exists():
        return
    generator = np.random.default_rng(seed)
    for index in range(count):
        code = CODES[index % len(CODES)]
        (folder / code).mkdir(parents=True, exist_ok=True)
        pixels = draw_cell(code, seed=generator, size=CROP)
        Image.fromarray(pixels).save(folder / code / f"{seed}-{index:03}.png")


def write_run(folder: Path, cells_path: Path, name: str, *, solve_head: bool = False) -> None:
    """Write a run as `cytodino train --tune lora` does, its weights drawn from a seed.

    Parameters
    ----------
    folder : Path
        The run; one that is there is left as it is.
    cells_path : Path
        Folder of cells by class.
    name : {"tiny", "small", "base", "large"}
    solve_head : bool
        Fit the last layer to the cells' classes, so that answers have margins.
    """
    if folder.exists():
        return
    import torch

    from cytodino.modeling.loading import describe_head, open_backbone, save_weights
    from cytodino.modeling.preprocessing import MEAN, STD
    from cytodino.training.building import build_model
    from cytodino.training.observer import Observer

    torch.manual_seed(SEED)
    recipe = Recipe(tune="lora")
    origin = open_backbone(name, image_size=recipe.image_size)
    model = build_model(origin, recipe, Observer())
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if "lora_B" in key:  # zero from PEFT, and then there would be nothing to merge
                weight.normal_(0.0, 0.002)
    cells = open_cells(cells_path)
    if solve_head:
        _solve_head(model, cells)
    folder.mkdir(parents=True)
    record = save_weights(model, folder, origin)
    parts = ["test" if index % 5 == 0 else "train" for index in range(len(cells))]
    write_split(folder, cells.ids, parts)
    data = DataRecord(
        path=str(cells_path.resolve()), kind="folder", fingerprint=cells.fingerprint(), n=len(cells)
    )
    write_manifest(
        folder,
        RunManifest(
            created=datetime.now(UTC).replace(microsecond=0),
            image_size=recipe.image_size,
            mean=MEAN,
            std=STD,
            tune="lora",
            backbone=record,
            lora=LoraRecord(
                rank=recipe.lora_rank, alpha=recipe.lora_alpha, dropout=recipe.lora_dropout
            ),
            head=describe_head(model.head),
            recipe=recipe,
            data=data,
            split=SplitRecord(seed=SEED, fractions={"test": 0.2}, rule="by number", counts={}),
            parameters=(1, 2),
            best_epoch=1,
            history=(),
            metrics={},
            seconds=0.0,
            device="cpu",
            versions={"cytodino": __version__},
        ),
    )


def _solve_head(model: "CytoDino", cells: CellSource) -> None:
    """Set the classifier by ridge regression from what it is given to the cells' classes."""
    import torch

    classifier: Any = model.head.classifier
    kept: list[torch.Tensor] = []
    hook = classifier.register_forward_hook(lambda _module, given, _answer: kept.append(given[0]))
    model.eval()
    with torch.inference_mode():
        for index in range(len(cells)):
            model(torch.from_numpy(cells.read(index)[None]))
    hook.remove()
    features = torch.cat(kept).double()  # (n, hidden)
    labels = torch.as_tensor(np.asarray(cells.labels))
    targets = STRENGTH * torch.nn.functional.one_hot(labels, len(CODES)).double()  # (n, 21)
    middle, level = features.mean(dim=0), targets.mean(dim=0)
    centred = features - middle
    gram = centred @ centred.T  # (n, n): fewer cells than features
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weight = (centred.T @ torch.linalg.solve(gram, targets - level)).T  # (21, hidden)
    with torch.no_grad():
        classifier.weight.copy_(weight)
        classifier.bias.copy_(level - weight @ middle)
