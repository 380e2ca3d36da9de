"""`cytodino.json`: what a bundle holds, where it came from, and what was proven about it."""

import hashlib
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from cytodino.errors import BundleError
from cytodino.limits import Limits
from cytodino.parity import ParityReport, Verdict
from cytodino.taxonomy import CODES

__all__ = [
    "MANIFEST_NAME",
    "SCHEMA_VERSION",
    "EngineVerdict",
    "FileRecord",
    "GoldenSource",
    "Manifest",
    "ModelFile",
    "Preprocessing",
    "Provenance",
    "Variant",
    "read_manifest",
    "seal",
    "write_manifest",
]

SCHEMA_VERSION = 1
MANIFEST_NAME = "cytodino.json"

UNSEALED = "0" * 64
"""What stands in the seal's place while the seal is computed."""

_SEAL = re.compile(r'("seal": ")([0-9a-f]{64})(")')
_RESERVED = {".", "..", MANIFEST_NAME}


def _require_plain_name(name: str) -> str:
    """Refuse a name that could lead out of the bundle's folder."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name in _RESERVED:
        raise ValueError(f"{name!r} is no plain file name")
    return name


def _require_sha256(digest: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError(f"{digest!r} is no SHA-256 in hex")
    return digest


def _require_classes(codes: tuple[str, ...]) -> tuple[str, ...]:
    if codes != CODES:
        raise ValueError("the classes are not the 21 codes in the order of the logits")
    return codes


FileName = Annotated[str, AfterValidator(_require_plain_name)]
Sha256 = Annotated[str, AfterValidator(_require_sha256)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(_Frozen):
    """One file of the bundle, as it was when it was exported."""

    sha256: Sha256
    bytes: int


class ModelFile(FileRecord):
    """One ONNX file."""

    file: FileName


class Preprocessing(_Frozen):
    """What the graph does with pixels; recorded for people, computed inside the graph."""

    layout: Literal["NHWC"] = "NHWC"
    dtype: Literal["uint8"] = "uint8"
    channel_order: Literal["RGB"] = "RGB"
    resize: Literal["bilinear"] = "bilinear"
    antialias: bool = False
    mean: tuple[float, float, float]
    """Of pixels in 0 to 1."""
    std: tuple[float, float, float]


class EngineVerdict(_Frozen):
    """What was proven about one variant on one engine, provider and machine."""

    engine: str
    provider: str
    machine: str
    """Model name of the CPU, and of the GPU where one computed."""
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    """Why it failed or stays unproven, as sentences."""
    n: int = 0
    agreement: float | None = None
    agreement_low: float | None = None
    logit_max: float | None = None
    probability_max: float | None = None
    flips: int | None = None
    critical_flips: int | None = None

    @classmethod
    def from_report(
        cls,
        report: ParityReport,
        *,
        engine: str,
        provider: str,
        machine: str,
        also_broken: tuple[str, ...] = (),
    ) -> "EngineVerdict":
        """Sum a report up; `also_broken` are failures found beside it, such as batch variance."""
        reasons = report.failures + also_broken
        verdict: Verdict = "failed" if reasons else report.verdict
        if verdict == "unproven":
            reasons = (f"{report.n} cells, {report.limits.min_cells} are needed",)
        return cls(
            engine=engine,
            provider=provider,
            machine=machine,
            verdict=verdict,
            reasons=reasons,
            n=report.n,
            agreement=report.agreement,
            agreement_low=report.agreement_low,
            logit_max=report.logit_max,
            probability_max=report.probability_max,
            flips=len(report.flips),
            critical_flips=len(report.critical_flips),
        )


class Variant(_Frozen):
    """A model file and the precision it runs at."""

    file: FileName
    verdicts: tuple[EngineVerdict, ...]
    usable: bool
    """Some engine passed at export, and nothing above it in the parity chain broke."""


class GoldenSource(_Frozen):
    """Where the golden cells come from: they are patients' cells."""

    path: str
    """Folder or archive, as it was named at export."""
    parts: tuple[str, ...]
    """Parts of the run's split that they were drawn from; `given` for another source."""
    seed: int
    ids: tuple[str, ...]
    """Which cells, in the order of golden.h5."""


