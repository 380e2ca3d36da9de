"""A run or a bundle that is to be evaluated, opened by the same few questions."""

import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cytodino.calibration.file import Confidence, ModelCalibration, read_confidence
from cytodino.engines.base import Engine, EngineDescription
from cytodino.errors import InputError, MissingExtraError, MissingPathError

if TYPE_CHECKING:
    from cytodino.run import Run

__all__ = ["EvaluatedModel", "open_model"]


@dataclass(frozen=True)
class EvaluatedModel:
    """A run or a bundle, checked but not loaded yet."""

    path: Path
    kind: Literal["run", "bundle"]
    sha256: str
    trained_on: object
    """Fingerprint of the cells that it was trained on, where it is known."""
    run: "Run | None"
    confidence: Confidence | None
    """Calibrations that it carries."""
    open: Callable[[], Engine]

    def calibration(self, found: EngineDescription) -> ModelCalibration | None:
        """Return the one of the variant and engine that ran, if it carries one."""
        if self.confidence is None:
            return None
        return self.confidence.find(
            variant=found.variant, engine=found.engine, provider=found.provider
        )


def open_model(path: Path, engine: str, variant: str, device: str) -> EvaluatedModel:
    """Open a run or a bundle, checked but not loaded; parameters as for `evaluate`.

    Raises
    ------
    InputError
        If it is neither, or cannot be run as asked.
    BundleError
        If the bundle is damaged.
    MissingExtraError
        If a run is given and torch is not installed.
    """
    if not path.exists():
        raise MissingPathError(path)
    if (path / "cytodino.json").is_file():
        return _prepare_bundle(path, engine, variant, device)
    if (path / "run.json").is_file():
        return _prepare_run(path, engine, variant, device)
    raise InputError(
        "neither a run (no run.json) nor a bundle (no cytodino.json)",
        where=path,
        mend="give the folder that cytodino train or cytodino-export onnx wrote",
    )


def _prepare_bundle(path: Path, engine: str, variant: str, device: str) -> EvaluatedModel:
    from cytodino.bundle import open_bundle
    from cytodino.bundle.confidence import load_confidence
    from cytodino.engines import open_engine

    if engine == "pytorch":
        raise InputError(
            "a bundle holds no PyTorch model", where=path, mend="give the run it was made from"
        )
    bundle = open_bundle(path)
    return EvaluatedModel(
        path=path,
        kind="bundle",
        sha256=bundle.sha256,
        trained_on=bundle.manifest.provenance.data.get("fingerprint"),
        run=None,
        confidence=load_confidence(bundle),
        open=lambda: open_engine(bundle, engine=engine, variant=variant, device=device),
    )


def _prepare_run(path: Path, engine: str, variant: str, device: str) -> EvaluatedModel:
    from cytodino.run import open_run

    if engine not in ("auto", "pytorch") or variant not in ("auto", "fp32"):
        raise InputError(
            "a run is evaluated in PyTorch, fp32",
            where=path,
            mend="drop the option, or export the run (cytodino-export onnx) and give the bundle",
        )
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("torch", "train")

    def open_in_pytorch() -> Engine:
        from cytodino.engines.pytorch import open_reference

        return open_reference(path, device=device)

    run = open_run(path)
    return EvaluatedModel(
        path=path,
        kind="run",
        sha256=_hash_run(run),
        trained_on=run.manifest.data.fingerprint if run.manifest.data else None,
        run=run,
        confidence=read_confidence(path),
        open=open_in_pytorch,
    )


def _hash_run(run: "Run") -> str:
    """SHA-256 over run.json, which holds that of the backbone, and the weights beside it."""
    from cytodino.run_manifest import MANIFEST

    adapter = sorted(path for path in run.adapter_path.rglob("*") if path.is_file())
    total = hashlib.sha256()
    for path in (run.path / MANIFEST, run.head_path, *adapter):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
