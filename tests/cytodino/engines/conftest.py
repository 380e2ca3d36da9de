"""A tiny model, deployed and exported once, and a bundle around it in memory."""

from datetime import UTC, datetime
from pathlib import Path

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


def bundle_around(model_path: Path, verdict: Verdict, provider: str = CPU) -> Bundle:
    """A bundle whose one variant reached a verdict on onnxruntime; only the model is on disk."""
    found = EngineVerdict(engine="onnxruntime", provider=provider, machine="here", verdict=verdict)
    manifest = Manifest(
        created=datetime.now(UTC),
        cytodino_version=cytodino.__version__,
        classes=CODES,
        image_size=32,
        preprocessing=Preprocessing(mean=MEAN, std=STD),
        models={"fp32": ModelFile(file=model_path.name, sha256="0" * 64, bytes=1)},
        files={},
        variants={
            "fp32": Variant(file=model_path.name, verdicts=(found,), usable=verdict == "passed")
        },
        limits={"fp32": LIMITS["fp32"]},
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
    return Bundle(path=model_path.parent, manifest=manifest, sha256="1" * 64)


@pytest.fixture
def passed_bundle(model_path: Path) -> Bundle:
    return bundle_around(model_path, "passed")


@pytest.fixture
def failed_bundle(model_path: Path) -> Bundle:
    return bundle_around(model_path, "failed")


@pytest.fixture
def gpu_only_bundle(model_path: Path) -> Bundle:
    return bundle_around(model_path, "passed", "CUDAExecutionProvider")
