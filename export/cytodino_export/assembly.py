"""Put a bundle together: golden cells, parity chain, licence, and the manifest that seals them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cytodino
from cytodino.archive import write_archive
from cytodino.bundle.folder import record_file
from cytodino.bundle.golden import GOLDEN_NAME, add_logits
from cytodino.bundle.manifest import (
    SCHEMA_VERSION,
    FileRecord,
    Manifest,
    ModelFile,
    Preprocessing,
    Provenance,
    Variant,
    write_manifest,
)
from cytodino.calibration.file import Confidence, write_confidence
from cytodino.engines.compiled_cache import weights_beside
from cytodino.engines.variants import file_of
from cytodino.limits import Limits
from cytodino.paths import hash_file
from cytodino.run import Run
from cytodino.run_manifest import MANIFEST
from cytodino_export.chain import ParityChain
from cytodino_export.gate_cells import GateCells
from cytodino_export.licence import licence_of, write_licence
from cytodino_export.parity_page import Evidence, write_parity_page
from cytodino_export.quantisation_cells import CellSet

__all__ = ["PAGE_NAME", "PARITY_NAME", "Parts", "assemble", "graph_metadata", "write_report"]

PARITY_NAME = "parity.json"
CONFIG_NAME = "config.json"
PAGE_NAME = "parity.html"


@dataclass(frozen=True)
class Parts:
    """What an export made and measured, before it is a bundle."""

    models: Mapping[str, Path]
    """ONNX files by precision, already in the bundle's folder."""
    chain: ParityChain
    evidence: Evidence
    """Acceptance cells and the answers on them, for the page."""
    reference: NDArray[np.float32]
    """float32 (n, 21), PyTorch, of the golden cells."""
    exported: Mapping[str, NDArray[np.float32]]
    """float32 (n, 21) by `variant.engine`."""
    limits: Mapping[str, Limits]
    """By variant."""
    options: dict[str, Any]
    sets: tuple[CellSet, CellSet] | None = None
    """Cells that calibrated INT8, and cells that tuned it."""
    confidence: Confidence | None = None
    """What was found of each variant's confidence; None where there were no cells for it."""


def assemble(folder: Path, run: Run, cells: GateCells, parts: Parts) -> Manifest:
    """Write everything but the models into the bundle's folder, the manifest last.

    Parameters
    ----------
    folder : Path
        Holds the models already.
    run : Run
    cells : GateCells
    parts : Parts

    Returns
    -------
    Manifest
        As it was written.
    """
    golden = folder / GOLDEN_NAME
    write_archive(golden, cells.golden_cells(), encoding="jpeg")
    add_logits(golden, parts.reference, parts.exported)
    created = datetime.now(UTC)
    beside = [weights_beside(path) for path in parts.models.values()]
    others = [
        golden,
        *(path for path in beside if path.is_file()),
        _write_transformers_config(folder, run),
        *write_report(folder, run, cells, parts, created),
        *write_licence(run, folder),
        *([write_confidence(folder, parts.confidence)] if parts.confidence else []),
    ]
    manifest = Manifest(
        created=created,
        cytodino_version=cytodino.__version__,
        classes=run.manifest.classes,
        image_size=run.manifest.image_size,
        preprocessing=Preprocessing(mean=run.manifest.mean, std=run.manifest.std),
        models={name: _record_model(path) for name, path in parts.models.items()},
        files={path.name: record_file(path) for path in others},
        variants=_variants(parts),
        limits=dict(parts.limits),
        provenance=_provenance(run, cells, parts),
    )
    write_manifest(folder, manifest)
    return manifest


def write_report(
    folder: Path,
    run: Run,
    cells: GateCells,
    parts: Parts,
    created: datetime,
    note: str | None = None,
) -> tuple[Path, Path]:
    """Write what was measured, for machines and for people; return both files.

    Parameters
    ----------
    folder : Path
    run, cells, parts : as for `assemble`
    created : datetime
    note : str, optional
        Said at the top of the page.

    Raises
    ------
    ExportError
        If the page cannot be written.
    """
    parity, page = folder / PARITY_NAME, folder / PAGE_NAME
    parity.write_text(parts.chain.model_dump_json(indent=2) + "\n", encoding="utf-8")
    write_parity_page(
        page,
        chain=parts.chain,
        evidence=parts.evidence,
        title=run.path.resolve().name,
        source={key: said for key, said in cells.acceptance_source.items() if key != "ids"},
        created=created,
        note=note,
    )
    return parity, page


def graph_metadata(run: Run) -> dict[str, Any]:
    """Gather what an ONNX file says of itself, apart from the bundle."""
    manifest = run.manifest
    return {
        "cytodino.schema_version": str(SCHEMA_VERSION),
        "cytodino.classes": list(manifest.classes),
        "cytodino.image_size": str(manifest.image_size),
        "cytodino.preprocessing": {
            "input": "crops, uint8, (n, h, w, 3), RGB; resized and normalised inside",
            "mean": list(manifest.mean),
            "std": list(manifest.std),
        },
        "cytodino.licence": licence_of(run),
    }


def _write_transformers_config(folder: Path, run: Run) -> Path:
    """Write the file without which optimum opens no folder: model type, classes, image size."""
    classes = run.manifest.classes
    config = {
        "model_type": "dinov3_vit",
        "image_size": run.manifest.image_size,
        "id2label": {str(place): code for place, code in enumerate(classes)},
        "label2id": {code: place for place, code in enumerate(classes)},
    }
    path = folder / CONFIG_NAME
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return path


def _record_model(path: Path) -> ModelFile:
    record: FileRecord = record_file(path)
    return ModelFile(file=path.name, sha256=record.sha256, bytes=record.bytes)


def _variants(parts: Parts) -> dict[str, Variant]:
    names = dict.fromkeys(result.variant for result in parts.chain.variants)
    return {
        name: Variant(
            file=parts.models[file_of(name)].name,
            verdicts=tuple(
                result.verdict for result in parts.chain.variants if result.variant == name
            ),
            usable=parts.chain.usable(name),
        )
        for name in names
    }


def _provenance(run: Run, cells: GateCells, parts: Parts) -> Provenance:
    manifest = run.manifest
    chain = parts.chain
    return Provenance(
        run={
            "sha256": hash_file(run.path / MANIFEST),
            "created": manifest.created.isoformat(),
            "tune": manifest.tune,
            "lora": manifest.lora.model_dump(mode="json") if manifest.lora else None,
            "head": manifest.head.model_dump(mode="json"),
            "recipe": manifest.recipe.model_dump(mode="json") if manifest.recipe else None,
            "split": manifest.split.model_dump(mode="json") if manifest.split else None,
            "imported": manifest.imported.model_dump(mode="json") if manifest.imported else None,
            "metrics": {
                part: {"loss": found.loss, "weighted_f1": found.scores.weighted_f1}
                for part, found in manifest.metrics.items()
            },
            "versions": manifest.versions,
        },
        backbone=manifest.backbone.model_dump(mode="json"),
        data=manifest.data.model_dump(mode="json") if manifest.data else {},
        acceptance=dict(cells.acceptance_source),
        golden=cells.golden_source,
        calibration=parts.sets[0].source if parts.sets else None,
        tuning=parts.sets[1].source if parts.sets else None,
        versions=chain.machine.versions | {"python": chain.machine.python},
        machine=chain.machine.model_dump(mode="json", exclude={"versions", "python"}),
        options=parts.options,
        licence=licence_of(run),
    )
