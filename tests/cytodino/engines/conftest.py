"""A tiny model, deployed and exported once, and a bundle around it in memory."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import DINOv3ViTConfig, DINOv3ViTModel

import cytodino
from cytodino.bundle import Bundle
from cytodino.bundle.manifest import (
    EngineVerdict,
    GoldenSource,
    Manifest,
    ModelFile,
    Preprocessing,
    Provenance,
    Variant,
)
from cytodino.engines.variants import file_of
from cytodino.limits import LIMITS
from cytodino.modeling.classifier import CytoDino
from cytodino.modeling.head import DecoderHead
from cytodino.modeling.preprocessing import MEAN, STD, Preprocess
from cytodino.parity import Verdict
from cytodino.taxonomy import CODES
from cytodino_export.deploy import DeployedModel, fold
from cytodino_export.onnx_graph import write_graph

CPU = "CPUExecutionProvider"


@pytest.fixture(scope="session")
def deployed() -> DeployedModel:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = DINOv3ViTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        num_register_tokens=4,
        image_size=32,
    )
    model = CytoDino(DINOv3ViTModel(config), DecoderHead(32, layers=1), Preprocess(32))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return fold(model.eval())


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory, deployed: DeployedModel) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.fp32.onnx"
    return write_graph(deployed, path, image_size=32, metadata={})


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep this machine's own cache out of the tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def verdict_of(
    variant: str, verdict: Verdict, engine: str = "onnxruntime", provider: str = CPU
) -> tuple[str, EngineVerdict]:
    return variant, EngineVerdict(engine=engine, provider=provider, machine="here", verdict=verdict)


def bundle_around(files: dict[str, Path], *found: tuple[str, EngineVerdict]) -> Bundle:
    """A bundle with the verdicts given, by variant; only the models are on disk."""
    models = {
        precision: ModelFile(file=path.name, sha256="0" * 64, bytes=1)
        for precision, path in files.items()
    }
    variants = {}
    for name in dict.fromkeys(variant for variant, _ in found):
        verdicts = tuple(verdict for variant, verdict in found if variant == name)
        variants[name] = Variant(
            file=files[file_of(name)].name,
            verdicts=verdicts,
            usable=any(verdict.verdict == "passed" for verdict in verdicts),
        )
    manifest = Manifest(
        created=datetime.now(UTC),
        cytodino_version=cytodino.__version__,
        classes=CODES,
        image_size=32,
        preprocessing=Preprocessing(mean=MEAN, std=STD),
        models=models,
        files={},
        variants=variants,
        limits=dict(LIMITS),
        provenance=Provenance(
            run={},
            backbone={},
            data={},
            acceptance={},
            golden=GoldenSource(path="", parts=(), seed=0, ids=()),
            versions={},
            machine={},
            options={},
            licence="",
        ),
    )
    return Bundle(path=files["fp32"].parent, manifest=manifest, sha256="1" * 64)


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> dict[str, Path]:
    """The model's three files, in one folder."""
    from cytodino_export.fp16 import to_fp16
    from cytodino_export.int8 import to_int8

    folder = tmp_path_factory.mktemp("files")
    files = {name: folder / f"model.{name}.onnx" for name in ("fp32", "fp16", "int8")}
    shutil.copyfile(model_path, files["fp32"])
    to_fp16(files["fp32"], files["fp16"])
    crops = np.random.default_rng(0).integers(0, 256, (16, 40, 36, 3), dtype=np.uint8)
    to_int8(files["fp32"], files["int8"], list(crops))
    return files


@pytest.fixture(scope="session")
def verdict() -> Callable[..., tuple[str, EngineVerdict]]:
    return verdict_of


@pytest.fixture
def build_bundle(model_files: dict[str, Path]) -> Callable[..., Bundle]:
    return lambda *found: bundle_around(model_files, *found)


@pytest.fixture
def passed_bundle(model_path: Path) -> Bundle:
    return bundle_around({"fp32": model_path}, verdict_of("fp32", "passed"))


@pytest.fixture
def failed_bundle(model_path: Path) -> Bundle:
    return bundle_around({"fp32": model_path}, verdict_of("fp32", "failed"))


@pytest.fixture
def gpu_only_bundle(model_path: Path) -> Bundle:
    found = verdict_of("fp32", "passed", provider="CUDAExecutionProvider")
    return bundle_around({"fp32": model_path}, found)