class Provenance(_Frozen):
    """How the bundle came to be."""

    run: dict[str, Any]
    """Essentials of the run's own manifest: tune, recipe, seed, metrics, split rule."""
    backbone: dict[str, Any]
    """Source, kind and SHA-256 of the backbone's weights."""
    data: dict[str, Any]
    """Path, kind and fingerprint of the cells it was trained on."""
    acceptance: dict[str, Any]
    """Path, part, number, digest and ids of the cells that the verdicts rest on."""
    golden: GoldenSource
    calibration: dict[str, Any] | None = None
    """Path, part, seed and ids of the cells that calibrated INT8 and showed FP16's ranges."""
    tuning: dict[str, Any] | None = None
    """The same of the cells that decided which nodes stay float."""
    versions: dict[str, str]
    machine: dict[str, Any]
    options: dict[str, Any]
    """What the export was asked for."""
    licence: str
    """Which licence governs the weights, in one sentence."""


class Manifest(_Frozen):
    """The whole of `cytodino.json`."""

    schema_version: int = Field(SCHEMA_VERSION, ge=1)
    seal: Sha256 = UNSEALED
    """SHA-256 of this file's own bytes, computed with zeros in this place."""
    created: datetime
    cytodino_version: str
    classes: Annotated[tuple[str, ...], AfterValidator(_require_classes)]
    image_size: int
    """Side in pixels of the square that crops are resized to inside the graph."""
    preprocessing: Preprocessing
    models: dict[str, ModelFile]
    """ONNX files by precision."""
    files: dict[FileName, FileRecord]
    """Every other file by name: golden cells, parity chain, licence."""
    variants: dict[str, Variant]
    limits: dict[str, Limits]
    """What each variant was judged by."""
    provenance: Provenance

    @property
    def records(self) -> dict[str, FileRecord]:
        """Every file of the bundle but the manifest itself, by name."""
        return {model.file: model for model in self.models.values()} | dict(self.files)


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Write `cytodino.json` with its seal into a bundle's folder, and return its path."""
    path = folder / MANIFEST_NAME
    path.write_bytes(seal(manifest.model_dump(mode="json")))
    return path


def seal(document: dict[str, Any]) -> bytes:
    """Put a manifest's content into the bytes of its file, sealed by their own SHA-256."""
    unsealed = document | {"seal": UNSEALED}
    text = json.dumps(unsealed, indent=2, ensure_ascii=False) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return _SEAL.sub(rf"\g<1>{digest}\g<3>", text, count=1).encode()


def read_manifest(path: Path) -> tuple[Manifest, str]:
    """Read and check `cytodino.json`.

    Returns
    -------
    manifest : Manifest
    sha256 : str
        Of the file, which names the whole bundle: it holds every other file's.

    Raises
    ------
    BundleError
        If it is unreadable, of a newer schema, changed since the export, or not valid.
    """
    again = "export the run again, or copy the bundle again"
    try:
        data = path.read_bytes()
        document = json.loads(data.decode())
    except OSError as error:
        raise BundleError(f"cannot be read ({error.strerror})", where=path, mend=again) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(f"is no JSON: {error}", where=path, mend=again) from error
    _require_schema(document, path)
    if not _seal_holds(data):
        raise BundleError("changed since the export: its seal does not fit", where=path, mend=again)
    try:
        manifest = Manifest.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{field}: {first['msg']}", where=path, mend=again) from error
    return manifest, hashlib.sha256(data).hexdigest()


def _require_schema(document: object, path: Path) -> None:
    version = document.get("schema_version") if isinstance(document, dict) else None
    if not isinstance(version, int):
        raise BundleError("names no schema_version", where=path, mend="name a bundle's folder")
    if version > SCHEMA_VERSION:
        raise BundleError(
            f"has schema {version}, this cytodino reads up to {SCHEMA_VERSION}",
            where=path,
            mend="upgrade: pip install --upgrade cytodino",
        )


def _seal_holds(data: bytes) -> bool:
    text = data.decode()
    found = _SEAL.search(text)
    if found is None:
        return False
    unsealed = _SEAL.sub(rf"\g<1>{UNSEALED}\g<3>", text, count=1)
    return hashlib.sha256(unsealed.encode()).hexdigest() == found[2]
