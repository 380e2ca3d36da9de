"""One tiny run with weights that are not trivial, exported once and shared."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import DINOv3ViTConfig, DINOv3ViTModel

import cytodino
from cytodino.cells import open_cells
from cytodino.modeling.backbone import Backbone
from cytodino.modeling.classifier import CytoDino
from cytodino.modeling.head import DecoderHead
from cytodino.modeling.loading import save_weights
from cytodino.modeling.lora import add_adapter
from cytodino.modeling.preprocessing import MEAN, STD, Preprocess
from cytodino.recipe import Recipe
from cytodino.run_folder import write_manifest, write_split
from cytodino.run_manifest import DataRecord, HeadRecord, LoraRecord, RunManifest, SplitRecord
from cytodino.taxonomy import CODES
from cytodino_export.pipeline import ExportResult, export_run

SIZE = 32
HIDDEN = 32
CELLS_A_CLASS = 16
PARTS = ("train", "validation", *["test"] * 11, "validation", "train", "train")


def draw_cells(folder: Path, *, seed: int = 0, cells: int = CELLS_A_CLASS) -> Path:
    """Draw small images, each class with a colour of its own, in two sizes."""
    generator = np.random.default_rng(seed)
    for index, code in enumerate(CODES):
        (folder / code).mkdir(parents=True)
        colour = np.random.default_rng(index).integers(0, 256, 3)
        for number in range(cells):
            shape = (40, 40, 3) if number % 4 else (37, 45, 3)
            pixels = colour + generator.normal(0, 40, shape)
            image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
            image.save(folder / code / f"{number:03}.png")
    return folder


def roughen(model: torch.nn.Module, generator: torch.Generator) -> None:
    """Draw every weight so that no fold and no merge is trivial."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lambda1" in name:
                weight.uniform_(0.05, 2.0, generator=generator)
            elif "norm" in name and name.endswith("weight"):
                weight.uniform_(0.5, 1.5, generator=generator)
            else:
                weight.normal_(0.0, 0.15, generator=generator)


def tiny_model(seed: int = 0, *, gated: bool = False, lora: bool = False) -> CytoDino:
    config = DINOv3ViTConfig(
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_register_tokens=4,
        image_size=SIZE,
        use_gated_mlp=gated,
        hidden_act="silu" if gated else "gelu",
        key_bias=True,
    )
    generator = torch.Generator().manual_seed(seed)
    backbone = DINOv3ViTModel(config)
    roughen(backbone, generator)
    head = DecoderHead(HIDDEN, layers=2, heads=4)
    roughen(head, generator)
    model = CytoDino(backbone, head, Preprocess(SIZE))
    if lora:
        model.backbone = add_adapter(backbone, rank=4, alpha=8)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_" in name:
                    weight.normal_(0.0, 0.1, generator=generator)
    return model.eval()


def write_run(folder: Path, cells_path: Path, *, seed: int = 0) -> Path:
    """Write a run as `cytodino train --tune lora` does."""
    folder.mkdir(parents=True)
    model = tiny_model(seed, lora=True)
    record = save_weights(model, folder, Backbone(model.backbone, "tiny", "random"))
    cells = open_cells(cells_path)
    parts = [PARTS[int(Path(name).stem) % len(PARTS)] for name in cells.ids]
    write_split(folder, cells.ids, parts)
    write_manifest(
        folder,
        RunManifest(
            created=datetime.now(UTC),
            image_size=SIZE,
            mean=MEAN,
            std=STD,
            tune="lora",
            backbone=record,
            lora=LoraRecord(rank=4, alpha=8, dropout=0.1),
            head=HeadRecord(hidden=HIDDEN, layers=2, heads=4, feedforward=2 * HIDDEN, dropout=0.2),
            recipe=Recipe(image_size=SIZE),
            data=DataRecord(
                path=str(cells_path), kind="folder", fingerprint=cells.fingerprint(), n=len(cells)
            ),
            split=SplitRecord(seed=0, fractions={"test": 0.7}, rule="by number", counts={}),
            parameters=(1, 2),
            best_epoch=1,
            history=(),
            metrics={},
            seconds=0.0,
            device="cpu",
            versions={"cytodino": cytodino.__version__},
        ),
    )
    return folder


@pytest.fixture(scope="session", name="roughen")
def roughen_fixture() -> Callable[[torch.nn.Module, torch.Generator], None]:
    return roughen


@pytest.fixture(scope="session")
def make_model() -> Callable[..., CytoDino]:
    return tiny_model


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    return write_run


@pytest.fixture(scope="session")
def make_cells() -> Callable[..., Path]:
    return draw_cells


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep this machine's own cache out of the tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def cells_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_cells(tmp_path_factory.mktemp("cells") / "images")


@pytest.fixture(scope="session")
def run_path(tmp_path_factory: pytest.TempPathFactory, cells_path: Path) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run", cells_path)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, run_path: Path) -> ExportResult:
    """A full export, every precision on every engine, once for all tests."""
    return export_run(run_path, tmp_path_factory.mktemp("bundles") / "bundle")


@pytest.fixture
def bundle_copy(exported: ExportResult, tmp_path: Path) -> Path:
    """A bundle of one's own to break."""
    assert exported.bundle is not None
    return Path(shutil.copytree(exported.bundle, tmp_path / "bundle"))
